"""What `holdfast launch` says: notes and reports on stderr, plans and commands on stdout."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from holdfast.cli import table, talk
from holdfast.core.plan import standings

if TYPE_CHECKING:
    from holdfast.core.store import Store
    from holdfast.execute.submit import Draft
    from holdfast.pipelines.launch.submission import Prepared
    from holdfast.pipelines.points import Cell


def dry(prepared: Prepared, drafts: Sequence[Draft], store: Store, *, as_json: bool) -> int:
    """Plan, states and reasons, and what exactly would be run; nothing is written. What the points wait for comes
    first, where it is drafted, too.
    """
    launch = prepared.launch
    by_key = {standing.record.key: standing for draft in drafts for standing in draft.standings}
    before = [each for key, each in by_key.items() if key not in launch.plan.records]
    found = [*before, *(by_key[record.key] for record in launch.plan)]
    if as_json:
        cells = {cell.record.key: cell for cell in launch.cells}
        rows = [{**each.as_dict(), **_as_dict(cells.get(each.record.key))} for each in found]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    table.show(found, as_json=False)
    for cell in launch.cells:
        print(f"\n# {cell.record.name}\n{command(cell)}")
    table.show_scripts(drafts, store)
    table.say_dry(drafts)
    return 0


def _as_dict(cell: Cell | None) -> dict[str, object]:
    from holdfast.pipelines.sweep_results import as_json

    if cell is None:
        return {}
    params = cell.record.placement["params"]
    needs = {"nodes": cell.nodes, "gpus": cell.gpus}
    point = {key: as_json(value) for key, value in cell.point.items()}
    return {"point": point, **needs, "command": params["tokens"], "variables": params["variables"]}


def command(cell: Cell) -> str:
    """The line that does by hand what the supervisor will do."""
    params = cell.record.placement["params"]
    variables = {**params["variables"], **cell.record.stage.params.get("env", {})}
    settings = [f"{name}={value}" for name, value in variables.items()]
    line = shlex.join(["env", *settings, *params["tokens"]])
    return f"cd {shlex.quote(params['directory'])} && {line}"


def changed_code(prepared: Prepared, store: Store) -> None:
    """Finished work that other code made: said, and left alone."""
    from holdfast.pipelines.launch import submission

    found = standings(prepared.launch.plan, store)
    changed = submission.changed_code(prepared.launch, store, found)
    talk.notes(f"{name} is complete, and {words}" for name, words in changed[:5])
    if changed:
        more = f" ({len(changed)} in all)" if len(changed) > 5 else ""
        talk.notes([f"--rerun does it again, --new makes a fresh one beside it{more}"])
