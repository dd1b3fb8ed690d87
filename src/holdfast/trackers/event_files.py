"""TensorBoard event files under the home's `tensorboard/`, written with TensorBoard's own record writer, without torch.

Each process writes a file of its own. What is in one beyond the size on record, or in one that is not on record, was
never proven: it is cut off before anything is written again. An attempt that goes back behind a step writes that step
again, and TensorBoard shows the newer value; when the work has ended, files in which that happened are replaced by one
that holds each step once.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, BinaryIO

from holdfast.core import files
from holdfast.core.errors import ConfigError
from holdfast.trackers import Mark, Row, Subject, Tracker
from holdfast.trackers.lines import Table

PLACE = "tensorboard"
OURS = ".holdfast"
VERSION = "brain.Event:1"
"""Of version 1, TensorBoard drops what it has of a metric from the step on to which a later event goes back; of
version 2 it wants to be told, and then drops all metrics alike."""
HIGHEST = 2**63 - 1


class EventFiles(Tracker):
    """`state` holds the size in bytes of each file, and whether a step is in them twice."""

    def __init__(self, subject: Subject, environ: Mapping[str, str]) -> None:
        self.directory = subject.home / PLACE
        self.sizes: dict[str, int] = {}
        self.twice = False
        self.end = 0
        self.file: _EventFile | None = None

    def open(self, mark: Mark, generation: int) -> int:
        _require()
        files.make_directories(self.directory)
        self.sizes = dict(mark.state.get("files", {}))
        self.twice = bool(mark.state.get("twice"))
        if not self._is_all_there():
            self.sizes, self.twice, mark = {}, False, Mark()
        for path in self._found():
            if path.name not in self.sizes:
                path.unlink()
            elif path.stat().st_size > self.sizes[path.name]:
                os.truncate(path, self.sizes[path.name])
        self.end = mark.lines
        return mark.lines

    def write(self, row: Row) -> None:
        if self.file is None:
            self.file = _EventFile(self.directory, sorted(self.sizes))
        again = row.values.keys() - row.first
        self.file.add(row.step, row.time, row.values, again)
        self.twice = self.twice or bool(again)
        self.end = row.end

    def flush(self) -> Mark | None:
        if self.file:
            self.sizes[self.file.path.name] = self.file.sync()
        return Mark(self.end, {"files": dict(self.sizes), "twice": self.twice})

    def close(self, rows: Callable[[], Iterator[Row]], code: int) -> Mark | None:
        self.flush()
        if self.file:
            self.file.close()
            self.file = None
        if self.twice:
            self._rewrite(rows())
        return self.flush()

    def _found(self) -> list[Path]:
        return [path for path in self.directory.iterdir() if path.name.endswith(OURS) and "tfevents" in path.name]

    def _is_all_there(self) -> bool:
        paths = {path.name: path.stat().st_size for path in self._found()}
        return all(paths.get(name, -1) >= size for name, size in self.sizes.items())

    def _rewrite(self, rows: Iterator[Row]) -> None:
        """One file in place of all, each step of a metric once. A crash in between is noticed by `open`."""
        table = Table()
        for row in rows:
            table.add(row)
        new = _EventFile(self.directory, sorted(self.sizes))
        for step, values in table.by_step().items():
            moments: dict[float | None, dict[str, float]] = {}
            for name, (value, when) in values.items():
                moments.setdefault(when, {})[name] = value
            for when, group in moments.items():
                new.add(step, when, group, group.keys())
        size = new.sync()
        new.close()
        for path in self._found():
            if path != new.path:
                path.unlink()
        files.fsync_path(self.directory)
        self.sizes, self.twice = {new.path.name: size}, False


class _EventFile:
    """One event file; its name sorts behind those in `before`, since TensorBoard reads them in that order.

    A value takes the place of those that TensorBoard has from its step on only where it comes right after a higher
    step, be it of another metric. Where a metric goes back, an event without values pretends such a step.
    """

    def __init__(self, directory: Path, before: list[str]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.path = directory / _name(before)
        self.raw: BinaryIO = open(self.path, "xb")  # noqa: SIM115 (closed by `close`)
        self.records = RecordWriter(self.raw)
        self.records.write(Event(wall_time=time.time(), file_version=VERSION).SerializeToString())
        self.latest: dict[str, int] = {}

    def add(self, step: int, when: float | None, values: Mapping[str, float], again: Set[str]) -> None:
        """`again` are the names of which there is a value at this step or behind it, in this file or before."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars: list[Any] = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        moment = time.time() if when is None else when
        events = [Event(wall_time=moment, step=step, summary=Summary(value=scalars))]
        if any(self.latest.get(name, step) >= step for name in again):
            # One of TensorBoard's readers heeds a step without a summary, another does not: it is led back by the value
            # itself, while the first would go on to search all that it has at every event.
            events.insert(0, Event(wall_time=moment, step=HIGHEST, summary=Summary()))
            events.append(Event(wall_time=moment, step=step))
        for event in events:
            self.records.write(event.SerializeToString())
        self.latest.update(dict.fromkeys(values, step))

    def sync(self) -> int:
        """Wait until all is on disk; returns the size in bytes."""
        self.raw.flush()
        os.fsync(self.raw.fileno())
        return self.raw.tell()

    def close(self) -> None:
        self.raw.close()


def _name(before: list[str]) -> str:
    last = max((int(name.split(".")[3]) for name in before), default=0)
    return f"events.out.tfevents.{max(int(time.time()), last + 1):010d}.{socket.gethostname()}.{os.getpid()}.0{OURS}"


def _require() -> None:
    try:
        import tensorboard.compat.proto.event_pb2  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"tracker tensorboard needs the package tensorboard: {error}", "pip install 'holdfast[tensorboard]'"
        ) from None
