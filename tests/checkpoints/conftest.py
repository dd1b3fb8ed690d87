"""The real checkpoints of `real_dcp`, for every test of this directory."""

from __future__ import annotations

from tests.checkpoints.real_dcp import real_dcp

__all__ = ["real_dcp"]
