"""Asking the disk to begin is a hint: it costs nothing that is not given back, and never the conversion."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest
from tests.runs import wait_until

from holdfast.checkpoints import disk


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "holdfast-flush"]


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_files_may_be_closed_and_deleted_before_the_disk_begins(tmp_path: Path) -> None:
    before = open_descriptors()
    with disk.Flusher() as flusher:
        for number in range(2 * disk.MOST_ASKED):
            path = tmp_path / str(number)
            with open(path, "wb") as file:
                file.write(b"weights")
                file.flush()
                flusher.begin(file.fileno(), 0, 7)
            path.unlink()
    wait_until(lambda: not threads() and open_descriptors() == before)


def test_what_was_asked_for_before_an_error_is_given_back(tmp_path: Path) -> None:
    before = open_descriptors()
    path = tmp_path / "weights"
    with pytest.raises(ValueError, match="damaged"), open(path, "wb") as file, disk.Flusher() as flusher:
        for _ in range(100):
            flusher.begin(file.fileno(), 0, 7)
        raise ValueError("damaged")
    wait_until(lambda: not threads() and open_descriptors() == before)


def test_files_are_written_where_no_descriptor_is_left(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(tmp_path / "weights", "wb") as file, disk.Flusher() as flusher:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1, limits[1]))
        try:
            file.write(b"weights")
            flusher.begin(file.fileno(), 0, 7)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (tmp_path / "weights").read_bytes() == b"weights"
