"""Runs the life of an RL post-training experiment so that finished work is never lost, repeated or half-believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import SupportsFloat, SupportsIndex

__version__ = "0.1.0"


def log(values: Mapping[str, SupportsFloat] | None = None, /, *, step: SupportsIndex, **named: SupportsFloat) -> None:
    """Log metrics of one step from any program that Holdfast runs: `holdfast.log(step=3, loss=0.1)`.

    Names that are no Python identifiers go into a mapping: `holdfast.log({"val/reward": 0.7}, step=3)`. A step that is
    logged again, by a resumed attempt say, replaces what was logged of it before. Outside of a stage nothing happens.

    Raises:
        TypeError: the step is no whole number, or a value no number.
    """
    from holdfast.core import metric_lines

    metric_lines.log({**(values or {}), **named}, step)
