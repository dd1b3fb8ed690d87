"""What `holdfast rollout run` says: notes on stderr; plan, standings and scores on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from holdfast.cli import table, talk
from holdfast.core.plan import State

if TYPE_CHECKING:
    from holdfast.core.plan import Standing
    from holdfast.core.store import Store
    from holdfast.execute.submit import Draft
    from holdfast.pipelines.rollouts.planner import Collected


def notes(found: Collected) -> None:
    """What a person should know before anything runs."""
    repeats = int(found.record.stage.params["repeats"])
    sliced = f", in {len(found.slices)} slices" if found.slices else ""
    print(
        f"{found.record.name}: {found.prompts:,} prompts x {repeats} = {found.prompts * repeats:,} rollouts{sliced}",
        file=sys.stderr,
    )
    talk.notes(found.notes)


def dry(draft: Draft, store: Store, *, as_json: bool) -> int:
    """Plan, states and reasons, what is asked, the services and the scripts; nothing is written."""
    if as_json:
        rows = [
            {**each.as_dict(), "params": {**each.record.stage.params, **each.record.placement["params"]}}
            for each in draft.standings
        ]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    table.show(draft.standings, as_json=False)
    for task in draft.job.tasks if draft.job else ():
        for service in task.services:
            print(f"\n# {task.name}: {service['name']}\n{' '.join(service['command'])}")
    table.show_scripts([draft], store)
    table.say_dry([draft])
    return 0


def show(found: Collected, now: Sequence[Standing], store: Store, *, as_json: bool) -> None:
    """How everything stands, and what the rewards say once it is complete."""
    from holdfast.evaluation import report
    from holdfast.pipelines.evaluate import scores

    content = scores.read(store, found.record)
    if as_json:
        mine = found.record.key
        rows = [{**each.as_dict(), **({"scores": content} if each.record.key == mine else {})} for each in now]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    done = next(each for each in now if each.record.key == found.record.key)
    table.show([done] if done.state is State.COMPLETE else now, as_json=False)
    if done.state is State.COMPLETE and content:
        print()
        print("\n".join(report.lines(content)))
