"""The files of a root: one property or method per path, so that no path is spelled twice.

<root>/.holdfast/
    stages/<key>/   stage.json  queued/  attempts/  tombstone.json  evicted.json
    homes/<name>    symbolic links from a home to the key that owns it
    jobs/<token>/   job.json  supervisor.pyz  runner.json  ended.json  stop
    collections/<row key>/parts/
    adopted/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from holdfast.core import attempt, files, process
from holdfast.core.errors import DamagedFile, NameTaken, UnreadableFile, UserError
from holdfast.core.job import Scheduler
from holdfast.core.record import Record, differences, encode_record, is_below, read_record
from holdfast.core.stage import short

ADOPTED = "adopted"
LONGEST_NAME = 200
ABANDONED_SECONDS = 600.0
RESERVED = frozenset(
    {"archive", "datasets", "dpo_models", "eval_runs", "evals", "hf_eval_checkpoints"}
    | {"reward_models", "rollouts", "training_runs"}
)


class Store:
    """Reads and writes the files of one root. `scheduler` is asked for what they do not say."""

    def __init__(self, root: Path, scheduler: Scheduler | None = None) -> None:
        self.root = root.absolute()
        self.scheduler = scheduler
        self.inside = self.root / ".holdfast"
        self.stages = self.inside / "stages"
        self.homes = self.inside / "homes"
        self.jobs = self.inside / "jobs"
        self.collections = self.inside / "collections"
        self.adopted = self.inside / "adopted"

    def stage(self, key: str) -> Path:
        return self.stages / key

    def attempts(self, key: str) -> Path:
        return self.stages / key / "attempts"

    def queued(self, key: str) -> Path:
        return self.stages / key / "queued"

    def tombstone(self, key: str) -> Path:
        return self.stages / key / "tombstone.json"

    def eviction(self, key: str) -> Path:
        return self.stages / key / "evicted.json"

    def job(self, token: str) -> Path:
        return self.jobs / token

    def home(self, record: Record) -> Path:
        return self.root / record.home

    def binding(self, home: str) -> Path:
        name = quote(home, safe="=+ ")
        if not name.strip("."):
            name = name.replace(".", "%2E")
        if len(name) > LONGEST_NAME:
            name = f"{name[: LONGEST_NAME - 65]}-{hashlib.sha256(home.encode()).hexdigest()}"
        return self.homes / name

    def prepare(self) -> None:
        """Make the folders of the root.

        Raises:
            UserError: the root cannot be written.
        """
        try:
            for directory in (self.stages, self.homes, self.jobs, self.collections, self.adopted):
                files.make_directories(directory)
        except OSError as error:
            raise UserError(
                f"root cannot be written: {self.root}: {error.strerror}: {error.filename}",
                "choose another one with --root",
            ) from None
        for directory in (self.root, self.stages, self.homes, self.jobs):
            if not os.access(directory, os.W_OK | os.X_OK):
                raise UserError(
                    f"root cannot be written: {directory}: no permission for {process.current().user}",
                    "choose another one with --root",
                )

    def write(self, records: Iterable[Record]) -> None:
        """Write the stages that are not there yet, durably and with one sync however many there are; of those that are,
        how they are run follows the newest submission.

        Raises:
            NameTaken: a home belongs to other work; nothing was written.
        """
        wanted = list(records)
        new = [record for record in wanted if not self._has(record)]
        self.prepare()
        self._bind_all(wanted)
        if not new:
            return
        batch = self.stages / f"{files.TEMPORARY}{files.new_token()}"
        os.mkdir(batch)
        for record in new:
            _write_record(batch / record.key, record)
        files.sync_filesystem(self.stages)
        for record in new:
            self._move_into_place(batch / record.key, record)
        files.fsync_path(self.stages)
        files.discard(batch)

    def _move_into_place(self, written: Path, record: Record) -> None:
        target = self.stage(record.key)
        try:
            os.rename(written, target)
        except OSError:
            # Its directory is there: another submission was first, or the stage file in it was damaged and put aside.
            with contextlib.suppress(FileExistsError):
                files.create(target / "stage.json", encode_record(record))

    def _has(self, record: Record) -> bool:
        """Whether the stage is written. A damaged stage file is set aside, since we know what it must say."""
        try:
            found = self._read_planned(record.key)
        except FileNotFoundError:
            return False
        except DamagedFile:
            files.set_aside(self.stage(record.key) / "stage.json")
            return False
        if error := self._moved(record, found):
            raise error
        if record.placement and dict(found.placement) != json.loads(json.dumps(dict(record.placement))):
            files.replace(
                self.stage(record.key) / "stage.json", encode_record(replace(found, placement=record.placement))
            )
        return True

    def refuse_taken(self, records: Iterable[Record]) -> None:
        """Say what `write` would say; nothing is written.

        Raises:
            NameTaken: homes belong to other work, all of them named.
        """
        found = [error for record in records if (error := self._conflict(record))]
        if len(found) > 1:
            raise NameTaken(f"{found[0]} (and {len(found) - 1} more like it)", found[0].hint)
        if found:
            raise found[0]

    def _conflict(self, record: Record) -> NameTaken | None:
        """Why a stage cannot have its home."""
        owner = self.owner(record.home)
        if owner == record.key:
            return None
        with contextlib.suppress(FileNotFoundError, DamagedFile):
            if error := self._moved(record, self._read_planned(record.key)):
                return error
        if owner and not self._is_given_up(owner, record.home):
            return self.taken(record, owner)
        if os.path.lexists(self.home(record)):
            return NameTaken(
                f"`{record.name}` would go to {self.home(record)}, where files lie that holdfast did not make",
                "choose another name, or move that directory away",
            )
        return None

    def _moved(self, record: Record, found: Record) -> NameTaken | None:
        if found.home == record.home:
            return None
        return NameTaken(
            f"`{record.name}` is the same work as `{found.name}`: at {self.home(found)}, not {self.home(record)}",
            f"use it under that name: holdfast status {found.name}",
        )

    def _bind_all(self, records: Iterable[Record]) -> None:
        made: list[Path] = []
        try:
            for record in records:
                made += self._bind(record)
        except NameTaken:
            for binding in made:
                os.unlink(binding)
            raise

    def _bind(self, record: Record) -> list[Path]:
        """Bind a home to a key; returns the binding if there was none before."""
        binding = self.binding(record.home)
        owner = self.owner(record.home)
        if owner == record.key:
            return []
        if error := self._conflict(record):
            raise error
        if owner:
            return self._take_over(record, owner)
        try:
            os.symlink(record.key, binding)
        except FileExistsError:
            return self._bind(record)
        return [binding]

    def _take_over(self, record: Record, owner: str) -> list[Path]:
        """Bind a home that was given up. Who submits the old work meanwhile looks at the binding once it has its place
        in the queue, and we at the queue once we have the binding: one of us sees the other.
        """
        binding = self.binding(record.home)
        files.point(binding, record.key)
        if self._is_begun(owner) and not self.tombstone(owner).exists():
            files.point(binding, owner)
            raise self.taken(record, owner)
        return []

    def _is_given_up(self, owner: str, home: str) -> bool:
        """Deleted on purpose; planned and never begun; or bound by a submission that died before it wrote the stage."""
        if self.tombstone(owner).exists():
            return True
        is_old = time.time() - self.binding(home).lstat().st_mtime > ABANDONED_SECONDS
        if not self.stage(owner).exists():
            return is_old
        # Without any place in a queue it may be somebody's submission of this moment.
        is_settled = is_old or attempt.newest(self.queued(owner)) is not None
        return is_settled and not self._is_begun(owner) and not os.path.lexists(self.root / home)

    def _is_begun(self, key: str) -> bool:
        """Whether somebody ever started a stage, or it waits in a queue, as far as our files can tell."""
        try:
            place = attempt.newest(self.queued(key))
            return (place is not None and place.ending() is None) or attempt.newest(self.attempts(key)) is not None
        except DamagedFile:
            return True

    def taken(self, record: Record, owner: str) -> NameTaken:
        """The error that the home of `record` belongs to the work with the key `owner`."""
        try:
            difference = differences(self.read(owner).stage, record.stage)
        except (FileNotFoundError, DamagedFile, UnreadableFile):
            difference = f"key {short(owner)}, expected {short(record.key)}"
        return NameTaken(
            f"`{record.name}` is taken by other work at {self.home(record)}: {difference}",
            f"choose another name, or give that work up: holdfast rm {record.name}",
        )

    def owner(self, home: str) -> str | None:
        """The key that a home is bound to."""
        try:
            return os.readlink(self.binding(home))
        except (OSError, ValueError):
            return None

    def read(self, key: str) -> Record:
        """The record of a key.

        Raises:
            FileNotFoundError: there is no such stage.
            DamagedFile, UnreadableFile: its file cannot be believed, or not be read.
        """
        try:
            return self._read_planned(key)
        except FileNotFoundError:
            return read_record(f"{self.adopted}/{key}.json", "adopted input", key)

    def _read_planned(self, key: str) -> Record:
        path = f"{self.stages}/{key}/stage.json"
        record = read_record(path, "stage file", key)
        if not is_below(record.home):
            raise DamagedFile(
                f"stage file is not one of ours: {path}: its home {record.home!r} is not below the root",
                f"look at it: less {path}",
            )
        return record

    def adopt(self, record: Record) -> None:
        """Remember a directory that others made, so that the work that uses it can find it."""
        files.make_directories(self.adopted)
        files.replace(self.adopted / f"{record.key}.json", encode_record(record))

    def author(self, key: str) -> str:
        """Who wrote the file of a stage, by the file system's word."""
        return process.user_name((self.stage(key) / "stage.json").stat().st_uid)

    def list_keys(self) -> list[str]:
        """Every stage of the root."""
        try:
            names = os.listdir(self.stages)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(
                f"root cannot be read: {error.filename}: {error.strerror}", "choose another one with --root"
            ) from None
        return [name for name in names if not name.startswith(".")]

    def records(self) -> Iterator[Record | DamagedFile | UnreadableFile]:
        """Every stage of the root; where a file is damaged or closed to us, the error in its place."""
        for key in self.list_keys():
            try:
                yield self.read(key)
            except (DamagedFile, UnreadableFile) as error:
                yield error
            except FileNotFoundError:
                continue

    def find(self, text: str) -> Record:
        """The stage that a person means: a name, a home, or the beginning of a key.

        Raises:
            UserError: none, or more than one.
        """
        absolute = Path(text).absolute()
        by_home = self.owner(text.strip("/"))
        if by_home is None and absolute.is_relative_to(self.root):
            by_home = self.owner(str(absolute.relative_to(self.root)))
        if by_home:
            with contextlib.suppress(FileNotFoundError):
                return self.read(by_home)
        records = [record for record in self.records() if isinstance(record, Record)]
        found = [record for record in records if text == record.name] or [
            record for record in records if len(text) >= 4 and record.key.startswith(text)
        ]
        if len(found) > 1:
            # Of work that was given up and what took its name, the latter is meant.
            found = [record for record in found if self.owner(record.home) == record.key] or found
        if len(found) == 1:
            return found[0]
        raise self._not_one(text, found, [record.name for record in records])

    def _not_one(self, text: str, found: list[Record], names: list[str]) -> UserError:
        if found:
            return UserError(
                f"`{text}` means {len(found)} stages: {', '.join(short(record.key) for record in found[:5])}",
                "give the key",
            )
        import difflib

        near = difflib.get_close_matches(text, names, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"holdfast status --root {self.root}"
        return UserError(f"no stage is called `{text}` in {self.root}", hint)


def _write_record(directory: Path, record: Record) -> None:
    os.mkdir(directory)
    (directory / "stage.json").write_bytes(encode_record(record))
