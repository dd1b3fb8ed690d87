"""The view of evaluated checkpoints: a table with intervals and paired gains, and a figure with bands.

A view is a pure function of manifests and rows: it is replaced whenever what it shows changes, and nothing depends on
it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core.columns import align
from holdfast.core.record import Record
from holdfast.core.store import Store
from holdfast.evaluation.statistics import Estimate, Rewards, accuracy, paired_gain, pooled_gain
from holdfast.pipelines import figures


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and what it evaluated: `run` is a training run, or None for the model that all runs start from."""

    run: str | None
    step: int
    record: Record


@dataclass(frozen=True)
class Point:
    """`gain` is over the starting model, on the same prompts; None for that model itself."""

    run: str | None
    step: int
    accuracy: Estimate
    gain: Estimate | None


@dataclass(frozen=True)
class Curve:
    """All points, and the gain of the last checkpoints of all runs together."""

    points: tuple[Point, ...]
    final_gain: Estimate


def read(evaluated: Sequence[Evaluated], store: Store) -> Curve:
    """The curve of complete evaluations, of which one is the starting model's.

    Raises:
        StopIteration: the starting model was not evaluated.
    """
    rewards = {each.record.key: _rewards(store.home(each.record)) for each in evaluated}
    base = rewards[next(each.record.key for each in evaluated if each.run is None)]
    points = tuple(_point(each, rewards[each.record.key], base) for each in evaluated)
    last = {each.run: each.record.key for each in sorted(evaluated, key=lambda each: each.step) if each.run is not None}
    return Curve(points, pooled_gain(base, [rewards[key] for key in last.values()]))


def _point(each: Evaluated, rewards: Rewards, base: Rewards) -> Point:
    return Point(each.run, each.step, accuracy(rewards), paired_gain(base, rewards) if each.run else None)


def _rewards(home: Path) -> dict[str, list[float]]:
    rewards: dict[str, list[float]] = {}
    with open(home / "rows.jsonl", encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            rewards.setdefault(row["id"], []).append(row["reward"])
    return rewards


def lines(curve: Curve) -> list[str]:
    """The table as text."""
    rows = [("run", "step", "accuracy", "95% interval", "gain over start", "95% interval")]
    rows += [
        (
            point.run or "start",
            str(point.step),
            f"{point.accuracy.value:.3f}",
            _interval(point.accuracy),
            f"{point.gain.value:+.3f}" if point.gain else "",
            _interval(point.gain, "+") if point.gain else "",
        )
        for point in sorted(curve.points, key=lambda point: (point.run or "", point.step))
    ]
    gain = curve.final_gain
    runs = len({point.run for point in curve.points} - {None})
    says = f"paired gain of {runs} runs at their last step: {gain.value:+.3f}, 95% interval {_interval(gain, '+')}"
    return [*align(rows), "", f"{says}, {gain.n_prompts} prompts"]


def _interval(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.low:{sign}.3f} to {estimate.high:{sign}.3f}"


def draw(curve: Curve, path: Path, title: str, marks: Mapping[int, str]) -> None:
    """Write the figure as PNG, atomically: accuracy over steps, a line and its 95% band for each run.

    `marks` are steps at which something happened, and what.
    """
    figure = figures.empty((7.2, 4.0))
    axes = figure.add_subplot()
    start = next(point for point in curve.points if point.run is None)
    runs = sorted({point.run for point in curve.points if point.run})
    for run, colour in zip(runs, figures.COLOURS * len(runs), strict=False):
        _draw_run(axes, [start, *(point for point in curve.points if point.run == run)], run, colour)
    for step, words in marks.items():
        axes.axvline(step, color="0.4", linestyle=":", linewidth=1)
        axes.annotate(words, (step, 0.97), xytext=(4, 0), textcoords="offset points", color="0.4", fontsize=8, va="top")
    axes.set(xlabel="optimizer step", ylabel="accuracy on held-out problems", ylim=(0, 1), title=title)
    axes.set_xlim(left=0)
    figures.tidy(axes)
    axes.legend(loc="lower right", frameon=False)
    figures.save(figure, path)


def _draw_run(axes: Any, points: Iterable[Point], label: str, colour: str) -> None:
    ordered = sorted(points, key=lambda point: point.step)
    steps = [point.step for point in ordered]
    axes.fill_between(
        steps,
        [point.accuracy.low for point in ordered],
        [point.accuracy.high for point in ordered],
        color=colour,
        alpha=0.18,
        linewidth=0,
    )
    axes.plot(steps, [point.accuracy.value for point in ordered], "o-", color=colour, label=label, markersize=4)
