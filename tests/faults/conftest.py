"""What tests of conversions share: a checkpoint, and what becomes of it undisturbed; and a small disk."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.conversions import Site, payload, write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`step_4`, which nobody may change."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def wanted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the files of an undisturbed conversion."""
    site = Site(tmp_path_factory.mktemp("undisturbed") / "root", checkpoint)
    site.type()
    found = payload(site.home)
    assert "model.safetensors" in found and "tokenizer.json" in found and "config.json" in found
    return found


@pytest.fixture
def site(checkpoint: Path, tmp_path: Path) -> Site:
    return Site(tmp_path / "root", checkpoint)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
