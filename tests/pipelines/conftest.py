"""What evaluations are typed against, for every test of this directory."""

from __future__ import annotations

from tests.evaluations import materials

__all__ = ["materials"]
