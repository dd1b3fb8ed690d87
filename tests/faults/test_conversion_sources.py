"""A checkpoint that is harmed, or changes under the reader: one line that names the file, nothing under the final name,
and the same command works once the checkpoint is sound.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.conversions import Site, copy_step, retouch, shim
from tests.faults.test_conversion_at_once import STOPS, stopped
from tests.runs import start

from holdfast.core import files

pytestmark = [pytest.mark.train, pytest.mark.slow]
WEIGHTS = Path("policy/weights")


def largest(step: Path) -> Path:
    return max((step / WEIGHTS).glob("*.distcp"), key=lambda path: (path.stat().st_size, path.name))


def flip(path: Path, place: float) -> None:
    """One bit, that far into the file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    path.write_bytes(data)


def vanish(step: Path) -> Path:
    shutil.rmtree(step / WEIGHTS)
    return step / WEIGHTS


def truncate(step: Path) -> Path:
    file = largest(step)
    os.truncate(file, file.stat().st_size // 3)
    return file


def overwrite(step: Path) -> Path:
    """In place, and with its time set back."""
    file = largest(step)
    before = file.stat()
    flip(file, 0.5)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return file


def check_refused(site: Site, told: str, named: Path) -> None:
    """One line says it and names the file; no result, and no half of one."""
    lines = [line for line in told.splitlines() if str(named) in line]
    assert lines, told
    assert "Traceback" not in told
    assert site.homes == []
    left = site.folder.iterdir() if site.folder.exists() else iter(())
    assert [path.name for path in left if not files.is_leftover(path.name)] == []


@pytest.mark.parametrize("harm", [retouch, truncate, overwrite, vanish])
def test_checkpoint_that_changes_while_it_is_read_fails_the_conversion(
    harm: Callable[[Path], Path], checkpoint: Path, tmp_path: Path, wanted: dict[str, str]
) -> None:
    site = Site(tmp_path / "root", copy_step(checkpoint, tmp_path))
    crash = shim(site.root, CRASH_ONCE=str(tmp_path / "once"), **STOPS)
    command = start(site.root, "convert", str(site.step), **crash)
    _, converter = stopped(site)
    named = harm(site.step)
    os.kill(converter, signal.SIGCONT)
    told, complaint = command.communicate(timeout=60)
    assert command.returncode == 1, (told, complaint)
    check_refused(site, told, named)
    shutil.rmtree(site.step)
    copy_step(checkpoint, tmp_path)
    site.type()
    site.check(wanted)


def base_of(checkpoint: Path) -> Path:
    return checkpoint.parents[1] / "base"


@pytest.mark.parametrize("how", ["missing", "empty", "flipped"])
@pytest.mark.parametrize("which", [".metadata", "*.distcp", "config.yaml", "config.json"])
def test_harmed_file_is_named_and_nothing_is_published(
    which: str, how: str, checkpoint: Path, tmp_path: Path, wanted: dict[str, str]
) -> None:
    site = Site(tmp_path / "root", copy_step(checkpoint, tmp_path))
    shutil.copytree(base_of(checkpoint), tmp_path / "base")
    config = site.step / "config.yaml"
    config.write_text(config.read_text().replace(str(base_of(checkpoint)), str(tmp_path / "base")))
    files_by_kind = {
        ".metadata": site.step / WEIGHTS / ".metadata",
        "*.distcp": largest(site.step),
        "config.yaml": config,
        "config.json": tmp_path / "base" / "config.json",
    }
    file = files_by_kind[which]
    sound = file.read_bytes()
    harm_file(file, how)
    done = site.type(code=None)
    assert done.returncode in (1, 2), (done.stdout, done.stderr)
    named = file if (how, which) not in PARENTS else file.parent
    check_refused(site, done.stdout + done.stderr, named)
    file.write_bytes(sound)
    site.type()
    site.check(wanted)


PARENTS = {("missing", ".metadata"), ("missing", "config.yaml"), ("missing", "config.json")}
"""Where what is not there is not missed by its name: without it, the directory is something else."""


def harm_file(file: Path, how: str) -> None:
    if how == "missing":
        file.unlink()
    elif how == "empty":
        file.write_bytes(b"")
    elif file.suffix == ".distcp":
        flip(file, 0.5)
    elif file.name == ".metadata":
        flip(file, 0.2)
    else:
        file.write_bytes(file.read_bytes().replace(b":", b"\x1a", 1))
