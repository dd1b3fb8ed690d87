"""`python -m holdfast.stages run KEY` does a stage's work, `finish KEY` judges and publishes it.

Both are started by the supervisor, which says in `HOLDFAST_*` variables where everything is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.core import artifact, files, generations, kind, plugins
from holdfast.core.adopt import fingerprint
from holdfast.core.artifact import Manifest
from holdfast.core.errors import DamagedFile, HoldfastError, NotComplete, Stopped, UserError
from holdfast.core.kind import Kind
from holdfast.core.output import Output, provenance
from holdfast.core.plan import Reader
from holdfast.core.record import Record
from holdfast.core.stage import Ref, short
from holdfast.core.store import ADOPTED, Store
from holdfast.execute import cache

MISTAKE = 2
"""What a person has to mend: another try would meet it again."""
STOPPED = 3
EXTRAS = {"train": "train", "convert": "convert", "evaluate": "evals", "rollouts": "rollouts"}
"""What a kind of ours needs beside the base installation."""


class Work:
    """One attempt at one stage, as its process sees it."""

    def __init__(self, key: str, environ: Mapping[str, str]) -> None:
        self.store = Store(Path(environ["HOLDFAST_ROOT"]))
        self.attempt = int(environ["HOLDFAST_ATTEMPT_NUMBER"])
        self.token = environ["HOLDFAST_ATTEMPT"]
        self.out = Path(environ["HOLDFAST_OUT"])
        self.directory = Path(environ["HOLDFAST_RECORD"])
        self.environ = environ
        self.used = self._read_digests()
        self.record = self._read(key)
        if directory := self.record.placement.get("kind_from"):
            plugins.look_in(str(directory))
        self.kind: Kind = kind.load(self.record.stage.kind)
        self.params = self.kind.parse(self.record.stage.params, self.record.placement)

    def _read(self, key: str) -> Record:
        record = self.store.read(key)
        if record.key != key:
            raise DamagedFile(
                f"stage file does not describe its key: {self.store.stage(key)}: it says {short(record.key)}"
            )
        return record

    def _read_digests(self) -> dict[str, str]:
        """Of the inputs when this attempt began, by home."""
        content = files.read_or_none(self.directory / "inputs.json", "record of inputs")
        return dict(content["digests"]) if content else {}

    def run(self) -> int:
        """Do the work; the exit code is 0, or STOPPED if it saved its state on request."""
        inputs = self._inputs()
        homes = {name: home for name, (home, _) in inputs.items()}
        digests = {name: used["digest"] for name, (_, used) in inputs.items()}
        try:
            self.kind.run(self.params, homes, self._output(digests))
        except Stopped as stopped:
            self._say("stopped", str(stopped))
            return STOPPED
        return 0

    def finish(self) -> int:
        """Judge whether the stage is complete, and publish it if it is."""
        still = self.kind.judge(self.params, self.out, self.directory / "output.log")
        if still:
            self._say("failed", still)
            return 0
        # Trackers write in a home that outlives its attempts, and may do so after it was published.
        shown = artifact.SHOWN if self.kind.exclusive else ()
        loose = (*self.kind.loose_files(self.params), *shown)
        manifest = artifact.seal(self.out, self._description(), loose)
        published = self._publish(manifest)
        self.kind.published(self.params, self.store.home(self.record))
        self._say("complete", "" if published else "another attempt had published the same work first")
        return 0

    def _publish(self, manifest: Manifest) -> bool:
        home = self.store.home(self.record)
        if self.kind.exclusive:
            return artifact.publish_in_place(home, manifest)
        if self.kind.generations:
            return generations.publish(self.out, home, manifest, self.environ.get("HOLDFAST_REPLACES", ""))
        return artifact.publish(self.out, home, manifest)

    def _say(self, outcome: str, reason: str) -> None:
        files.replace(self.directory / "result.json", files.encode({"outcome": outcome, "reason": reason}))

    def _output(self, digests: Mapping[str, str]) -> Output:
        return Output(
            self.out,
            key=self.record.key,
            attempt=self.attempt,
            token=self.token,
            record=self.directory,
            collections=self.store.collections,
            environ=self.environ,
            input_digests=digests,
        )

    def _inputs(self) -> dict[str, tuple[Path, dict[str, str]]]:
        """Each input's directory and what the manifest says of it; its files are there and of the right size.

        Raises:
            NotComplete: an input is not complete, or not any more.
        """
        reader = Reader(self.store)
        return {name: self._input(name, ref, reader) for name, ref in self.record.stage.inputs.items()}

    def _input(self, name: str, ref: Ref, reader: Reader) -> tuple[Path, dict[str, str]]:
        record = reader.record_of(ref)
        if record is None:
            raise NotComplete(f"input {name} is unknown here: {short(ref.key)}")
        home = self.store.home(record) / ref.path
        if record.stage.kind != ADOPTED and kind.load(record.stage.kind).generations:
            cache.note_use(self.store, ref.key)
        if record.stage.kind == ADOPTED:
            return home, {"key": ref.key, "digest": self._check_adopted(name, home, record)}
        manifest = artifact.holds(home, ref.key, ref.path)
        if manifest is None:
            raise NotComplete(f"input {name} is not complete: {home}")
        problems = artifact.verify(home, manifest, digests=False)
        if problems:
            raise NotComplete(f"input {name} is damaged: {home}: {'; '.join(problems[:3])}")
        then = self.used.get(f"{record.home}/{ref.path}" if ref.path else record.home)
        if then is not None and then != manifest.digest:
            raise NotComplete(
                f"input {name} was rebuilt while it was used: {home}: {short(manifest.digest)} now, {short(then)} then"
            )
        return home, {**ref.as_dict(), "digest": manifest.digest}

    def _check_adopted(self, name: str, home: Path, record: Record) -> str:
        planned = str(record.stage.params["fingerprint"])
        only = record.stage.params.get("only", ())
        found = fingerprint(self.store, home, only, remember=True)
        if found != planned:
            raise NotComplete(
                f"input {name} changed since it was planned: {home}: {short(found)} now, {short(planned)} then"
            )
        return planned

    def _description(self) -> dict[str, Any]:
        inputs = {name: used for name, (_, used) in self._inputs().items()}
        stage = self.record.stage
        return {
            "key": self.record.key,
            "kind": stage.kind,
            "version": stage.version,
            "name": self.record.name,
            "attempt": self.attempt,
            **({"generations": True} if self.kind.generations else {}),
            "inputs": inputs,
            "code": {**provenance(), **self.kind.code(self.params)},
        }


def main(arguments: list[str]) -> int:
    verb, key = arguments
    work: Work | None = None
    try:
        work = Work(key, os.environ)
        return work.run() if verb == "run" else work.finish()
    except HoldfastError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE if isinstance(error, UserError) else 1
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(work.record.stage.kind) if work else None
        if extra is None or (error.name or "").startswith("holdfast"):
            raise
        where = f"pip install 'holdfast[{extra}]'"
        print(f"error: {error.name} is not installed where this runs: {where}", file=sys.stderr)
        return MISTAKE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
