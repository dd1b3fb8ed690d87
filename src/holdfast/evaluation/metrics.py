"""`metrics.json`: what the rows of an evaluation say of a model, each number with its interval, and what is missing.

    {schema, step, metrics: [{name, value, low, high, k, n_prompts, method}],
     coverage: {expected, done, failed, bounds}, truncated, tokens, time, variance, identity}

What could not be asked or graded is no reward of 0. The numbers are of what there is, and beside them `coverage` says
how much that is, why the rest is missing, and the accuracy if all of it were wrong or all right.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from holdfast.core.errors import ConfigError
from holdfast.evaluation.intervals import bootstrap_interval, mean_interval, variance_parts
from holdfast.evaluation.recorded import Group, Recorded, group_of, record
from holdfast.evaluation.subsets import DRAWS, best_at, majority_at, pass_all, pass_at
from holdfast.rollouts.collection import Row

SCHEMA = 1
ACCURACY = "accuracy"
NAME = re.compile(r"(pass@|pass\^|maj@|best@)(\d+)")

Responses = Mapping[str, Sequence[Row]]
"""The rows of each prompt, by prompt id; prompts without any are left out."""


def summarise(
    rows: Iterable[Mapping[str, Any]],
    ids: Sequence[str],
    repeats: int,
    *,
    step: int = 0,
    identity: Mapping[str, Any] | None = None,
    failed: Mapping[str, int] | None = None,
    ks: Sequence[int] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The content of `metrics.json` for `repeats` responses to each of `ids`.

    `rows` are in the order of `ids` and of repeats, and looked at once; repeats beyond `repeats` do not count.
    `failed`: how many could not be had, by reason. `ks`: by default the powers of 2 up to `repeats`, and `repeats`.
    `seed` is that of the resampling.

    Raises:
        ValueError: there is no response at all, or a row is not where the order has it.
    """
    recorded, spent = record(rows, ids, repeats)
    if not recorded:
        raise ValueError("no response was recorded: there is nothing to summarise")
    tokens, time = spent.tokens(), spent.time()
    del spent
    names = [ACCURACY, *_names(recorded, ks or default_ks(repeats))]
    return {
        "schema": SCHEMA,
        "step": step,
        "metrics": [metric for name in names if (metric := _measure(name, recorded, repeats, seed))],
        "coverage": _coverage(recorded, len(ids), repeats, failed or {}),
        "truncated": _truncated(recorded),
        "tokens": tokens,
        "time": time,
        "variance": _variance(recorded),
        "identity": dict(identity or {}),
    }


def default_ks(repeats: int) -> list[int]:
    """2, 4, 8, ... and `repeats`."""
    powers = [1 << power for power in range(1, repeats.bit_length()) if 1 << power < repeats]
    return [*powers, repeats] if repeats > 1 else []


def _names(recorded: Recorded, ks: Iterable[int]) -> list[str]:
    kinds = ["pass@{}", "pass^{}"]
    if recorded.has_answers:
        kinds.append("maj@{}")
    if not recorded.is_binary:
        kinds.append("best@{}")
    return [kind.format(k) for kind in kinds for k in ks]


def _measure(name: str, recorded: Recorded, repeats: int, seed: int) -> dict[str, Any] | None:
    """One metric with its interval; None where no prompt has enough responses."""
    values, drawn = array("d"), 0
    for each in _values(name, recorded.groups(), seed):
        values.append(each.value)
        drawn += not each.is_exact
    if not values:
        return None
    if name == ACCURACY:
        found = mean_interval(values, trials=recorded.is_binary and len(recorded) == len(recorded.rewards))
    else:
        found = bootstrap_interval(values, seed)
    k = int(match[2]) if (match := NAME.fullmatch(name)) else repeats
    return {"name": name, "k": k, **found.as_json(), **_how(name, drawn, len(values))}


def is_trials(responses: Responses) -> bool:
    """Whether every prompt has one response that is right or wrong."""
    return all(len(found) == 1 and found[0]["reward"] in (0, 1) for found in responses.values())


def prompt_values(name: str, responses: Responses, seed: int = 0) -> tuple[dict[str, float], dict[str, str]]:
    """The metric of each prompt that has enough responses for it, and how it was had where there are two ways.

    Raises:
        ConfigError: there is no such metric.
    """
    found = list(_values(name, ((each, group_of(rows)) for each, rows in responses.items()), seed))
    drawn = sum(not each.is_exact for each in found)
    return {each.prompt: each.value for each in found}, _how(name, drawn, len(found))


class _Value(NamedTuple):
    prompt: str
    value: float
    is_exact: bool = True


def _values(name: str, groups: Iterable[tuple[str, Group]], seed: int) -> Iterator[_Value]:
    """The metric of each prompt that has enough responses for it.

    Raises:
        ConfigError: there is no such metric.
    """
    if name == ACCURACY:
        yield from (_Value(each, fmean(group.rewards)) for each, group in groups)
        return
    match = NAME.fullmatch(name)
    if not match or not int(match[2]):
        raise ConfigError(f"there is no metric `{name}`", "metrics: accuracy, pass@K, pass^K, maj@K, best@K")
    kind, k = match[1], int(match[2])
    for each, group in groups:
        if len(group.rewards) < k:
            continue
        if kind == "maj@":
            yield _Value(each, *majority_at(k, group.rewards, group.answers, f"{seed}:{each}"))
        else:
            yield _Value(each, _of_subsets(kind, k, group))


def _how(name: str, drawn: int, total: int) -> dict[str, str]:
    if not name.startswith("maj@"):
        return {}
    return {"subsets": "exact" if not drawn else f"{DRAWS} subsets drawn for {drawn} of {total} prompts"}


def _of_subsets(kind: str, k: int, group: Group) -> float:
    if kind == "best@":
        return best_at(k, group.rewards)
    return (pass_at if kind == "pass@" else pass_all)(k, group.right, len(group.rewards))


def _coverage(recorded: Recorded, prompts: int, repeats: int, failed: Mapping[str, int]) -> dict[str, Any]:
    expected, done = prompts * repeats, len(recorded.rewards)
    return {
        "expected": expected,
        "done": done,
        "failed": dict(sorted(failed.items())),
        "bounds": _bounds(recorded.rewards, expected) if done < expected else None,
    }


def _bounds(rewards: Sequence[float], expected: int) -> dict[str, float] | None:
    """The accuracy if all that is missing were wrong, or right; None where rewards are no shares."""
    if not all(0 <= reward <= 1 for reward in rewards):
        return None
    low = math.fsum(rewards) / expected
    return {"low": low, "high": low + (expected - len(rewards)) / expected}


def _truncated(recorded: Recorded) -> dict[str, Any] | None:
    """The share of responses that ended at the limit of tokens; None where nobody recorded how they ended."""
    shares, trials = array("d"), True
    for _, group in recorded.groups():
        if group.ended:
            shares.append(group.cut / group.ended)
        trials = trials and group.ended == 1
    if not shares:
        return None
    return mean_interval(shares, trials=trials).as_json()


def _variance(recorded: Recorded) -> dict[str, float] | None:
    found = variance_parts(group.rewards for _, group in recorded.groups())
    return found._asdict() if found else None
