"""The report as sections, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from holdfast.evaluation.analysis import about_rewards, about_rows, about_work
from holdfast.evaluation.analysis.blocks import Block, Content, Section

Maker = Callable[[Content], Iterator[Block]]
ALWAYS: tuple[tuple[str, Maker], ...] = (("Coverage", about_rows.coverage), ("Files", about_rows.files))
WITH_ROLLOUTS: tuple[tuple[str, Maker], ...] = (
    ("Dataset overview", about_rewards.overview),
    ("Reward distribution", about_rewards.rewards),
    ("Success rate", about_rewards.success),
    ("With k rollouts of a prompt", about_rewards.metrics),
    ("Reward histogram", about_rewards.histogram),
    ("Difficulty, and what could be learned", about_rewards.groups),
    ("Tool call metrics", about_work.tools),
    ("Correlation analysis", about_work.correlations),
    ("Length and truncation", about_work.lengths),
    ("Breakdown", about_work.breakdowns),
    ("First try against retried", about_rows.tries),
    ("Throughput", about_work.throughput),
)
AT_LAST: tuple[tuple[str, Maker], ...] = (("Failures", about_rows.failures),)


def sections(content: Content) -> list[Section]:
    """Everything but the breakdown by prompt; sections with nothing to say are left out."""
    makers = (*ALWAYS, *(WITH_ROLLOUTS if "rewards" in content else ()), *AT_LAST)
    found = [Section(title, list(make(content))) for title, make in makers]
    return [section for section in found if section.blocks]
