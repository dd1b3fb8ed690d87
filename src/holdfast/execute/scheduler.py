"""Answers for SLURM what our own files do not say, from one `squeue` for all jobs, and `sacct` where there is one.

A command that fails means unknown, never gone. What `squeue` does not know any more has ended, if it was ours: of other
people's jobs a site may hide everything.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from holdfast.core import attempt, files, process
from holdfast.core.attempt import Census, Claim, Life, Verdict
from holdfast.core.errors import DamagedFile, UnreadableFile
from holdfast.core.store import Store
from holdfast.execute import sbatch
from holdfast.execute.slurm_commands import SlurmError, Unreachable, call

POLL_SECONDS = 30.0
POLL_LONGEST = 180.0
YOUNG_SECONDS = 300.0
ABANDONED_SECONDS = 600.0
AT_ONCE = 500
FORMAT = "ArrayJobID:24,ArrayTaskID:24,State:24,RestartCnt:12,Reason:48,Comment:96"
WIDTHS = [int(column.rpartition(":")[2]) for column in FORMAT.split(",")]
WAITING = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
RUNNING = {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"}
ENDED |= {"OUT_OF_MEMORY", "REVOKED"}
NEVER = "DependencyNeverSatisfied"

Where = tuple[int, int | None]


@dataclass(frozen=True)
class Element:
    """One task as the scheduler sees it."""

    state: str
    restarts: int
    reason: str


@dataclass
class Snapshot:
    """One answer of squeue. `error` is why there is none."""

    taken: float
    elements: dict[tuple[str, int | None], Element] = field(default_factory=dict)
    ids: dict[tuple[str, int], str] = field(default_factory=dict)
    error: str = ""


@dataclass
class Submitted:
    """What we know of a job of ours: where each task is, and the scheduler's ids, once they were written down."""

    token: str
    places: dict[str, Where]
    ids: dict[int, str]
    user: str
    submitted: float
    loaded: float


class SlurmScheduler:
    """Asks SLURM for jobs of a root; one object lives as long as a command, and remembers."""

    def __init__(self) -> None:
        self.interval = POLL_SECONDS
        self.census = Census()
        self.last: Snapshot | None = None
        self.jobs: dict[Path, Submitted | None] = {}
        self.accounts: dict[str, str] | None = None

    @cached_property
    def _poll(self) -> float:
        return _poll_seconds()

    def will_run(self, job: Path, key: str, place: Claim, last: Claim | None) -> Verdict | None:
        submitted = self._job(job)
        if submitted is None:
            return None
        where = submitted.places.get(key)
        if where is None:
            return Verdict(Life.DEAD, "was never submitted")
        name, found = self._find(submitted, where, place)
        if isinstance(found, Verdict):
            return found
        return _will_run(name, found, last)

    def is_running(self, job: Path, key: str, claim: Claim) -> Verdict | None:
        submitted = self._job(job)
        where = submitted.places.get(key) if submitted else None
        if submitted is None or where is None:
            return None
        name, found = self._find(submitted, where, claim)
        if isinstance(found, Verdict):
            return found
        if found.state in ENDED:
            return Verdict(Life.DEAD, f"SLURM job {name} is {found.state}")
        if found.state in WAITING or found.restarts > claim.restarts:
            return Verdict(Life.DEAD, f"SLURM put job {name} back into its queue")
        return Verdict(Life.ALIVE, f"SLURM job {name} on {claim.owner.host}")

    def cancel(self, tasks: Iterable[tuple[Path, str]], *, started: bool = False) -> list[tuple[Path, str]]:
        """Take tasks out of the queue, with `started` also those that run; returns which are not in it any more.

        Raises:
            SlurmError: nobody took the request.
        """
        known = [
            (job, key, submitted) for job, key in tasks if (submitted := self._job(job)) and key in submitted.places
        ]
        names = {(job, key): self._name(submitted, submitted.places[key]) for job, key, submitted in known}
        wanted = [name for name in names.values() if name]
        for start in range(0, len(wanted), AT_ONCE):
            call(["scancel", "--quiet", *([] if started else ["--state=PENDING"]), *wanted[start : start + AT_ONCE]])
        self.last = None
        return [(job, key) for job, key, submitted in known if self._is_gone(submitted, submitted.places[key])]

    def task_name(self, job: Path, key: str) -> str | None:
        """The scheduler's name for a task of a job, None if it has none (yet)."""
        submitted = self._job(job)
        return self._name(submitted, submitted.places[key]) if submitted and key in submitted.places else None

    def find_by_comment(self, token: str, number: int) -> str | None:
        """The id under which an array of a job is known, by a look of this moment.

        Raises:
            Unreachable: nobody answers.
        """
        snapshot = self._ask()
        if snapshot.error:
            raise Unreachable(snapshot.error, "holdfast status says how it stands once the controller answers")
        return snapshot.ids.get((token, number))

    def _is_gone(self, submitted: Submitted, where: Where) -> bool:
        snapshot = self._snapshot()
        element = snapshot.elements.get((self._id(submitted, where[0]) or "", where[1]))
        return not snapshot.error and (element is None or element.state in ENDED)

    def _name(self, submitted: Submitted, where: Where) -> str | None:
        found = self._id(submitted, where[0])
        return sbatch.task_name(found, where[1]) if found else None

    def _id(self, submitted: Submitted, number: int) -> str | None:
        return submitted.ids.get(number) or self._snapshot().ids.get((submitted.token, number))

    def _find(self, submitted: Submitted, where: Where, claim: Claim) -> tuple[str, Element | Verdict]:
        """A task's name and how the scheduler sees it, or what its absence says."""
        snapshot = self._snapshot()
        if snapshot.error:
            known = submitted.ids.get(where[0])
            name = sbatch.task_name(known, where[1]) if known else f"of job {submitted.token}"
            return name, Verdict(Life.UNKNOWN, f"SLURM job {name}, of which nothing is known now: {snapshot.error}")
        job_id = self._id(submitted, where[0])
        if job_id is None:
            return "", self._unrecorded(submitted, where, claim)
        name = sbatch.task_name(job_id, where[1])
        element = snapshot.elements.get((job_id, where[1])) or self._look_again(submitted, (job_id, where[1]))
        return name, element or self._absent(submitted, name)

    def _unrecorded(self, submitted: Submitted, where: Where, claim: Claim) -> Verdict:
        """Nobody wrote an id down, and the scheduler knows none: it is being submitted, or never was."""
        life = attempt.judge(claim, self.census).life
        if life is Life.ALIVE:
            return Verdict(life, f"is being submitted by pid {claim.owner.pid} on {claim.owner.host}")
        if life is Life.UNKNOWN and time.time() - claim.started < ABANDONED_SECONDS:
            return Verdict(life, f"is being submitted on {claim.owner.host}, or was to be")
        snapshot = self._ask()  # after its submitter was seen dead: what it did is done
        if snapshot.error:
            return Verdict(Life.UNKNOWN, f"may have been submitted; {snapshot.error}")
        self._load_ids(submitted)
        job_id = self._id(submitted, where[0])
        if job_id is None:
            return Verdict(Life.DEAD, "was never submitted: who was about to is gone")
        element = snapshot.elements.get((job_id, where[1]))
        return _will_run(sbatch.task_name(job_id, where[1]), element, None) if element else Verdict(Life.DEAD, "ended")

    def _look_again(self, submitted: Submitted, which: tuple[str, int | None]) -> Element | None:
        """What was submitted after the last look is not in it; others' jobs are asked for by their number."""
        if submitted.user != process.current().user:
            with contextlib.suppress(SlurmError):
                _read(_squeue(f"--jobs={which[0]}"), self._snapshot())
            return self._snapshot().elements.get(which)
        taken = self._snapshot().taken
        if taken < submitted.loaded and time.time() - submitted.submitted < YOUNG_SECONDS:
            return self._ask().elements.get(which)
        return None

    def _absent(self, submitted: Submitted, name: str) -> Verdict:
        state = self._accounted(name)
        if state in ENDED:
            return Verdict(Life.DEAD, f"SLURM job {name} ended: {state}")
        if submitted.user != process.current().user:
            return Verdict(Life.UNKNOWN, f"SLURM job {name} of {submitted.user}, which SLURM does not show to you")
        return Verdict(Life.DEAD, f"SLURM job {name} ended")

    def _accounted(self, name: str) -> str:
        """What sacct says of a task that squeue forgot, empty without accounting; asked once for all."""
        if self.accounts is None:
            ids = sorted({each for job in self.jobs.values() if job for each in job.ids.values()})
            self.accounts = {}
            with contextlib.suppress(SlurmError):
                said = call(
                    ["sacct", "-X", "--noheader", "--parsable2", "--format=JobID,State", f"--jobs={','.join(ids)}"]
                )
                rows = (line.split("|", 1) for line in said.splitlines() if "|" in line)
                self.accounts = {job: state.split()[0] if state.split() else "" for job, state in rows}
        return self.accounts.get(name, "")

    def _job(self, directory: Path) -> Submitted | None:
        if directory not in self.jobs:
            self.jobs[directory] = _read_job(directory)
        submitted = self.jobs[directory]
        if submitted and not submitted.ids:
            self._load_ids(submitted, directory)
        return submitted

    def _load_ids(self, submitted: Submitted, directory: Path | None = None) -> None:
        found = directory or next(path for path, each in self.jobs.items() if each is submitted)
        with contextlib.suppress(DamagedFile, UnreadableFile):
            content = files.read_or_none(found / "slurm.json", "record of SLURM jobs")
            if content:
                submitted.ids = {int(number): str(job_id) for number, job_id in content["ids"].items()}
                submitted.user, submitted.submitted = str(content["user"]), float(content["submitted"])
                submitted.loaded = time.monotonic()

    def _snapshot(self) -> Snapshot:
        if self.last is None or time.monotonic() - self.last.taken > self.interval:
            return self._ask()
        return self.last

    def _ask(self) -> Snapshot:
        before, snapshot = self.last, Snapshot(time.monotonic())
        try:
            _read(_squeue("--me"), snapshot)
        except SlurmError as error:
            snapshot.error = str(error)
        changed = before is None or (snapshot.elements, snapshot.error) != (before.elements, before.error)
        self.interval = self._poll if changed else min(self.interval * 1.5, max(POLL_LONGEST, self._poll))
        self.last, self.accounts = snapshot, None
        return snapshot


def _will_run(name: str, element: Element, last: Claim | None) -> Verdict:
    if element.state in ENDED:
        return Verdict(Life.DEAD, f"SLURM job {name} is {element.state}")
    if element.state in WAITING:
        if element.reason == NEVER:
            return Verdict(Life.DEAD, f"SLURM job {name} waits for something that failed")
        why = f" ({element.reason})" if element.reason not in ("", "None") else ""
        return Verdict(Life.ALIVE, f"waits in SLURM job {name}{why}")
    if element.state not in RUNNING:
        return Verdict(Life.UNKNOWN, f"SLURM job {name} is {element.state}, which says nothing to us")
    if last is None or element.restarts > last.restarts:
        return Verdict(Life.ALIVE, f"starts in SLURM job {name}")
    if (last.ending() or {}).get("goes_on"):
        return Verdict(Life.ALIVE, f"returns to the queue in SLURM job {name}")
    return Verdict(Life.DEAD, f"SLURM job {name} is {element.state}")


def _squeue(which: str) -> str:
    # An all-too-long list of array indices would be cut off: --array gives a line for each.
    return call(["squeue", "--noheader", "--array", "--states=all", which, f"--Format={FORMAT}"])


def _read(said: str, snapshot: Snapshot) -> None:
    """Lines of squeue into a snapshot; a line that is none of squeue's makes it unbelievable.

    Raises:
        SlurmError: garbage.
    """
    for line in said.splitlines():
        columns = _columns(line)
        if len(line) < sum(WIDTHS[:-1]) or not columns[0].isdigit() or not columns[3].isdigit():
            raise SlurmError(f"squeue said what cannot be read: {line.strip()[:80]!r}")
        job_id, index, state, restarts, reason, comment = columns
        place = int(index) if index.isdigit() else None
        snapshot.elements[job_id, place] = Element(state, int(restarts), reason)
        if ours := sbatch.parse_comment(comment):
            snapshot.ids[ours] = job_id


def _columns(line: str) -> list[str]:
    columns, start = [], 0
    for width in WIDTHS:
        columns.append(line[start : start + width].strip())
        start += width
    return columns


def _read_job(directory: Path) -> Submitted | None:
    """What was submitted to SLURM from a job's directory; None if it is no such job."""
    places: dict[str, Where] = {}
    number = 1
    with contextlib.suppress(FileNotFoundError):
        while True:
            text = (directory / sbatch.table_name(number)).read_text()
            places.update((key, (number, index)) for key, index in sbatch.parse_table(text).items())
            number += 1
    if number == 1:
        return None
    return Submitted(directory.name, places, {}, process.current().user, time.time(), time.monotonic())


def open_store(root: Path) -> Store:
    """The store of a root that asks SLURM for what its files do not say."""
    return Store(root, SlurmScheduler())


def _poll_seconds() -> float:
    """`slurm: {poll_seconds: N}` of the saved config."""
    from holdfast.core import config

    section = config.settings().get("slurm")
    poll = section.get("poll_seconds") if isinstance(section, dict) else None
    return float(poll) if isinstance(poll, int | float) else POLL_SECONDS
