"""A real checkpoint in many files, the command that converts it, and what it must leave behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.checkpoints.models import make_model, save
from tests.checkpoints.nemo_rl import write_step
from tests.runs import REPOSITORY, claims, environment, hold

from holdfast.core import artifact, files, generations

SHIM = REPOSITORY / "tests" / "faults" / "shim"
FOLDER = "hf_eval_checkpoints"
TIMED = (artifact.MANIFEST, artifact.METRICS)
"""Files that say when they were made."""


def write_checkpoint(directory: Path, seed: int = 1, **sizes: int) -> Path:
    """`step_4` of a NeMo RL run of 3 MB in two dozen files, and the model that it began from beside it."""
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_dcp

    model = make_model(
        "llama", seed=seed, **{"vocab_size": 1024, "hidden_size": 128, "intermediate_size": 512, **sizes}
    )
    base = directory / "base"
    if not base.exists():
        save(model, base)
        (base / "tokenizer_config.json").write_text('{"model_max_length": 64}\n')
        (base / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 1}}}))
    step = write_step(directory / "run", 4, base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process, no group: as it should be here
        writer = FileSystemWriter(step / "policy" / "weights", single_file_per_rank=False)
        save_dcp({"model": model.state_dict()}, storage_writer=writer, no_dist=True)
    return step


def payload(home: Path) -> dict[str, str]:
    """The digest of every file that is the model's."""
    names = [path for path in home.rglob("*") if path.is_file() and path.name not in TIMED]
    return {str(path.relative_to(home)): artifact.digest_of(path) for path in sorted(names)}


@dataclass(frozen=True)
class Site:
    """A root, a checkpoint, and what one types."""

    root: Path
    step: Path

    def type(
        self, *flags: str, code: int | None = 0, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return hold(self.root, "convert", str(self.step), *flags, code=code, env=env)

    @property
    def folder(self) -> Path:
        return self.root / FOLDER

    @property
    def homes(self) -> list[Path]:
        """What counts as a result: no name that begins with a dot does."""
        return [path for path in self.folder.glob("*") if not path.name.startswith(".")] if self.folder.exists() else []

    @property
    def home(self) -> Path:
        (home,) = self.homes
        return home

    def outcomes(self) -> list[str]:
        """How each attempt ended, oldest first."""
        return [str((claim.ending() or {}).get("outcome")) for claim in claims(self.root, self.home.name)]

    def check(self, wanted: Mapping[str, str]) -> None:
        """The one result is whole, verified by its manifest, and has the bytes of an undisturbed conversion."""
        manifest = artifact.read(self.home)
        assert manifest and artifact.verify(self.home, manifest, digests=True) == []
        assert payload(self.home) == wanted

    def clean(self) -> None:
        """`holdfast gc`, two hours later: the result is left, and nothing beside it."""
        age(self.root)
        hold(self.root, "gc", code=0)
        left = {path.name for path in self.folder.iterdir()}
        assert left == {self.home.name, generations.current(self.home)}, left
        assert [path for path in self.root.rglob(".*") if files.is_leftover(path.name)] == []


def retouch(step: Path) -> Path:
    """What a trainer does that saves once more: another file of the same name. Returns which."""
    file = max((step / "policy" / "weights").glob("*.distcp"), key=lambda path: path.stat().st_size)
    new = file.with_name("new")
    shutil.copyfile(file, new)
    new.replace(file)
    return file


def age(root: Path, seconds: float = 7200.0) -> None:
    """As if all of it had happened that long ago."""
    then = time.time() - seconds
    for parent, folders, names in os.walk(root):
        for name in (*folders, *names):
            os.utime(os.path.join(parent, name), (then, then), follow_symlinks=False)


def copy_step(step: Path, directory: Path) -> Path:
    """A checkpoint of one's own, to be harmed; its model stays where it is."""
    shutil.copytree(step, directory / "run" / step.name)
    return directory / "run" / step.name


def shim(root: Path, **variables: str) -> dict[str, str]:
    """Variables that count the boundaries of the processes of a root, and crash one of them there."""
    path = os.pathsep.join([str(SHIM), environment()["PYTHONPATH"]])
    return {"PYTHONPATH": path, "CRASH_ROOT": f"{root}/", **variables}
