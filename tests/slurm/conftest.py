"""The cluster that tests in this directory share: one per session and test worker, started when first asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.evaluations import materials
from tests.slurm.cluster import Cluster, missing_parts, running

__all__ = ["cluster", "materials"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A real SLURM of four nodes. A test that drains a node or stops a daemon puts it right again."""
    reason = missing_parts()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with running() as started:
        yield started
