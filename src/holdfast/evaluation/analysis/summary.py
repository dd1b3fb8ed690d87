"""Everything that a report says, as one content that is JSON: a pure function of the rows.

{schema, sources, identity, coverage, overview, rewards, success, metrics, histogram, difficulty, groups, variance,
 tools, correlations, lengths, finishes, breakdowns, failures, tries, throughput, prompts}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.evaluation.analysis import breakdown, coverage, distribution, repeats
from holdfast.evaluation.analysis.correlation import correlate
from holdfast.evaluation.analysis.coverage import Expected
from holdfast.evaluation.analysis.groups import Rollouts, group
from holdfast.evaluation.analysis.prompts import Prompts, by_prompt, difficulty, learnable
from holdfast.evaluation.analysis.reading import Table

SCHEMA = 1
SIDES = (
    ("tool calls", "tools"),
    ("steps", "steps"),
    ("turns", "turns"),
    ("completion tokens", "completion_tokens"),
)
"""What is correlated with the reward."""


class Analysis:
    """The content, and beside it the arrays by rollout and by prompt; `prompts` is None where there is no rollout."""

    def __init__(self, content: dict[str, Any], rollouts: Rollouts, prompts: Prompts | None) -> None:
        self.content = content
        self.rollouts = rollouts
        self.prompts = prompts


def summarise(
    table: Table,
    expected: Expected | None = None,
    *,
    ks: Sequence[int] = (),
    identity: Mapping[str, Any] | None = None,
    name_file: Callable[[Path], str] = str,
) -> Analysis:
    """The table is used up. `expected.repeats`: no more of a prompt count. `name_file`: how the report names a file."""
    expected = expected or Expected()
    failures = coverage.count_failures(table)
    rollouts = group(table, expected.repeats)
    content = {
        "schema": SCHEMA,
        "sources": [coverage.describe_source(each, name_file(each.path)) for each in table.sources],
        "identity": dict(identity or {}),
        "coverage": coverage.cover(rollouts, failures, expected),
        "failures": {"attempts": failures.attempts, "by_reason": failures.by_reason},
    }
    if not len(rollouts):
        return Analysis(content, rollouts, None)
    prompts = by_prompt(rollouts)
    content |= _about_rewards(rollouts, prompts, ks)
    content |= _about_work(rollouts, table)
    content["breakdowns"] = [breakdown.by_field(rollouts, name) for name in rollouts.by]
    content["tries"] = coverage.compare_tries(rollouts)
    return Analysis(content, rollouts, prompts)


def _about_rewards(rollouts: Rollouts, prompts: Prompts, ks: Sequence[int]) -> dict[str, Any]:
    chosen = repeats.choose_ks(rollouts, ks)
    solved = int(rollouts.success.sum())
    return {
        "overview": _overview(rollouts, prompts),
        "rewards": distribution.describe(rollouts.reward),
        "success": {
            "rollouts": solved,
            "share": solved / len(rollouts),
            "by_field": rollouts.knows_success,
            "prompts_solved": int((prompts.solved > 0).sum()),
        },
        "metrics": repeats.measure(rollouts, chosen),
        "histogram": distribution.histogram(rollouts),
        "difficulty": difficulty(prompts),
        "groups": learnable(prompts),
        "variance": repeats.variance(rollouts),
    }


def _overview(rollouts: Rollouts, prompts: Prompts) -> dict[str, Any]:
    return {
        "prompts": len(prompts.ids),
        "rollouts": len(rollouts),
        "repeats": distribution.describe(prompts.counts),
        "is_binary": bool(((rollouts.reward == 0) | (rollouts.reward == 1)).all()),
    }


def _about_work(rollouts: Rollouts, table: Table) -> dict[str, Any]:
    tools = distribution.describe(distribution.known(rollouts.tools))
    if tools is not None:
        tools["without"] = int((rollouts.tools == 0).sum())
        tools["by_calls"] = breakdown.by_tool_calls(rollouts)
    lengths = {
        name: distribution.describe(distribution.known(column))
        for name, column in (
            ("prompt tokens", rollouts.prompt_tokens),
            ("completion tokens", rollouts.completion_tokens),
            ("steps", rollouts.steps),
            ("turns", rollouts.turns),
        )
    }
    return {
        "tools": tools,
        "correlations": _correlations(rollouts),
        "lengths": {name: found for name, found in lengths.items() if found is not None},
        "finishes": breakdown.by_finish(rollouts),
        "cut": repeats.mean_of(rollouts, rollouts.cut).as_json() if len(rollouts.finishes) else None,
        "truncated": int(rollouts.truncated.sum()),
        "throughput": _throughput(rollouts, table),
    }


def _correlations(rollouts: Rollouts) -> list[dict[str, Any]]:
    return [
        {"x": name, "y": "reward", **found.as_json()}
        for name, column in SIDES
        for found in correlate(rollouts, getattr(rollouts, column))
    ]


def _throughput(rollouts: Rollouts, table: Table) -> dict[str, Any] | None:
    """Rates are over the time in which at least one rollout was under way; None where nobody noted the time."""
    seconds = distribution.describe(rollouts.seconds[rollouts.seconds == rollouts.seconds])
    busy = table.busy.seconds
    if seconds is None or not busy:
        return None
    tokens = int(distribution.known(rollouts.completion_tokens).sum())
    return {
        "seconds": seconds,
        "busy": busy,
        "rollouts_per_hour": 3600 * seconds["count"] / busy,
        "tokens_per_second": tokens / busy if tokens else None,
        "in_flight": seconds["sum"] / busy,
    }
