"""Scripts for sbatch, held against files that a person has read. `HOLDFAST_GOLDEN=write` writes them anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.core.errors import UserError
from holdfast.core.job import Job, Task
from holdfast.execute import launchers, sbatch
from holdfast.execute.arrays import Array, divide
from holdfast.execute.sbatch import Site

GOLDEN = Path(__file__).parent / "golden"
JOB = Job("0123456789abcdef", "/shared/runs", "/shared/code", (), ("/shared/venv/bin/python",), executor="slurm")
DIRECTORY = Path("/shared/runs/.holdfast/jobs/0123456789abcdef")
SITE = Site(largest_array=1001, kill_wait=30)


def task(name: str, **fields: object) -> Task:
    return Task(**{"key": f"key-of-{name}", "name": name, "home": name, "exclusive": True, **fields})  # type: ignore[arg-type]


POINTS = [task(f"grid/lr-{number}e-6", gpus=8, nodes=2, command=("python", "train.py")) for number in range(1, 4)]
FULL = replace(
    JOB,
    time="4:00:00",
    account="rl",
    partition="gpu long",
    max_parallel=2,
    setup=("module load cuda", "ulimit -n 65536"),
    sbatch_args=("--qos=high", "--exclusive"),
)
CASES = {
    "one": (JOB, [task("one")]),
    "sweep": (FULL, POINTS),
    "odd_names": (replace(JOB, root="/a b/it's"), [task('say "hi" $HOME `id` \\ ü')]),
}


@pytest.mark.parametrize("name", CASES)
def test_script_is_the_one_that_was_read(name: str) -> None:
    job, tasks = CASES[name]
    directory = Path(job.root) / ".holdfast" / "jobs" / job.token
    (array,) = divide(tasks, SITE.largest_array)
    text = sbatch.render(array, job, directory, "supervisor.pyz", SITE)
    golden = GOLDEN / f"{name}.sh"
    if os.environ.get("HOLDFAST_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


def test_table_gives_back_every_key() -> None:
    (array,) = divide([*POINTS, task("tab\tname")][:3], 10)
    assert sbatch.parse_table(sbatch.table(array)) == {each.key: index for index, each in array.tasks.items()}
    (single,) = divide([task("one")], 10)
    assert sbatch.parse_table(sbatch.table(single)) == {"key-of-one": None}


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (Array(2, {0: task("a")}, after=((1, 3),)), "afterok:12_3"),
        (Array(2, {0: task("a")}, after=((1, None),)), "afterok:12"),
        (Array(2, {0: task("a")}, beside=1), "aftercorr:12"),
        (Array(2, {0: task("a")}, beside=1, outside=("7_1", "8")), "aftercorr:12,afterok:7_1:8"),
        (Array(2, {0: task("a")}), ""),
    ],
)
def test_dependency_names_what_it_waits_for(array: Array, words: str) -> None:
    assert sbatch.dependency(array, {1: "12"}) == words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("90:30", 5430), ("4:00:00", 14400), ("1-12", 129600), ("1-12:30", 131400), ("2-0:00:01", 172801)],
)
def test_time_limits_are_read_as_sbatch_reads_them(text: str, seconds: int) -> None:
    assert sbatch.seconds(text) == seconds


@pytest.mark.parametrize("text", ["4h", "", "-1", "1:2:3:4", "4:00:00 "])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no time"):
        sbatch.seconds(text)


def test_warning_comes_at_the_latest_at_half_time() -> None:
    assert sbatch.lead(replace(JOB, time="4:00:00", lead=180.0)) == 180
    assert sbatch.lead(replace(JOB, time="1", lead=180.0)) == 30


def test_comment_tells_our_jobs_from_those_of_others() -> None:
    assert sbatch.parse_comment(sbatch.comment("abc", 7)) == ("abc", 7)
    assert sbatch.parse_comment("holdfast:") is None
    assert sbatch.parse_comment("somebody's job:1") is None


def wrap(job: Job, task: Task, command: tuple[str, ...]) -> list[str]:
    return launchers.wrap(command, job, task, DIRECTORY / "supervisor.pyz", {})


def test_plain_command_is_started_as_it_is() -> None:
    assert wrap(JOB, POINTS[0], ("python", "train.py", "a b")) == ["python", "train.py", "a b"]


def test_container_is_given_to_srun_with_all_that_must_be_seen_in_it() -> None:
    job = replace(JOB, container="/images/rl.sqsh", mounts="/data:/data,/shared/runs:/shared/runs", env=("HF_TOKEN",))
    assert wrap(job, POINTS[0], ("python", "train.py")) == [
        "srun",
        "--overlap",
        "--export=ALL",
        "--nodes=1",
        "--ntasks=1",
        "--kill-on-bad-exit=1",
        "--container-image=/images/rl.sqsh",
        "--container-mounts=/data:/data,/shared/runs:/shared/runs,/shared/code:/shared/code",
        "--no-container-mount-home",
        "--container-workdir=/shared/code",
        "--container-env=HF_TOKEN",
        "python",
        "train.py",
    ]


def test_torchrun_comes_between_interpreter_and_script() -> None:
    one = replace(POINTS[0], nodes=1)
    job = replace(JOB, launcher="torchrun")
    run = ["-m", "torch.distributed.run", "--nproc-per-node=8", "--standalone"]
    assert wrap(job, one, ("/venv/bin/python3.11", "train.py", "x=1"))[1:] == [*run, "train.py", "x=1"]
    uv = wrap(job, one, ("uv", "run", "--extra", "gpu", "examples/train.py", "x=1"))
    assert uv == ["uv", "run", "--extra", "gpu", "python", *run, "examples/train.py", "x=1"]
    assert wrap(job, one, ("accelerate", "launch"))[-3:] == ["--no-python", "accelerate", "launch"]


def test_torchrun_over_nodes_is_started_on_each_with_its_rank() -> None:
    command = wrap(replace(JOB, launcher="torchrun"), POINTS[0], ("python", "train.py"))
    assert command[:6] == ["srun", "--overlap", "--export=ALL", "--nodes=2", "--ntasks=2", "--kill-on-bad-exit=1"]
    assert command[6:9] == ["sh", "-c", 'export PET_NODE_RANK="$SLURM_NODEID"; exec "$@"']
    assert "--nnodes=2" in command
