"""The results of a sweep: for each point its state, and the last and the best value of a metric.

A view: a pure function of manifests, claims and `metrics.jsonl`, made anew whenever somebody looks.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core.artifact import METRICS
from holdfast.core.columns import align
from holdfast.core.errors import UserError, unknown_key
from holdfast.core.plan import IN_FLIGHT, Reader, Standing
from holdfast.core.store import Store
from holdfast.execute.diagnosis import one_line
from holdfast.pipelines import sweeps
from holdfast.sweeps.labels import short_keys, spell

PREFERRED = ("val:accuracy", "accuracy", "val:reward", "reward", "eval_reward", "eval_loss", "loss")
LOWER = re.compile(r"(?i)loss|error|perplexity|(^|[_:/])(kl|ppl|wer)($|[_:/])")

Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Row:
    """One point. `curve` has a metric by step, empty where nothing was written yet."""

    label: str
    point: Mapping[str, Any]
    standing: Standing
    curve: Curve

    @property
    def last(self) -> tuple[int, float] | None:
        return self.curve[-1] if self.curve else None


@dataclass(frozen=True)
class Results:
    """`keys` are the swept keys by the names that people use for them; `metric` is None where there is none at all."""

    name: str
    keys: Mapping[str, str]
    metric: str | None
    lower_is_better: bool
    rows: tuple[Row, ...]

    def best_of(self, row: Row) -> tuple[int, float] | None:
        """Step and value at which a point was best; NaN and infinities are no values."""
        sound = [entry for entry in row.curve if math.isfinite(entry[1])]
        choose = min if self.lower_is_better else max
        return choose(sound, key=lambda entry: entry[1]) if sound else None

    @property
    def best(self) -> Row | None:
        """The point that was best of all."""
        scored = [(found[1], row) for row in self.rows if (found := self.best_of(row))]
        choose = min if self.lower_is_better else max
        return choose(scored, key=lambda each: each[0])[1] if scored else None


def read(store: Store, name: str, metric: str | None = None, *, lower_is_better: bool | None = None) -> Results:
    """The results of the sweep `name`.

    Raises:
        UserError: there is no such sweep, or none of its points has the metric.
    """
    if not sweeps.exists(store, name):
        raise unknown_key(name, sweeps.names(store) or ["none"], f"root {store.root}: it")
    found = sweeps.members(store, name)
    reader = Reader(store)
    reader.remember(member.record for member in found)
    written = {member.record.key: curves(store.home(member.record) / METRICS) for member in found}
    chosen = _choose(metric, written.values())
    lower = bool(chosen and LOWER.search(chosen)) if lower_is_better is None else lower_is_better
    rows = tuple(
        Row(
            member.label, member.point, reader.standing(member.record), written[member.record.key].get(chosen or "", [])
        )
        for member in found
    )
    return Results(name, short_keys(list(dict.fromkeys(key for row in rows for key in row.point))), chosen, lower, rows)


def _choose(metric: str | None, written: Iterable[Mapping[str, Curve]]) -> str | None:
    names = list(dict.fromkeys(name for each in written for name in each))
    if metric is None:
        return next((name for name in PREFERRED if name in names), names[0] if names else None)
    if metric not in names:
        error = unknown_key(metric, names or ["none yet"], "no point of this sweep")
        raise UserError(f"no point of this sweep has the metric `{metric}`", error.hint)
    return metric


def curves(path: Path) -> dict[str, Curve]:
    """Each metric of a `metrics.jsonl` by step. What a later attempt did again replaces what the one before had there;
    torn and foreign lines are passed over.
    """
    found: dict[str, list[tuple[int, float, int]]] = {}
    for row in _rows(path):
        try:
            step, name, value = int(row["step"]), str(row["name"]), float(row["value"])
            attempt = int(row.get("attempt") or 0)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if not name.isprintable():
            continue
        curve = found.setdefault(name, [])
        # Lines without an attempt tell by their step that they were begun again.
        while curve and curve[-1][0] >= step and (curve[-1][2] < attempt or curve[-1][0] == step or not attempt):
            curve.pop()
        curve.append((step, value, attempt))
    return {name: [(step, value) for step, value, _ in curve] for name, curve in found.items()}


def _rows(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def table(results: Results) -> list[list[str]]:
    """Rows of text, the head first: the swept values, state, step, last, best, and at which step it was best."""
    metric = results.metric or "metric"
    head = [*results.keys.values(), "state", "step", metric, "best", "at step"]
    return [head, *(_cells(results, row) for row in results.rows)]


def _cells(results: Results, row: Row) -> list[str]:
    best, last = results.best_of(row), row.last
    values = [spell(row.point[key]) if key in row.point else "" for key in results.keys]
    progress = row.standing.claim.progress() if row.standing.claim else None
    step = str(last[0]) if last else str(progress["done"]) if progress else ""
    numbers = [f"{last[1]:.6g}" if last else "", f"{best[1]:.6g}" if best else "", str(best[0]) if best else ""]
    return [*values, str(row.standing.state), step, *numbers]


def lines(results: Results) -> list[str]:
    """The table for a terminal; the best point has a star, and one that is not complete its reason."""
    star = results.best
    ends = ["", *("*" if row is star else _reason(row.standing) for row in results.rows)]
    rows = [[*cells, end] for cells, end in zip(table(results), ends, strict=True)]
    return align(rows)


def _reason(standing: Standing) -> str:
    return "" if standing.state in IN_FLIGHT else one_line(standing.reason)


def as_csv(results: Results) -> str:
    """The table with full keys, full precision, and the names of points."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    metric = results.metric or "metric"
    writer.writerow(["point", *results.keys, "state", "step", f"last {metric}", f"best {metric}", "best step"])
    for row in results.rows:
        last, best = row.last or ("", ""), results.best_of(row) or ("", "")
        values = [_plain(row.point.get(key)) for key in results.keys]
        writer.writerow([row.standing.record.name, *values, str(row.standing.state), *last, best[1], best[0]])
    return output.getvalue()


def _plain(value: Any) -> str:
    return "" if value is None else spell(value)


def as_rows(results: Results) -> list[dict[str, Any]]:
    """The table as data: `status --json`, with the point and its metric."""
    return [
        {
            **row.standing.as_dict(),
            "point": {key: as_json(value) for key, value in row.point.items()},
            "metric": results.metric,
            "last": _pair(row.last),
            "best": _pair(results.best_of(row)),
        }
        for row in results.rows
    ]


def as_json(value: Any) -> Any:
    """A swept value for a reader of JSON, which has no number for infinity and for what is none: their names."""
    return spell(value) if isinstance(value, float) and not math.isfinite(value) else value


def _pair(entry: tuple[int, float] | None) -> dict[str, float] | None:
    return {"step": entry[0], "value": entry[1]} if entry and math.isfinite(entry[1]) else None


def varying(results: Results) -> Sequence[str]:
    """The swept keys that have more than one value."""
    return [key for key in results.keys if len({spell(row.point.get(key)) for row in results.rows}) > 1]
