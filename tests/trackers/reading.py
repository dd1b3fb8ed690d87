"""Reads back what trackers wrote, with the libraries of those for whom it was written."""

from __future__ import annotations

import csv
import json
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TRAINER = Path(__file__).with_name("trainer.py")


def stage(steps: int, seconds: float, *trackers: str) -> dict[str, Any]:
    """A command stage of the training script, for a plan."""
    command = [sys.executable, str(TRAINER), str(steps), str(seconds)]
    return {"kind": "command", "params": {"command": command}, "trackers": list(trackers)}


def logged(home: Path) -> dict[int, list[float]]:
    """The values of `by` at each step, in the order in which they were logged."""
    found: dict[int, list[float]] = {}
    for line in (home / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["name"] == "by":
            found.setdefault(row["step"], []).append(row["value"])
    return found


def offline_runs(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """History rows of each W&B run id, over all of its offline segments in order."""
    from wandb.proto.wandb_internal_pb2 import Record

    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(directory.glob("wandb/offline-run-*/run-*.wandb")):
        rows = runs.setdefault(path.stem.removeprefix("run-"), [])
        for data in _records(path.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                rows.append({item.nested_key[0]: json.loads(item.value_json) for item in record.history.item})
    return runs


def _records(data: bytes) -> Iterator[bytes]:
    position, pieces = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        crc, size, kind = struct.unpack_from("<IHB", data, position)
        piece = data[position + 7 : position + 7 + size]
        if kind == 0 or len(piece) < size:
            return
        assert zlib.crc32(piece, zlib.crc32(bytes([kind]))) == crc
        position += 7 + size
        pieces = piece if kind in (1, 2) else pieces + piece
        if kind in (1, 4):
            yield pieces


def events(home: Path, tag: str) -> list[tuple[int, float]]:
    """(step, value) of a metric, as TensorBoard shows it."""
    return shown(accumulators(home), tag)


def accumulators(home: Path) -> list[Any]:
    """TensorBoard's two readers in Python, which have read what is in a home: one serves its pages, one is public."""
    from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator

    place = str(home / "tensorboard")
    readers: list[Any] = [
        event_accumulator.EventAccumulator(place, {"scalars": 0}),
        plugin_event_accumulator.EventAccumulator(place, {"tensors": 0}),
    ]
    for reader in readers:
        reader.Reload()
    return readers


def shown(readers: list[Any], tag: str) -> list[tuple[int, float]]:
    """(step, value) of a metric, of which the readers have the same."""
    public, serving = readers
    values = [(event.step, event.value) for event in public.Scalars(tag)]
    assert [(event.step, event.tensor_proto.float_val[0]) for event in serving.Tensors(tag)] == values
    return values


def events_on_disk(home: Path, tag: str) -> list[tuple[int, float]]:
    """(step, value) of a metric, every one that is in a file."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found = []
    for path in sorted((home / "tensorboard").glob("*tfevents*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            found += [(event.step, value.simple_value) for value in event.summary.value if value.tag == tag]
    return found


def table(home: Path) -> list[dict[str, str]]:
    with open(home / "logs" / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))
