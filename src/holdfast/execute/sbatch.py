"""Renders the script that sbatch is given: readable, and good to be submitted again by hand. Pure."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.core import files
from holdfast.core.errors import UserError
from holdfast.core.job import Job
from holdfast.execute.arrays import Array

COMMENT = "holdfast:"
TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")

BODY = """\
# Ignored until the supervisor listens: the signal must not end what has not begun.
trap '' USR1
umask 002
job={job}
{key}
{setup}export HOLDFAST_KILL_WAIT={kill_wait} HOLDFAST_LEAD={lead}
exec {python} "$job/{program}" "$job" "$key"
"""
FROM_TABLE = """key=$(awk -F '\\t' -v task="$SLURM_ARRAY_TASK_ID" '$1 == task {print $2}' "$job/%s")"""


@dataclass(frozen=True)
class Site:
    """What `scontrol show config` says of a cluster. `kill_wait` in seconds: between SIGTERM and SIGKILL."""

    largest_array: int = 1001
    kill_wait: int = 30


def comment(token: str, number: int) -> str:
    """By this the scheduler's answer is matched with our job, also when nobody wrote its id down."""
    return f"{COMMENT}{token}:{number}"


def parse_comment(text: str) -> tuple[str, int] | None:
    """Token and array number, or None if the job is not one of ours."""
    token, _, number = text.strip().removeprefix(COMMENT).partition(":")
    return (token, int(number)) if text.startswith(COMMENT) and number.isdigit() else None


def script_name(number: int) -> str:
    return "script" if number == 1 else f"script-{number}"


def table_name(number: int) -> str:
    """Of the file that gives the key for each index of an array."""
    return f"{script_name(number)}.tasks"


def log_name(task: str) -> str:
    """Of the file with what a task printed before anything of ours began, and what SLURM said of it, by its name."""
    return f"slurm-{task}.log"


def table(array: Array) -> str:
    """Index (`-` for a task that is no array), key and name, a line each."""
    return "".join(
        f"{'-' if array.single else index}\t{task.key}\t{task.name}\n" for index, task in array.tasks.items()
    )


def parse_table(text: str) -> dict[str, int | None]:
    """Index by key."""
    rows = (line.split("\t", 2) for line in text.splitlines())
    return {key: None if index == "-" else int(index) for index, key, _ in rows}


def render(array: Array, job: Job, directory: Path, program: str, site: Site) -> str:
    """The script of one array."""
    lines = [f"#SBATCH {option}" for option in _options(array, job, directory)]
    setup = "".join(f"{line}\n" for line in job.setup)
    key = f"key={array.first.key}" if array.single else FROM_TABLE % table_name(array.number)
    body = BODY.format(
        job=shlex.quote(str(directory)),
        key=key,
        setup=setup,
        kill_wait=site.kill_wait,
        lead=lead(job),
        python=shlex.join(job.python),
        program=program,
    )
    head = f"#!/bin/bash\n# {_says(array)}\n# Submit it again by hand with: sbatch {script_name(array.number)}\n"
    return head + "\n".join(lines) + "\n\n" + body


def _says(array: Array) -> str:
    names = [task.name for task in array.tasks.values()]
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} stages: {', '.join(names[:3])}{more}" if len(names) > 1 else names[0]


def _options(array: Array, job: Job, directory: Path) -> Iterator[str]:
    quoted = shlex.quote(str(directory))
    log = log_name("%j" if array.single else "%A_%a")
    yield f"--job-name={shlex.quote(_name(array))}"
    yield f"--comment={comment(job.token, array.number)}"
    yield f"--chdir={quoted}"
    yield f"--output={shlex.quote(str(directory).replace('%', '%%'))}/{log}"
    yield "--open-mode=append"
    if not array.single:
        yield f"--array={ranges(array.tasks)}" + (f"%{job.max_parallel}" if job.max_parallel else "")
    yield f"--nodes={array.first.nodes}"
    if array.first.gpus:
        yield f"--gpus-per-node={array.first.gpus}"
    for option in ("time", "account", "partition"):
        if value := str(getattr(job, option)):
            yield f"--{option}={shlex.quote(value)}"
    yield "--requeue"
    yield f"--signal=B:USR1@{lead(job)}"
    yield from job.sbatch_args


def _name(array: Array) -> str:
    """What `squeue` shows: the name of the stage, or what the names of a sweep begin with."""
    names = [task.name for task in array.tasks.values()]
    common = os.path.commonprefix(names)  # noqa: RUF071  # of characters is meant
    name = names[0] if len(names) == 1 else common.rpartition("/")[0] or common.rstrip("-_.+=/ ") or names[0]
    return files.safe_name(name)


def ranges(indices: Iterable[int]) -> str:
    """`0-3,7` for 0, 1, 2, 3, 7."""
    found: list[list[int]] = []
    for index in sorted(indices):
        if found and index == found[-1][-1] + 1:
            found[-1][1:] = [index]
        else:
            found.append([index])
    return ",".join("-".join(map(str, each)) for each in found)


def lead(job: Job) -> int:
    """Seconds between USR1 and the time limit; at most half of the time that there is."""
    limit = seconds(job.time) if job.time else None
    return int(min(job.lead, limit / 2) if limit else job.lead)


def seconds(text: str) -> int:
    """A time limit as sbatch takes it: `90` minutes, `90:00`, `4:00:00`, `1-12`, `1-12:00:00`.

    Raises:
        UserError: it is none.
    """
    match = TIME.fullmatch(text)
    if match is None:
        raise UserError(f"--time is {text!r}, which is no time", "write hours:minutes:seconds, for example 4:00:00")
    days, *parts = match.groups()
    values = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, rest = (*values, 0, 0)[:3]
    elif len(values) == 3:
        hours, minutes, rest = values
    else:
        hours, (minutes, rest) = 0, (*values, 0)[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest


def dependency(array: Array, ids: dict[int, str]) -> str:
    """The value of `--dependency` by the ids that the arrays before got; empty where there is none."""
    if array.beside is not None:
        kind, names = "aftercorr", [ids[array.beside]]
    else:
        kind, names = "afterok", [task_name(ids[number], index) for number, index in array.after]
    parts = [":".join([kind, *names])] if names else []
    parts += [":".join(["afterok", *array.outside])] if array.outside else []
    return ",".join(parts)


def task_name(job_id: str, index: int | None) -> str:
    """The scheduler's name for one task: `12`, or `12_3` in an array."""
    return job_id if index is None else f"{job_id}_{index}"
