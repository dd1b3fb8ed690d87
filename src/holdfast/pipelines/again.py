"""Which finished stages of a plan are done once more, because somebody asked for it."""

from __future__ import annotations

from holdfast.core.plan import REBUILT, Plan, State, standings
from holdfast.core.store import Store


def keys(plan: Plan, store: Store, *, rerun: bool = False, rebuild: bool = False) -> frozenset[str]:
    """The keys of the complete stages by `rerun`, and by `rebuild` of those that are lost, outdated or stale."""
    taken = (REBUILT if rebuild else frozenset[State]()) | ({State.COMPLETE} if rerun else set[State]())
    found = standings(plan, store) if taken else []
    return frozenset(each.record.key for each in found if each.state in taken)
