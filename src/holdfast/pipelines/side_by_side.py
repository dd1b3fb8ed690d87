"""The view of evaluations beside each other: each against the first, by prompt, and what else differs between them.

A pure function of `rows.jsonl` and `metrics.json`, as they were published here or elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import artifact, files
from holdfast.core.columns import align
from holdfast.core.errors import UserError
from holdfast.core.leaves import leaves
from holdfast.core.record import Record
from holdfast.core.store import Store
from holdfast.evaluation.comparison import Difference, holm, paired_difference
from holdfast.evaluation.intervals import mean_interval
from holdfast.evaluation.metrics import ACCURACY, Responses, is_trials, prompt_values
from holdfast.evaluation.report import spell
from holdfast.rollouts.collection import Row

ROWS, METRICS = "rows.jsonl", "metrics.json"
SURE = 0.05
COMPARED = {"model", "step", "run", "checkpoint"}
"""What of an identity is what one compares, and no surprise."""
SAME = {"environment", "environment_version", "version", "dataset", "verifier"}
"""What must be the same: rewards on other data, or by another rule, are no difference between models."""
SAME_SETTINGS = {"revision", "digest", "subset", "problem_key", "solution_key", "choices", "verifier"}


@dataclass(frozen=True)
class Evaluation:
    """One published evaluation; `identity` is flat, with dotted keys."""

    name: str
    home: Path
    step: int | None
    responses: Responses
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """B against A. `p` holds for all pairs of the view at once (Holm)."""

    a: Evaluation
    b: Evaluation
    difference: Difference
    p: float
    differs: Mapping[str, tuple[Any, Any]]
    only_in_a: int
    only_in_b: int

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `none` of B: the interval is on one side of 0, and so is it with the other pairs in
        mind.
        """
        if self.p >= SURE or self.difference.low <= 0 <= self.difference.high:
            return "none"
        return "better" if self.difference.value > 0 else "worse"


@dataclass(frozen=True)
class View:
    """All evaluations with their own value of the metric, and each but the first against the first."""

    metric: str
    evaluations: tuple[Evaluation, ...]
    measures: tuple[Mapping[str, Any], ...]
    pairs: tuple[Pair, ...]
    in_points: bool


def read(text: str, store: Store) -> Evaluation:
    """The evaluation that a person means: a directory, or a name, home or key of the root.

    Raises:
        UserError: there is none, it is not complete, or its rows cannot be read.
    """
    directory = Path(text).expanduser()
    if (directory / ROWS).is_file():
        return _load(text.rstrip("/"), directory.absolute())
    record = store.find(text)
    home = store.home(record)
    _check(record, home)
    return _load(record.name, home)


def _check(record: Record, home: Path) -> None:
    if not artifact.holds(home, record.key):
        raise UserError(f"`{record.name}` is not complete, and says nothing yet", f"holdfast status {record.name}")
    if not (home / ROWS).is_file():
        raise UserError(
            f"`{record.name}` is no evaluation: it is of kind {record.stage.kind}, and has no {ROWS}",
            "name stages of kind evaluate: holdfast status",
        )


def _load(name: str, home: Path) -> Evaluation:
    responses: dict[str, dict[int, Row]] = {}
    for row in _rows(home / ROWS):
        responses.setdefault(row["id"], {}).setdefault(row["repeat"], row)
    if not responses:
        raise UserError(f"`{name}` has no responses: {home / ROWS}", "name another evaluation")
    content = files.read_or_none(home / METRICS, "metrics") or {}
    by_prompt = {prompt: [found[repeat] for repeat in sorted(found)] for prompt, found in responses.items()}
    return Evaluation(name, home, content.get("step"), by_prompt, leaves(content.get("identity") or {}))


def _rows(path: Path) -> Iterator[Row]:
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                if "error" in row:
                    continue
                sound = isinstance(row["id"], str) and math.isfinite(row["reward"]) and row["repeat"] >= 0
            except (ValueError, KeyError, TypeError, RecursionError):
                sound = False
            if not sound:
                raise UserError(f"line {number} of {path} is no row of an evaluation", f"look at it: less {path}")
            yield row


def compare(evaluations: Sequence[Evaluation], metric: str = ACCURACY, *, force: bool = False) -> View:
    """Each but the first against the first.

    Raises:
        UserError: they have no prompt in common, or too few responses for the metric; or their data or verifiers differ
            and nobody forced it.
    """
    base = evaluations[0]
    measures = tuple(_measure(metric, each) for each in evaluations)
    differing = [_differences(base, each) for each in evaluations[1:]]
    if not force:
        for each, differs in zip(evaluations[1:], differing, strict=True):
            _refuse(base, each, differs)
    found = [_difference(metric, base, each) for each in evaluations[1:]]
    adjusted = holm([each.p for each in found])
    pairs = tuple(
        Pair(base, each, difference, p, differs, *_alone(base, each))
        for each, difference, p, differs in zip(evaluations[1:], found, adjusted, differing, strict=True)
    )
    shares = all(0 <= row["reward"] <= 1 for each in evaluations for rows in each.responses.values() for row in rows)
    return View(metric, tuple(evaluations), measures, pairs, shares)


def _measure(metric: str, evaluation: Evaluation) -> Mapping[str, Any]:
    """Of one evaluation alone, by what a login node has: no resampling."""
    values, _ = prompt_values(metric, evaluation.responses)
    if not values:
        repeats = max(map(len, evaluation.responses.values()))
        raise UserError(
            f"no prompt of `{evaluation.name}` has enough responses for {metric}: it has {repeats} to a prompt",
            "a smaller K, or more repeats",
        )
    trials = metric == ACCURACY and is_trials(evaluation.responses)
    return mean_interval(list(values.values()), trials=trials).as_json()


def _difference(metric: str, base: Evaluation, other: Evaluation) -> Difference:
    (before, _), (after, _) = prompt_values(metric, base.responses), prompt_values(metric, other.responses)
    if not before.keys() & after.keys():
        raise UserError(
            f"`{base.name}` and `{other.name}` have no prompt in common: there is nothing to pair",
            "compare evaluations of the same data",
        )
    trials = metric == ACCURACY and is_trials(base.responses) and is_trials(other.responses)
    return paired_difference(before, after, trials=trials)


def _alone(base: Evaluation, other: Evaluation) -> tuple[int, int]:
    return len(base.responses.keys() - other.responses.keys()), len(other.responses.keys() - base.responses.keys())


def _differences(base: Evaluation, other: Evaluation) -> dict[str, tuple[Any, Any]]:
    keys = [*base.identity, *(key for key in other.identity if key not in base.identity)]
    pairs = {key: (base.identity.get(key), other.identity.get(key)) for key in keys}
    return {
        key: pair for key, pair in pairs.items() if pair[0] != pair[1] and _head(key).partition(".")[0] not in COMPARED
    }


def _head(key: str) -> str:
    """`dataset.revision` for `environment.dataset.revision`."""
    return key.removeprefix("environment.")


def _must_agree(key: str, identity: Mapping[str, Any]) -> bool:
    first, _, rest = _head(key).partition(".")
    if first != "settings":
        return first in SAME
    knows_contents = any(_head(each).startswith("dataset.") for each in identity)
    return rest in SAME_SETTINGS or (rest == "name" and not knows_contents)


def _refuse(base: Evaluation, other: Evaluation, differs: Mapping[str, tuple[Any, Any]]) -> None:
    wrong = {key: pair for key, pair in differs.items() if _must_agree(key, base.identity)}
    if wrong:
        told = "; ".join(f"{key} is {left!r} and {right!r}" for key, (left, right) in wrong.items())
        raise UserError(
            f"`{base.name}` and `{other.name}` are not of the same data, or not graded alike: {told}",
            "--force compares them all the same, on the prompts of the same id",
        )


def notes(view: View) -> list[str]:
    """What a person must know beside the numbers."""
    found = []
    for pair in view.pairs:
        names = f"`{pair.a.name}` and `{pair.b.name}`"
        found += [f"{names} differ in {key}: {left!r} and {right!r}" for key, (left, right) in pair.differs.items()]
        if pair.only_in_a or pair.only_in_b:
            found.append(
                f"{pair.only_in_a} prompts are only in `{pair.a.name}`, {pair.only_in_b} only in `{pair.b.name}`: "
                "they do not count"
            )
        if not (pair.a.identity and pair.b.identity):
            found.append(f"nobody knows whether {names} were asked and graded alike: no identity in {METRICS}")
    return found


def lines(view: View) -> list[str]:
    """The table, and below it each comparison in words."""
    rows = [("", "step", "prompts", "responses", view.metric, "95% interval")]
    for each, found in zip(view.evaluations, view.measures, strict=True):
        count = sum(map(len, each.responses.values()))
        step = "" if each.step is None else str(each.step)
        rows.append((each.name, step, str(found["n_prompts"]), str(count), *spell(found)))
    return [*align(rows), "", *(_words(pair, view) for pair in view.pairs)]


def _words(pair: Pair, view: View) -> str:
    found = pair.difference
    scale, unit = (100, " points") if view.in_points else (1, "")
    value, low, high = (scale * each for each in (found.value, found.low, found.high))
    prompts = f"{found.n_prompts} prompts"
    several = f", p {pair.p:.2g} for {len(view.pairs)} comparisons at once" if len(view.pairs) > 1 else ""
    if pair.verdict == "none":
        return (
            f"no difference shown between {pair.a.name} and {pair.b.name}: {value:+.1f}{unit}, 95% interval "
            f"{low:+.1f} to {high:+.1f}, {prompts}{several}; "
            f"{scale * found.detectable:.1f}{unit} would have been seen 4 times of 5"
        )
    if pair.verdict == "worse":
        value, low, high = -value, -high, -low
    interval = f"95% interval {low:.1f} to {high:.1f}"
    return f"{pair.b.name} is {pair.verdict} than {pair.a.name} by {value:.1f}{unit}, {interval}, {prompts}{several}"


def as_json(view: View) -> dict[str, Any]:
    """The view as data; differences are B - A in the metric's own unit."""
    return {
        "metric": view.metric,
        "evaluations": [
            {"name": each.name, "home": str(each.home), "step": each.step, **found}
            for each, found in zip(view.evaluations, view.measures, strict=True)
        ],
        "comparisons": [
            {
                "a": pair.a.name,
                "b": pair.b.name,
                **pair.difference._asdict(),
                "p_of_all": pair.p,
                "verdict": pair.verdict,
                "says": _words(pair, view),
                "differs": {key: list(values) for key, values in pair.differs.items()},
                "only_in_a": pair.only_in_a,
                "only_in_b": pair.only_in_b,
            }
            for pair in view.pairs
        ],
    }
