"""A directory from which `holdfast evaluate` is typed as the document types it: examples, checkpoints, a hub.

What stands there is made once a session: see `tests.stand_ins` for models and data, and `tests.checkpoints.policies`
for the checkpoints, which real processes of torchrun write. Absolute paths of the document lie below the directory.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from tests.checkpoints.policies import write_policies
from tests.launches import copy_examples
from tests.runs import ENTRY, environment
from tests.stand_ins import DATA, Hub, make_model, make_tokenizer, write_weights

BASE = "Qwen/Qwen3-0.6B"
"""What the checkpoints were trained from; like all names of the hub here, a small stand-in."""
HUB = {
    "meta-llama/Llama-3.2-1B-Instruct": "llama",
    "agentica-org/DeepScaleR-1.5B-Preview": "qwen3",
    "Qwen/Qwen2.5-32B": "qwen3",
}
ANSWER, OTHER = 4, 5
"""What the trained model says to every question, and what another run's says."""
SHARES = {ANSWER: 0.5, OTHER: 0.25}
"""How often that is right, of `stand_ins.SUMS`."""
LAYOUTS = {1: ("fsdp",), 2: ("fsdp",), 3: ("plain",), 4: ("fsdp", "mesh")}
STEPS = {
    "results/grpo/step_170": (4, "fsdp", ANSWER, "policy/weights"),
    "results/grpo/final": (1, "fsdp", OTHER, "policy/weights"),
    "path/to/grpo/checkpoint": (3, "plain", ANSWER, "weights"),
    "results/checkpoint": (4, "mesh", ANSWER, "weights"),
}
"""The checkpoints of the document: how many ranks wrote them in which layout, of which model, and where weights lie."""
DCP = "--dcp-ckpt-path results/grpo/step_170/policy/weights/ --dcp-config results/grpo/step_170/config.yaml"


class Command(NamedTuple):
    """A command of the document: what stands behind `python xp/eval_launcher.py`, and what comes of it."""

    name: str
    line: str
    points: int = 1
    scores: float = SHARES[ANSWER]
    asks: tuple[int, ...] = (4,)
    """Responses in all, of each point."""


COMMANDS = [
    Command("basic", "generation.model_name=meta-llama/Llama-3.2-1B-Instruct"),
    Command("checkpoint", DCP),
    Command("force", f"{DCP} --force-conversion"),
    Command("custom path", f"{DCP} --hf-ckpt-path /custom/path/to/hf_checkpoint"),
    Command(
        "multi-node",
        "--nodes 2 --gpus 8 generation.model_name=Qwen/Qwen2.5-32B generation.vllm_cfg.tensor_parallel_size=4",
    ),
    Command("sweep", f"--sweep eval_sweep.yaml {DCP}", 24, asks=(32, 64)),
    Command(
        "custom config",
        "--config examples/configs/eval_custom.yaml generation.model_name=agentica-org/DeepScaleR-1.5B-Preview",
        asks=(16,),
    ),
    Command(
        "additional parameters",
        "generation.model_name=model_path data.dataset_name=HuggingFaceH4/MATH-500 eval.num_tests_per_prompt=16",
        asks=(64,),
    ),
    Command(
        "example 1",
        '--nodes 1 --gpus 8 --time "4:0:0" generation.model_name=agentica-org/DeepScaleR-1.5B-Preview '
        "generation.temperature=0.6 generation.top_p=0.95 generation.vllm_cfg.max_model_len=32768 "
        "data.dataset_name=HuggingFaceH4/MATH-500 data.dataset_key=test eval.num_tests_per_prompt=16",
        asks=(64,),
    ),
    Command(
        "example 2",
        "--dcp-ckpt-path /path/to/grpo/checkpoint/weights/ --dcp-config /path/to/grpo/checkpoint/config.yaml "
        "--nodes 2 --jobname grpo_eval data.dataset_name=openai/gsm8k",
    ),
    Command(
        "example 3",
        "--sweep xp/eval_sweep_example.yaml --dcp-ckpt-path results/checkpoint/weights/ "
        "--dcp-config results/checkpoint/config.yaml",
        4,
        asks=(32,),
    ),
    Command(
        "example 5",
        "--dcp-ckpt-path results/grpo/final/policy/weights/ --dcp-config results/grpo/final/config.yaml "
        "--force-conversion --jobname grpo_final_fresh",
        scores=SHARES[OTHER],
    ),
]
"""Every command of the document that evaluates something; example 3 and 4 are there with `--dry`."""
HERE = ("--executor", "local", "--gpus", "0", "--engine", "transformers", "--wait", "generation.max_new_tokens=32")
"""Added to run a command on this machine: no GPU, no vLLM, and responses that would not end do."""
SHIPPED_FAKE = ("--executor", "local", "--engine", "fake", "--wait")


class Materials:
    """What is the same for all: the hub's cache, and checkpoints by number of ranks and layout."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hub = Hub(directory / "hub")
        self.trained = {answer: make_model("qwen3", answer) for answer in SHARES}
        for answer, model in self.trained.items():
            write_weights(model, directory / f"{answer}.safetensors")
        writer = threading.Thread(target=self.write, args=(4,))
        writer.start()
        for name, kind in HUB.items():
            self.hub.add_model(name, make_model(kind, ANSWER) if kind == "llama" else self.trained[ANSWER])
        self.hub.add_model(BASE, make_model("qwen3"))
        for name in DATA:
            self.hub.add_data(name)
        writer.join()

    def write(self, ranks: int) -> None:
        """Have so many ranks write all that they can."""
        wanted = [(layout, answer) for layout in LAYOUTS[ranks] for answer in SHARES]
        files = [(self.directory / f"{answer}.safetensors", layout, answer) for layout, answer in wanted]
        write_policies(ranks, [(file, layout, self._place(ranks, layout, answer)) for file, layout, answer in files])

    def write_all(self) -> None:
        """Have every number of ranks write, side by side."""
        owed = [ranks for ranks in LAYOUTS if not self._place(ranks, LAYOUTS[ranks][0], ANSWER).exists()]
        writers = [threading.Thread(target=self.write, args=(ranks,)) for ranks in owed]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()

    def checkpoint(self, ranks: int, layout: str, answer: int = ANSWER) -> Path:
        """A DCP that so many ranks wrote, made when it is first asked for."""
        place = self._place(ranks, layout, answer)
        if not place.exists():
            self.write(ranks)
        return place

    def _place(self, ranks: int, layout: str, answer: int) -> Path:
        return self.directory / f"{layout}-{ranks}-{answer}"


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Materials]:
    yield Materials(tmp_path_factory.mktemp("materials"))


class Desk:
    """Where one test types, with these variables besides. `root` is what the variable LOG makes it; a checkpoint is put
    where a line names it. With `any_ranks` it does not matter how many wrote it.
    """

    def __init__(
        self, directory: Path, materials: Materials, *, any_ranks: bool = False, more: Mapping[str, str] | None = None
    ) -> None:
        self.more = more or {}
        self.any_ranks = any_ranks
        self.directory = directory
        self.materials = materials
        self.root = directory / "log" / "nemo-rl"
        copy_examples(directory)
        (directory / "xp").mkdir()
        shutil.copy(directory / "examples" / "eval_sweep_example.yaml", directory / "xp")
        self.words(DCP)
        shutil.copytree(self.model("agentica-org/DeepScaleR-1.5B-Preview"), directory / "model_path")

    def put_step(
        self, where: str, ranks: int, layout: str, answer: int = ANSWER, weights: str = "policy/weights"
    ) -> Path:
        """A step as NeMo RL leaves it: weights, config, state, and beside `policy/weights` the tokenizer."""
        step = self.directory / where
        shutil.rmtree(step, ignore_errors=True)
        shutil.copytree(self.materials.checkpoint(ranks, layout, answer), step / weights)
        policy = {
            "model_name": BASE,
            "tokenizer": {"name": BASE, "chat_template": "default"},
            "hf_config_overrides": {"max_position_embeddings": 2048},
        }
        (step / "config.yaml").write_text(yaml.safe_dump({"policy": policy}))
        (step / "training_info.json").write_text(json.dumps({"current_step": 170}))
        if weights == "policy/weights":
            make_tokenizer().save_pretrained(step / "policy" / "tokenizer")
        return step / weights

    def model(self, name: str) -> Path:
        """The snapshot of a model in the hub's cache."""
        (found,) = self.materials.hub.home.glob(f"hub/models--{name.replace('/', '--')}/snapshots/*")
        return found

    def type(self, line: str, *more: str, code: int | None = 0, **changes: str) -> subprocess.CompletedProcess[str]:
        """`holdfast LINE`, as in a shell where the document's variables are set."""
        done = subprocess.run(
            [sys.executable, "-c", ENTRY, *self.words(line), *more],
            cwd=self.directory,
            env=self.variables(**changes),
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert code is None or done.returncode == code, (line, more, done.returncode, done.stdout, done.stderr)
        return done

    def start(self, line: str, *more: str) -> subprocess.Popen[str]:
        """The same, and go on."""
        return subprocess.Popen(
            [sys.executable, "-c", ENTRY, *self.words(line), *more],
            cwd=self.directory,
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def words(self, line: str) -> list[str]:
        """The words of a line, absolute paths of the document below this directory, and there what they name."""
        for where, (ranks, layout, answer, weights) in STEPS.items():
            if where in line and not (self.directory / where).exists():
                made = (4, "fsdp") if self.any_ranks else (ranks, layout)
                self.put_step(where, *made, answer, weights)
        return [re.sub(r"^/(?=custom/|path/)", f"{self.directory}/", word) for word in shlex.split(line)]

    def variables(self, **changes: str) -> dict[str, str]:
        places = {"LOG": self.directory / "log", "CON": self.directory / "images", "HF_HOME": self.materials.hub.home}
        here = {name: str(place) for name, place in places.items()}
        said = {"ACCOUNT": "team", "HF_HUB_OFFLINE": "1", "HOLDFAST_GPUS": "", **self.more, **changes}
        return environment(**{**here, **said})

    def planned(self, line: str, *more: str) -> list[dict[str, Any]]:
        """What a dry run says of each stage."""
        found = json.loads(self.type(line, "--dry", "--json", *more).stdout)
        return [dict(each) for each in found]

    def standings(self) -> list[dict[str, Any]]:
        return [dict(each) for each in json.loads(self.type("status --json", code=None).stdout)]

    def metrics(self, home: str) -> dict[str, Any]:
        return dict(json.loads((self.root / home / "metrics.json").read_text()))

    def accuracy(self, home: str) -> float:
        return next(float(each["value"]) for each in self.metrics(home)["metrics"] if each["name"] == "accuracy")

    def rows(self, home: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / home / "rows.jsonl").read_text().splitlines()]

    def converted(self) -> list[Path]:
        """The checkpoints in the cache, without what belongs to their making."""
        return sorted(path for path in self.root.glob("hf_eval_checkpoints/*") if not path.name.startswith("."))

    def jobs(self) -> list[Path]:
        return sorted(self.root.glob(".holdfast/jobs/*"), key=os.path.getmtime)
