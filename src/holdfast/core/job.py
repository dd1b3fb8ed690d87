"""A job is what a scheduler sees: stages in order, with what it takes to run them. The stage is the unit of truth.

`job.json` is written before submission and never changes. `runner.json` says who works it off, `ended.json` that
nobody does any more, and the file `stop` asks for an end. Standard library only: the frozen supervisor carries this
file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from holdfast.core import attempt, files
from holdfast.core.attempt import Census, Claim, Life, Verdict
from holdfast.core.errors import DamagedFile
from holdfast.core.process import Identity

LEAD_SECONDS = 180.0


class Scheduler(Protocol):
    """What we ask whoever runs jobs that this host cannot see. None: the job is none of its own."""

    def will_run(self, job: Path, key: str, place: Claim, last: Claim | None) -> Verdict | None:
        """Whether a job is still going to get to a stage; `last` is the attempt that it made at it already, if any."""

    def is_running(self, job: Path, key: str, claim: Claim) -> Verdict | None:
        """Whether an attempt without an exit record still runs."""

    def cancel(self, tasks: Iterable[tuple[Path, str]], *, started: bool = False) -> list[tuple[Path, str]]:
        """Take tasks (job, key) out of the queue, with `started` also those that run; returns which are gone."""


@dataclass(frozen=True)
class Task:
    """One stage of a job. `needs` are the homes (with key and inner path) that must be complete before it can start.

    `command` is None for a kind that runs in a Python process of ours. `trackers` show its metrics elsewhere. Of a
    program that is not ours: `directory` is where it runs (empty: the job's), `folders` are made in its home, `reads`
    are files with the sha256 that they must have at the start, `progress` says how it shows how far it is,
    `stop_signal` (a name like USR1) asks it to save. `replaces` is the generation that counts until this is done.
    `retries`: after so many failed attempts in a row that made no progress it is not tried again by itself.
    """

    key: str
    name: str
    home: str
    exclusive: bool
    needs: tuple[Mapping[str, str], ...] = ()
    services: tuple[Mapping[str, Any], ...] = ()
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    nodes: int = 1
    stop_after: int | None = None
    trackers: tuple[str, ...] = ()
    directory: str = ""
    folders: tuple[str, ...] = ()
    reads: Mapping[str, str] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    stop_signal: str = ""
    replaces: str = ""
    retries: int = 0


@dataclass(frozen=True)
class Job:
    """`python` is the interpreter that runs and publishes the stages. In seconds: `grace` between asking and killing,
    `heartbeat` between two beats, `silence` after which an attempt that nobody can see counts as dead.

    The rest is for a scheduler: `time` is the limit of one allocation, `lead` the seconds between its warning and that
    limit; a job that is ended by it goes on by itself until `max_idle` attempts in a row made no progress, or
    `max_seconds` (0: any number) were used. `env` names variables that are forwarded; their values are never stored.
    """

    token: str
    root: str
    cwd: str
    tasks: tuple[Task, ...]
    python: tuple[str, ...]
    executor: str = "local"
    max_parallel: int = 1
    grace: float = 30.0
    heartbeat: float = attempt.HEARTBEAT_SECONDS
    silence: float = attempt.SILENCE_SECONDS
    time: str = ""
    account: str = ""
    partition: str = ""
    container: str = ""
    mounts: str = ""
    launcher: str = "plain"
    setup: tuple[str, ...] = ()
    sbatch_args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    lead: float = LEAD_SECONDS
    max_idle: int = 3
    max_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, directory: Path) -> Job:
        content = files.read(directory / "job.json", "job file")
        fields = {name: value for name, value in content.items() if name != "schema"}
        tasks = tuple(_task(entry) for entry in fields.pop("tasks"))
        lists = {name: tuple(fields.get(name, ())) for name in ("python", "setup", "sbatch_args", "env")}
        return cls(**{**fields, **lists, "tasks": tasks})


def _task(entry: Mapping[str, Any]) -> Task:
    command = entry["command"]
    lists = {name: tuple(entry.get(name, ())) for name in ("needs", "services", "folders", "trackers")}
    return Task(**{**entry, **lists, "command": tuple(command) if command else None})


def runner(directory: Path) -> Identity | None:
    """Who works off this job on a local machine, once it has started."""
    content = files.read_or_none(directory / "runner.json", "runner record")
    try:
        return Identity(**content["owner"]) if content else None
    except (KeyError, TypeError) as error:
        path = directory / "runner.json"
        raise DamagedFile(f"runner record is not one of ours: {path}: {error!r}", f"look at it: less {path}") from None


def life(directory: Path, queued: Claim, census: Census) -> Verdict:
    """Whether the job that a queued claim names will still get to it.

    Until its runner has started, the submitter stands for it: one that died in between leaves a job that nobody runs.
    """
    if (directory / "ended.json").exists():
        return Verdict(Life.DEAD, "its job ended")
    owner = runner(directory) or queued.owner
    claim = Claim(queued.path, queued.n, queued.token, queued.job, owner, queued.started)
    return attempt.judge(claim, census)


def ask_to_stop(directory: Path, reason: str, key: str = "") -> None:
    """Leave the word to stop for a job, or for one stage of it; whoever runs it sees it within a second."""
    files.replace(directory / f"stop{key}", files.encode({"reason": reason}))


def stop_reason(directory: Path, key: str) -> str | None:
    """Why this stage of the job was asked to stop, or None."""
    for name in ("stop", f"stop{key}"):
        content = files.read_or_none(directory / name, "stop file")
        if content:
            return str(content["reason"])
    return None
