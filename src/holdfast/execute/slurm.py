"""Hands jobs to SLURM: a script and a table for each array, one sbatch each, and the ids on record.

The places in the queue are taken before, so whatever dies here, and whenever, a job is neither lost nor done twice: its
comment carries our token, by which the scheduler's answer is matched; and a task whose place went to another job ends
before it begins.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from holdfast.core import artifact, attempt, files, process
from holdfast.core.attempt import Life
from holdfast.core.errors import UserError
from holdfast.core.job import Job, Task
from holdfast.core.store import Store
from holdfast.execute import arrays, launchers, sbatch, slurm_commands
from holdfast.execute.arrays import Array
from holdfast.execute.sbatch import Site
from holdfast.execute.scheduler import SlurmScheduler
from holdfast.execute.slurm_commands import SlurmError, Unreachable, call
from holdfast.execute.submit import PROGRAM

WAITS = (1.0, 2.0, 4.0)
PASSED_ON = re.compile(
    r"HOME|USER|LOGNAME|SHELL|PATH|LANG|LC_\w+|TZ|PYTHON(PATH|HOME|NOUSERSITE|DONTWRITEBYTECODE|UNBUFFERED)"
    r"|VIRTUAL_ENV|CONDA_(PREFIX|DEFAULT_ENV)|LD_LIBRARY_PATH|MODULEPATH|MODULESHOME|CUDA_HOME"
    r"|HF_(HOME|HUB_CACHE|DATASETS_CACHE|HUB_OFFLINE|DATASETS_OFFLINE)|TRANSFORMERS_OFFLINE|TOKENIZERS_PARALLELISM"
    r"|XDG_(CACHE|CONFIG|DATA)_HOME|UV_CACHE_DIR|TORCH_HOME|OMP_NUM_THREADS|NCCL_\w+|SSL_CERT_(FILE|DIR)"
    r"|WANDB_(MODE|DIR|PROJECT|ENTITY|BASE_URL)|SLURM_(CONF|CLUSTERS)"
)
"""What a job gets of our environment by itself: nothing that could be a secret, since SLURM keeps it on its disk."""


class SlurmExecutor:
    """Submits the tasks of a job as arrays."""

    def __init__(self) -> None:
        self.site = read_site()

    def start(self, directory: Path, job: Job) -> None:
        """Submit; what could not be submitted is owed again, with the reason.

        Raises:
            SlurmError: SLURM took some of it, or nothing.
        """
        store = Store(Path(job.root), SlurmScheduler())
        try:
            tasks, outside = self._sort_out(job, store)
            environ = environment(job.env, os.environ)
            divided = arrays.divide(tasks, self.site.largest_array, outside)
        except UserError as error:
            _give_back(store, job, job.tasks, str(error))
            raise
        for array in divided:
            write_script(array, job, directory, self.site)
        self._submit_all(divided, job, store, environ)

    def _submit_all(self, divided: list[Array], job: Job, store: Store, environ: Mapping[str, str]) -> None:
        ids: dict[int, str] = {}
        try:
            for array in divided:
                ids[array.number] = self._submit(array, job, store, environ, ids)
        except Unreachable:
            raise  # It may have arrived: its place in the queue is kept until the scheduler can be asked.
        except SlurmError as error:
            told = slurm_commands.explain(error)
            left = [task for array in divided[len(ids) :] for task in array.tasks.values()]
            _give_back(store, job, left, str(told))
            raise told from None
        finally:
            if ids:
                _record(store.job(job.token), ids)

    def _submit(self, array: Array, job: Job, store: Store, environ: Mapping[str, str], ids: dict[int, str]) -> str:
        """The id of one array. Where the answer was lost, the scheduler is asked whether it has the job."""
        wait = sbatch.dependency(array, ids)
        options = [f"--dependency={wait}", "--kill-on-invalid-dep=yes"] if wait else []
        script = str(store.job(job.token) / sbatch.script_name(array.number))
        for seconds in WAITS:
            try:
                return _id(call(["sbatch", "--parsable", *options, script], environ))
            except Unreachable:
                time.sleep(seconds)
                if found := SlurmScheduler().find_by_comment(job.token, array.number):
                    return found
        return _id(call(["sbatch", "--parsable", *options, script], environ))

    def _sort_out(self, job: Job, store: Store) -> tuple[list[Task], dict[str, str]]:
        """The tasks that can be submitted, and the scheduler's names for what they need of other jobs.

        What needs something that is being made elsewhere than in SLURM, or is not being made at all, is owed again.
        """
        _check(job)
        mine = {task.key for task in job.tasks}
        outside: dict[str, str] = {}
        kept: list[Task] = []
        for task in job.tasks:
            missing = [need for need in task.needs if need["key"] not in mine and not _is_there(store, need)]
            names = {need["key"]: _name_elsewhere(store, need["key"]) for need in missing}
            lacks = [need["home"] for need in missing if not names[need["key"]]]
            if lacks:
                mine.discard(task.key)
                _give_back(store, job, [task], f"its input {lacks[0]} is not complete, and no SLURM job is at it")
            else:
                kept.append(task)
                outside.update({key: name for key, name in names.items() if name})
        return kept, outside


def preview(job: Job, directory: Path, site: Site) -> list[str]:
    """The scripts that would be submitted for a job; nothing is written, nobody asked."""
    divided = arrays.divide(job.tasks, site.largest_array)
    return [sbatch.render(array, job, directory, PROGRAM, site) for array in divided]


def _id(said: str) -> str:
    """`12`, or `12;cluster`."""
    job_id = said.strip().partition(";")[0]
    if not job_id.isdigit():
        raise Unreachable(
            f"sbatch said {said.strip()[:80]!r}, which is no id of a job", "squeue --me shows whether it runs"
        )
    return job_id


def read_site() -> Site:
    """What the cluster says of itself.

    Raises:
        SlurmError: there is none, or its controller does not answer.
    """
    if shutil.which("sbatch") is None:
        raise SlurmError("there is no `sbatch` on this machine", slurm_commands.ELSEWHERE)
    lines = [line.partition("=") for line in call(["scontrol", "show", "config"]).splitlines()]
    shown = {name.strip(): value.strip() for name, mark, value in lines if mark}
    return Site(_number(shown.get("MaxArraySize"), 1001), _number(shown.get("KillWait"), 30))


def _number(text: str | None, otherwise: int) -> int:
    match = re.match(r"\d+", text or "")
    return max(1, int(match[0])) if match else otherwise


def _check(job: Job) -> None:
    """What sbatch would take, and never start.

    Raises:
        UserError: more nodes than there are, a time that is none, a launcher for what it cannot launch, a root that it
            cannot log to.
    """
    if job.time:
        sbatch.seconds(job.time)
    for line in (*job.setup, *job.sbatch_args):
        if "\n" in line:
            raise UserError(f"{line!r} has more than one line", "give --setup or --sbatch-arg once for each line")
    if job.launcher not in launchers.LAUNCHERS:
        raise UserError(f"there is no launcher `{job.launcher}`", f"launchers: {', '.join(launchers.LAUNCHERS)}")
    if "\\" in job.root:
        raise UserError(f"the root {job.root} has a backslash, and SLURM starts no job that logs there", "--root DIR")
    most = max(job.tasks, key=lambda task: task.nodes)
    there = slurm_commands.node_count(job.partition) if most.nodes > 1 else 0
    if there and most.nodes > there:
        where = f"partition {job.partition}" if job.partition else "the largest partition"
        raise UserError(
            f"`{most.name}` wants {most.nodes} nodes, and {where} has {there}", f"nodes here: {slurm_commands.nodes()}"
        )
    for task in job.tasks:
        if job.launcher != "plain" and task.command is None:
            raise UserError(
                f"`{task.name}` is no command, so {job.launcher} cannot launch it", "leave --launcher to `plain`"
            )


def environment(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """What sbatch is started with, and so what the job gets: nothing of an allocation that we may be in ourselves.

    Raises:
        UserError: a variable that is to be forwarded is not set.
    """
    absent = [name for name in names if name not in environ]
    if absent:
        raise UserError(f"to be forwarded, and not set here: {', '.join(absent)}", f"export {absent[0]}=...")
    return {name: value for name, value in environ.items() if PASSED_ON.fullmatch(name) or name in names}


def write_script(array: Array, job: Job, directory: Path, site: Site) -> Path:
    """Write the script of an array and its table, durably."""
    script = directory / sbatch.script_name(array.number)
    files.write_durably(directory / sbatch.table_name(array.number), sbatch.table(array).encode())
    files.write_durably(script, sbatch.render(array, job, directory, PROGRAM, site).encode())
    return script


def _record(directory: Path, ids: Mapping[int, str]) -> None:
    content = {"ids": {str(number): job_id for number, job_id in ids.items()}}
    files.create(
        directory / "slurm.json",
        files.encode({**content, "user": process.current().user, "submitted": time.time()}),
    )


def _give_back(store: Store, job: Job, tasks: Iterable[Task], reason: str) -> None:
    """End the places that were taken for these: they are owed, and say why."""
    for task in tasks:
        place = attempt.newest(store.queued(task.key))
        if place and place.job == job.token:
            attempt.end(place, "dropped", f"not submitted: {reason}")


def _is_there(store: Store, need: Mapping[str, str]) -> bool:
    return artifact.holds(store.root / need["home"], need["key"], need["path"]) is not None


def _name_elsewhere(store: Store, key: str) -> str | None:
    """The scheduler's name for the task that is going to make this, if there is one."""
    place = attempt.newest(store.queued(key))
    if place is None or place.ending() is not None or not isinstance(store.scheduler, SlurmScheduler):
        return None
    name = store.scheduler.task_name(store.job(place.job), key)
    last = attempt.newest(store.attempts(key))
    verdict = store.scheduler.will_run(store.job(place.job), key, place, None) if name else None
    over = last is not None and last.job == place.job and last.ending() is not None
    return name if verdict and verdict.life is not Life.DEAD and not over else None
