"""Questions to columns: which rows, in which order, how they are spread. The rows themselves are not read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from holdfast.rollouts.columns import COUNTED, FIELDS, RETRIED, TWICE, Columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

SORTS = ("file", "prompt", "repeat", "reward", "success", "steps", "tools", "tokens", "length", "seconds", "finished")
MEASURES = ("reward", "steps", "tools", "tokens", "length", "seconds")
"""Columns with a histogram."""
REMEMBERED = 8
FEW = 48
"""So many different values, and each has a bar of its own."""

Sort = Literal[
    "file", "prompt", "repeat", "reward", "success", "steps", "tools", "tokens", "length", "seconds", "finished"
]
Measure = Literal["reward", "steps", "tools", "tokens", "length", "seconds"]


class Filter(BaseModel):
    """Which rows are wanted. Ranges hold both of their ends. By default those that count: no attempt that was made
    again, nothing twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["counted", "graded", "failed", "superseded", "all"] = "counted"
    success: Literal["yes", "no", ""] = ""
    truncated: Literal["yes", "no", ""] = ""
    failure: str = Field("", max_length=200)
    """The type of a failure."""
    prompt: int | None = Field(None, ge=0)
    """The number of a prompt."""
    search: str = Field("", max_length=200)
    """A part of a prompt's id."""
    reward_min: float | None = None
    reward_max: float | None = None
    steps_min: float | None = None
    steps_max: float | None = None
    tools_min: float | None = None
    tools_max: float | None = None
    tokens_min: float | None = None
    tokens_max: float | None = None
    length_min: float | None = None
    length_max: float | None = None
    seconds_min: float | None = None
    seconds_max: float | None = None


class Bar(NamedTuple):
    """`rows` values between `low` and `high`, which are the least and the greatest of them."""

    low: float
    high: float
    rows: int


def mask(columns: Columns, wanted: Filter) -> NDArray[Any]:
    """One truth value a row."""
    import numpy as np

    standing = columns.standing()
    reward, failure = columns.columns("reward", "failure")
    count = min(len(standing), len(reward))
    found = _in_state(standing[:count], failure[:count], reward[:count], wanted.state)
    if wanted.prompt is not None:
        found &= columns.column("prompt")[:count] == wanted.prompt
    if wanted.search:
        found &= np.isin(columns.column("prompt")[:count], columns.prompts.search(wanted.search))
    if wanted.failure:
        names = [columns.failures.text(number) for number in range(len(columns.failures))]
        found &= failure[:count] == (names.index(wanted.failure) if wanted.failure in names else -1)
    for name in ("success", "truncated"):
        if said := getattr(wanted, name):
            found &= columns.column(name)[:count] == (said == "yes")
    for name in MEASURES:
        low, high = getattr(wanted, f"{name}_min"), getattr(wanted, f"{name}_max")
        if low is not None:
            found &= columns.column(name)[:count] >= low
        if high is not None:
            found &= (columns.column(name)[:count] <= high) & _known(columns.column(name)[:count])
    return found


def _in_state(standing: NDArray[Any], failure: NDArray[Any], reward: NDArray[Any], state: str) -> NDArray[Any]:
    import numpy as np

    if state == "all":
        return np.ones(len(standing), dtype=bool)
    if state == "superseded":
        superseded: NDArray[Any] = (standing == RETRIED) | (standing == TWICE)
        return superseded
    counted: NDArray[Any] = standing == COUNTED
    if state == "graded":
        counted &= (failure == 0) & ~np.isnan(reward)
    if state == "failed":
        counted &= failure != 0
    return counted


def _known(values: NDArray[Any]) -> NDArray[Any]:
    """Where a value was said: -1 is nobody's number of steps."""
    import numpy as np

    known: NDArray[Any] = ~np.isnan(values) if values.dtype.kind == "f" else values >= 0
    return known


def order(columns: Columns, wanted: Filter, sort: Sort = "file", *, descending: bool = False) -> NDArray[Any]:
    """The numbers of the rows, sorted; what has no value comes last, and of equal ones the earlier row first."""
    import numpy as np

    rows = np.flatnonzero(mask(columns, wanted)).astype(np.int32)
    if sort == "file":
        return rows[::-1] if descending else rows
    values = columns.column(sort)[rows]
    if sort == "prompt":
        keys = values.astype(np.int64) << 32 | columns.column("repeat")[rows].astype(np.int64)
        return rows[np.argsort(-keys if descending else keys, kind="stable")]
    known = _known(values)
    values = np.where(known, values.astype(np.float64), np.nan)
    return rows[np.argsort(-values if descending else values, kind="stable")]


def histogram(columns: Columns, wanted: Filter, measure: Measure, bins: int = 40) -> list[Bar]:
    """How a measure is spread over the rows; with few different values each has its own bar. Empty bars are left out.

    A filter with a bar's `low` and `high` finds exactly its rows.
    """
    import numpy as np

    found = mask(columns, wanted)
    column = columns.column(measure)[: len(found)]
    values = column[found & _known(column)].astype(np.float64)
    if not len(values):
        return []
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= FEW:
        return [Bar(float(value), float(value), int(count)) for value, count in zip(distinct, counts, strict=True)]
    edges = np.linspace(distinct[0], distinct[-1], bins + 1)
    of_bin = np.clip(np.searchsorted(edges, distinct, side="right") - 1, 0, bins - 1)
    starts = np.flatnonzero(np.diff(of_bin, prepend=-1))
    ends = np.append(starts[1:], len(distinct)) - 1
    sums = np.add.reduceat(counts, starts)
    return [Bar(float(distinct[a]), float(distinct[b]), int(n)) for a, b, n in zip(starts, ends, sums, strict=True)]


class Totals(NamedTuple):
    """Counts over the rows that count; `mean` is None where nothing has a reward."""

    rows: int
    counted: int
    graded: int
    failed: int
    succeeded: int
    prompts: int
    mean: float | None
    failures: dict[str, int]


def totals(columns: Columns) -> Totals:
    """What stands at the head of a page."""
    import numpy as np

    standing = columns.standing()
    reward, failure, success = columns.columns("reward", "failure", "success")
    count = min(len(standing), len(reward))
    counted = standing[:count] == COUNTED
    failed = counted & (failure[:count] != 0)
    graded = counted & (failure[:count] == 0) & ~np.isnan(reward[:count])
    numbers = np.bincount(failure[:count][failed], minlength=1)
    kinds = {columns.failures.text(n): int(times) for n, times in enumerate(numbers) if times and n}
    return Totals(
        rows=count,
        counted=int(counted.sum()),
        graded=int(graded.sum()),
        failed=int(failed.sum()),
        succeeded=int((graded & (success[:count] == 1)).sum()),
        prompts=len(columns.prompts),
        mean=float(reward[:count][graded].mean()) if graded.any() else None,
        failures=dict(sorted(kinds.items(), key=lambda item: -item[1])),
    )


def describe(columns: Columns, rows: NDArray[Any]) -> list[dict[str, Any]]:
    """The scalars of rows, None where nobody said; `n` is the row's number, `prompt` its prompt's, `id` its name."""
    shown = [name for name in FIELDS if name not in ("part", "offset")]
    chosen = {name: columns.column(name)[rows] for name in shown}
    known = {name: _known(values) for name, values in chosen.items()}
    standing = columns.standing()
    found: list[dict[str, Any]] = []
    for place, row in enumerate(rows.tolist()):
        values: dict[str, Any] = {name: chosen[name][place].item() if known[name][place] else None for name in shown}
        values |= {name: None if values[name] is None else bool(values[name]) for name in ("success", "truncated")}
        values |= {"n": row, "id": columns.prompts.text(values["prompt"]), "standing": int(standing[row])}
        found.append(values | {"failure": columns.failures.text(values["failure"]) or None})
    return found


class Orders:
    """Remembers the last few orders, so that turning a page does not sort a million rows again."""

    def __init__(self) -> None:
        self._known: OrderedDict[Any, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, columns: Columns, version: object, wanted: Filter, sort: Sort, *, descending: bool) -> NDArray[Any]:
        """As `order`; `version` names what the columns hold."""
        key = (version, wanted, sort, descending)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = order(columns, wanted, sort, descending=descending)
        with self._lock:
            self._known[key] = found
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found
