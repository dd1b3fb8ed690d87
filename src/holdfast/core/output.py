"""What a running stage writes to: its directory, its metrics, its checkpoints, its rows, and the word to stop."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.core import artifact, files, metric_lines


class Output:
    """The other side of a kind's `run`.

    `path` is the directory to fill. `input_digests` says which contents each input has: equal digests mean equal bytes.
    """

    def __init__(
        self,
        path: Path,
        *,
        key: str,
        attempt: int,
        token: str,
        record: Path,
        collections: Path,
        environ: Mapping[str, str],
        input_digests: Mapping[str, str],
    ) -> None:
        self.path = path
        self.key = key
        self.attempt = attempt
        self.token = token
        self._record = record
        self._collections = collections
        self.input_digests = input_digests
        self._environ = environ
        self._next_progress = 0.0

    def metric(self, step: int, **values: float) -> None:
        """Append one line per value to `metrics.jsonl`: `{step, name, value, time, attempt}`."""
        metric_lines.append_all(self.path / artifact.METRICS, metric_lines.encode(step, values, self.attempt))

    @property
    def record(self) -> Path:
        """Where this attempt is recorded: what it and its services printed; beside it, those before."""
        return self._record

    def progress(self, done: int, total: int, unit: str, **more: Any) -> None:
        """Say how far the work is, and `more` as JSON has it; written at most twice a second."""
        now = time.monotonic()
        if now < self._next_progress and 0 < done < total:
            return
        self._next_progress = now + 0.5
        path = self._record / "progress.json"
        temporary = path.with_name(f"{files.TEMPORARY}{self.token}")
        temporary.write_bytes(files.encode({**more, "done": done, "total": total, "unit": unit}))
        os.replace(temporary, path)

    @contextlib.contextmanager
    def artifact(self, where: str) -> Iterator[Path]:
        """An empty directory to fill; on a clean exit it is published as `path/where`, durably, the first one wins."""
        target = self.path / where
        built = target.parent / f"{files.TEMPORARY}{self.token}-{target.name}"
        files.make_directories(target.parent)
        files.discard(built)
        built.mkdir()
        yield built
        manifest = artifact.seal(built, {"key": self.key, "path": where, "attempt": self.attempt})
        artifact.publish(built, target, manifest)

    def artifacts(self, where: str) -> list[Path]:
        """Published inner artifacts `path/where/*` whose every byte verifies, highest number in the name first.

        A bad one is renamed to `<name>.bad-...` and said so.
        """
        directory = self.path / where
        if not directory.is_dir():
            return []
        names = [entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
        found = [directory / name for name in names if not name.startswith(".") and not files.is_set_aside(name)]
        return sorted(
            (home for home in found if self._verifies(home, f"{where}/{home.name}")), key=_number, reverse=True
        )

    def _verifies(self, home: Path, where: str) -> bool:
        manifest = artifact.holds(home, self.key, where)
        problems = artifact.verify(home, manifest, digests=True) if manifest else ["no valid manifest of this stage"]
        if not problems:
            return True
        aside = files.set_aside(home)
        sys.stderr.write(f"{home} does not verify ({'; '.join(problems[:3])}); set aside as {aside.name}\n")
        return False

    def stop_requested(self, step: int | None = None) -> bool:
        """Whether to save, and raise `Stopped`: somebody asked, or `--stop-after` is reached."""
        limit = self._environ.get("HOLDFAST_STOP_AFTER")
        if limit and step is not None and step >= int(limit):
            return True
        return (self._record / "stop").exists()

    def endpoint(self, service: str) -> str:
        """Base URL of a service of this job, on the first node."""
        return self.endpoints(service)[0]

    def endpoints(self, service: str) -> list[str]:
        """Base URLs of a service of this job, one for each node."""
        return self._environ[f"HOLDFAST_SERVICE_{service.upper()}"].split()

    def parts(self, row_key: str) -> Path:
        """Where all attempts of all stages that share these rows write, each into files of its own."""
        directory = self._collections / row_key / "parts"
        files.make_directories(directory)
        return directory


def _number(home: Path) -> tuple[int, str]:
    digits = re.findall(r"\d+", home.name)
    return (int(digits[-1]) if digits else -1, home.name)


def provenance() -> dict[str, Any]:
    """What the manifest says of the code that did the work: reported, never part of a key."""
    import platform

    from holdfast import __version__

    return {"holdfast": __version__, "python": platform.python_version()}
