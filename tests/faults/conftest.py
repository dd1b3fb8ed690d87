"""The checkpoint that the tests of conversions share, and what becomes of it when nobody disturbs them."""

from __future__ import annotations

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
