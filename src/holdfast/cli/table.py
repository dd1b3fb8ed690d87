"""Prints standings: data on stdout, talk on stderr, colour only for a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from holdfast.core.plan import IN_FLIGHT, REBUILT, Standing, State
from holdfast.core.stage import short
from holdfast.execute.diagnosis import one_line

if TYPE_CHECKING:
    from holdfast.core.store import Store
    from holdfast.execute.submit import Draft, Submission

SETTLED = (State.LOST, State.EVICTED)
COLOURS = {
    State.COMPLETE: "32",
    State.RUNNING: "36",
    State.QUEUED: "34",
    State.OWED: "33",
    State.LOST: "31",
    State.OUTDATED: "35",
    State.STALE: "35",
    State.EVICTED: "90",
}


def show(standings: Sequence[Standing], *, as_json: bool) -> None:
    """One line a stage."""
    if as_json:
        print(json.dumps([standing.as_dict() for standing in standings], indent=1, ensure_ascii=False))
        return
    print("\n".join(lines(standings, coloured=sys.stdout.isatty() and "NO_COLOR" not in os.environ)))


def lines(standings: Sequence[Standing], *, coloured: bool) -> list[str]:
    """The table as text: name, kind, state, how far, why; and a last line with the counts."""
    if not standings:
        return ["nothing is planned here"]
    rows = [
        (
            one_line(each.record.name),
            one_line(each.record.stage.kind),
            each.state,
            _progress(each),
            one_line(each.reason),
        )
        for each in standings
    ]
    widths = [max(len(str(row[column])) for row in rows) for column in range(4)]
    table = []
    for name, kind, state, progress, reason in rows:
        painted = _paint(str(state).ljust(widths[2]), state) if coloured else str(state).ljust(widths[2])
        row = f"{name.ljust(widths[0])}  {kind.ljust(widths[1])}  {painted}  {progress.rjust(widths[3])}  {reason}"
        table.append(row.rstrip())
    return [*table, "", summary(standings)]


def summary(standings: Sequence[Standing]) -> str:
    """`5 stages: 3 complete, 1 running, 1 owed`."""
    counts = Counter(standing.state for standing in standings)
    parts = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    return f"{len(standings)} stage{'s' if len(standings) != 1 else ''}: {parts}"


def _progress(standing: Standing) -> str:
    """What of a stage that runs is done; empty where it does not say."""
    progress = standing.claim.progress() if standing.claim and standing.state is State.RUNNING else None
    if not progress:
        return ""
    if progress["unit"] == "byte":
        return f"{progress['done'] / 1e9:.2f}/{progress['total'] / 1e9:.2f} GB"
    of = "" if progress.get("open") else f"/{progress['total']}"
    return f"{progress['done']}{of} {progress['unit']}s"


def _paint(text: str, state: State) -> str:
    return f"\x1b[{COLOURS[state]}m{text}\x1b[0m"


def show_plan(drafts: Sequence[Draft], store: Store, *, as_json: bool) -> int:
    """A dry run: what there is, what would be submitted, and the scripts that sbatch would be given."""
    show([standing for draft in drafts for standing in draft.standings], as_json=as_json)
    if not as_json:
        show_scripts(drafts, store)
    say_dry(drafts)
    return 0


def say_dry(drafts: Sequence[Draft]) -> None:
    taken = sum(len(draft.taken) for draft in drafts)
    print(f"dry run: {taken} would be submitted, nothing was written", file=sys.stderr)


def show_scripts(drafts: Sequence[Draft], store: Store) -> None:
    """What sbatch would be given; of all that it says, only the token of the job is drawn anew each time."""
    from holdfast.execute import slurm
    from holdfast.execute.sbatch import Site

    for job in (draft.job for draft in drafts if draft.job and draft.job.executor == "slurm"):
        for script in slurm.preview(job, store.job(job.token), Site()):
            print(f"\n# given to sbatch\n{script}", end="")


def show_submission(submission: Submission, store: Store) -> None:
    """Say which job took what, on stderr."""
    complete = sum(standing.state is State.COMPLETE for standing in submission.others)
    reused = f"{complete} complete already" if complete else ""
    flying = sum(standing.state in IN_FLIGHT for standing in submission.others)
    elsewhere = f"{flying} in flight already" if flying else ""
    gone = sum(standing.state in REBUILT for standing in submission.others)
    rebuilt = f"{gone} lost, outdated or stale (--rebuild takes them)" if gone else ""
    if submission.job:
        total = len(submission.taken) + len(submission.others)
        took = f"job {short(submission.job.token)} takes {len(submission.taken)} of {total} stages"
    else:
        took = "nothing to submit"
    print(
        "; ".join(part for part in (took, reused, elsewhere, rebuilt) if part) + f" (root {store.root})",
        file=sys.stderr,
    )


def exit_code(standings: Sequence[Standing]) -> int:
    """Of who wants all of it: 0 if everything is complete, 1 if something failed and nobody is at it, otherwise 3.

    What went from the cache when all that it was made for was complete has served.
    """
    complete = [standing for standing in standings if standing.state is State.COMPLETE]
    used = {ref.key for standing in complete for ref in standing.record.stage.inputs.values()}
    standings = [each for each in standings if not (each.state is State.EVICTED and each.record.key in used)]
    if len(complete) == len(standings):
        return 0
    if any(standing.state is State.OWED and standing.reason.startswith("failed") for standing in standings):
        return 1
    return 3


def exit_code_of_what_is_owed(standings: Sequence[Standing]) -> int:
    """Of who looks: as `exit_code`, but what was deleted on purpose or archived is settled."""
    return exit_code([standing for standing in standings if standing.state not in SETTLED])
