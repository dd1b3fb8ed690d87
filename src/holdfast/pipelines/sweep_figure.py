"""The figure of a sweep: the best value of each point over what was swept.

One key: a line. Two: a line for each value of the second. More: a panel for each key, points as dots, means as a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.core.errors import UserError
from holdfast.pipelines import figures
from holdfast.pipelines.sweep_results import Results, Row, varying
from holdfast.sweeps.labels import spell

COLUMNS = 3
LONGEST_TICK = 18


def draw(results: Results, path: Path) -> None:
    """Write the figure as PNG, atomically.

    Raises:
        UserError: no point has a value yet, or matplotlib is not installed.
    """
    scored = [(row, best[1]) for row in results.rows if (best := results.best_of(row))]
    if not scored:
        raise UserError(f"sweep {results.name} has no values to draw yet", f"holdfast status {results.name} --watch")
    keys = varying(results) or list(results.keys)[:1]
    panels = [keys] if len(keys) <= 2 else [[key] for key in keys]
    figure, axes = _canvas(len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, results, scored, panel, dots=len(panels) > 1)
    direction = "lowest" if results.lower_is_better else "highest"
    figure.suptitle(f"{results.name}: {direction} {results.metric} of {len(scored)} points", fontsize=11)
    if path.suffix.lower() != ".png" or not path.parent.is_dir():
        raise UserError(f"the figure cannot go to {path}, expected a file .png in a directory that is there", "x.png")
    figures.save(figure, path)


def _canvas(count: int) -> tuple[Any, list[Any]]:
    columns = 2 if count == 4 else min(count, COLUMNS)
    rows = -(-count // columns)
    size = (7.2, 4.0) if count == 1 else (4.0 * columns, 3.2 * rows)
    figure = figures.empty(size)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for spare in grid[count:]:
        spare.set_visible(False)
    return figure, list(grid[:count])


def _draw_panel(
    axes: Any, results: Results, scored: Sequence[tuple[Row, float]], keys: Sequence[str], *, dots: bool
) -> None:
    places = _places(axes, [row.point.get(keys[0]) for row, _ in scored])
    groups = {spell(row.point.get(keys[1])) if len(keys) > 1 else "": None for row, _ in scored}
    for number, (group, colour) in enumerate(zip(groups, figures.COLOURS * len(groups), strict=False)):
        # Thinner than the one below it, so that lines which coincide are both seen.
        weight = 1.0 + 2.5 * (1 - (number + 1) / len(groups))
        chosen = [
            (places[spell(row.point.get(keys[0]))], value)
            for row, value in scored
            if len(keys) == 1 or spell(row.point.get(keys[1])) == group
        ]
        if dots:
            axes.plot(*zip(*chosen, strict=True), "o", color=colour, alpha=0.35, markersize=4)
        marks = "-" if dots else "o-"
        line = {"color": colour, "linewidth": 1.5 * weight, "markersize": 4 * weight, "label": _shorten(group)}
        axes.plot(*zip(*_means(chosen), strict=True), marks, **line)
    axes.set(xlabel=results.keys[keys[0]], ylabel=results.metric)
    figures.tidy(axes)
    if len(keys) > 1:
        axes.legend(title=results.keys[keys[1]], frameon=False, fontsize=8)


def _means(chosen: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    by_place: dict[float, list[float]] = {}
    for place, value in chosen:
        by_place.setdefault(place, []).append(value)
    return [(place, sum(values) / len(values)) for place, values in sorted(by_place.items())]


def _places(axes: Any, values: Sequence[Any]) -> dict[str, float]:
    """Where each value is on the axis: numbers in place, logarithmic if they span a factor of 8; others in turn."""
    distinct = {spell(value): value for value in values}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct.values()):
        numbers = {text: float(value) for text, value in distinct.items()}
        if min(numbers.values()) > 0 and max(numbers.values()) / min(numbers.values()) >= 8:
            axes.set_xscale("log")
        axes.set_xticks(
            sorted(numbers.values()), [spell(distinct[text]) for text in sorted(numbers, key=numbers.__getitem__)]
        )
        axes.minorticks_off()
        return numbers
    axes.set_xticks(range(len(distinct)), [_shorten(text) for text in distinct])
    axes.set_xmargin(0.2)
    return {text: float(place) for place, text in enumerate(distinct)}


def _shorten(text: str) -> str:
    text = text.rpartition("/")[2] or text
    return text if len(text) <= LONGEST_TICK else f"…{text[1 - LONGEST_TICK :]}"
