"""What `holdfast evaluate` says: notes on stderr; plans, standings and scores on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from holdfast.cli import table, talk
from holdfast.core.plan import State

if TYPE_CHECKING:
    from holdfast.core.plan import Standing
    from holdfast.core.store import Store
    from holdfast.execute.submit import Draft
    from holdfast.pipelines.evaluate.planner import Evaluations
    from holdfast.pipelines.evaluate.submission import Prepared


def notes(found: Evaluations) -> None:
    """What a person should know before anything runs."""
    if found.conversion:
        print(found.conversion.says, file=sys.stderr)
    talk.notes(found.notes, found.cells.same)


def dry(prepared: Prepared, draft: Draft, store: Store, *, as_json: bool) -> int:
    """Plan, states and reasons, what each point asks, and the scripts; nothing is written."""
    found = list(draft.standings)
    if as_json:
        cells = {cell.record.key: cell for cell in prepared.evaluations.cells.each}
        rows = [{**each.as_dict(), **_params(each, cells)} for each in found]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    table.show(found, as_json=False)
    for task in draft.job.tasks if draft.job else ():
        for service in task.services:
            print(f"\n# {task.name}: the engine\n{' '.join(service['command'])}")
    table.show_scripts([draft], store)
    table.say_dry([draft])
    return 0


def _params(standing: Standing, cells: Mapping[str, object]) -> dict[str, object]:
    record = standing.record
    if record.key not in cells:
        return {}
    return {
        "params": {**record.stage.params, **record.placement["params"]},
        "point": record.placement["point"],
        "nodes": record.placement["nodes"],
        "gpus": record.placement["gpus"],
    }


def wanted(found: Evaluations, now: Sequence[Standing]) -> list[Standing]:
    """The evaluations, and the conversion as long as one of them still needs it."""
    mine = [each for each in now if each.record.stage.kind == "evaluate"]
    return mine if all(each.state is State.COMPLETE for each in mine) else list(now)


def show(found: Evaluations, now: Sequence[Standing], store: Store, *, as_json: bool) -> None:
    """How everything stands, and the scores of what is complete."""
    from holdfast.pipelines.evaluate import scores

    if as_json:
        rows = [{**each.as_dict(), "scores": scores.read(store, each.record)} for each in now]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table.show(wanted(found, now), as_json=False)
    complete = [each.record for each in now if each.state is State.COMPLETE and each.record.stage.kind == "evaluate"]
    if complete:
        print()
        print("\n".join(scores.lines(store, complete)))
