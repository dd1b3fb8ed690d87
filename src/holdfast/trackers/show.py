"""Which trackers a stage has, what they are told of it, and how they are brought up to date by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.core import attempt
from holdfast.core.errors import Held, UserError
from holdfast.core.job import Job
from holdfast.core.record import Record
from holdfast.core.store import Store
from holdfast.trackers import SCRIPT_RUN, Subject
from holdfast.trackers.feed import Feed

DONE = ("complete", "stopped")
SENT, FAILED, HELD = 0, 1, 3


@dataclass(frozen=True)
class Result:
    """How it went with one tracker; `code` is 0, 1 (failed) or 3 (another process is at it)."""

    tracker: str
    code: int
    words: str


def send(
    store: Store, record: Record, names: Sequence[str], environ: Mapping[str, str], *, again: bool
) -> list[Result]:
    """Bring the trackers of a stage up to date, here and now.

    Raises:
        UserError: no tracker is named, and the stage ran with none.
    """
    wanted = tuple(names) or trackers_of(store, record.key)
    if not wanted:
        raise UserError(f"`{record.name}` ran without trackers", f"holdfast track {record.name} --tracker wandb")
    return [_send(Feed(name, subject_of(store, record), environ), name, store, again=again) for name in wanted]


def _send(feed: Feed, name: str, store: Store, *, again: bool) -> Result:
    try:
        if again:
            feed.begin_again()
        if not feed.is_owed():
            return Result(name, SENT, "nothing was missing")
        feed.finish(ending_code(store, feed.subject.key))
        return Result(name, SENT, f"sent; {feed.cursor.lines} lines in all")
    except Held as error:
        return Result(name, HELD, str(error))
    except UserError as error:
        return Result(name, FAILED, f"{error}\n\nhint: {error.hint}")
    finally:
        feed.release()


def subject_of(store: Store, record: Record, *, following: bool = False) -> Subject:
    """The stage as a tracker sees it."""
    stage = record.stage
    home, records = store.home(record), store.stage(record.key) / "trackers"
    variables = record.placement.get("params", {}).get("variables", {})
    run = str(variables.get(SCRIPT_RUN, ""))
    return Subject(record.key, record.name, stage.kind, stage.params, store.root, home, records, following, run)


def ending_code(store: Store, key: str) -> int:
    """How the newest attempt ended, as an exit code: 0 if it is complete, or stopped as it was asked to."""
    last = attempt.newest(store.attempts(key))
    ending = last.ending() if last else None
    return 0 if ending and ending["outcome"] in DONE else 1


def trackers_of(store: Store, key: str) -> tuple[str, ...]:
    """What the newest attempt's job said that the stage is shown by."""
    last = attempt.newest(store.attempts(key))
    if last is None:
        return ()
    tasks = Job.read(store.job(last.job)).tasks
    return next((task.trackers for task in tasks if task.key == key), ())
