"""What the figures of all views share: an empty one, its look, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.core import files
from holdfast.core.errors import UserError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette, told apart by colour-blind readers too."""


def empty(size: tuple[float, float]) -> Any:
    """A figure of this width and height in inches.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("figures need matplotlib, which is not installed", "pip install 'holdfast[evals]'") from None
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Any) -> None:
    """A faint grid, and no frame above or to the right."""
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Any, path: Path) -> None:
    """Write it as PNG, atomically."""
    temporary = path.with_name(f"{files.TEMPORARY}{files.new_token()}.png")
    figure.savefig(temporary)
    temporary.replace(path)
