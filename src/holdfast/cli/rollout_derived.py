"""Has one stage done on this machine, waits for it, and shows what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.core.store import Store
    from holdfast.pipelines.rollouts.derived import Derived


def make(found: Derived, store: Store, *, rerun: bool, as_json: bool) -> int:
    """Submit and wait; the exit code."""
    from holdfast.cli import rollout_live, table, talk
    from holdfast.core.plan import State, standings
    from holdfast.evaluation import report
    from holdfast.execute.local import LocalExecutor
    from holdfast.execute.submit import Placement, submit
    from holdfast.pipelines.evaluate import scores

    talk.notes(found.notes)
    again = {found.record.key} if rerun else set()
    table.show_submission(submit(found.plan, store, LocalExecutor(), Placement(), again), store)
    rollout_live.watch(lambda: standings(found.plan, store))
    rollout_live.wait_for_views(store, found.record)
    (now,) = standings(found.plan, store)
    content = scores.read(store, found.record)
    if as_json:
        print(json.dumps({**now.as_dict(), "scores": content}, indent=1, ensure_ascii=False))
    else:
        table.show([now], as_json=False)
        if now.state is State.COMPLETE and content:
            print()
            print("\n".join(report.lines(content)))
    return table.exit_code([now])
