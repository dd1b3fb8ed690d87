"""`holdfast.log`: whole lines whoever else writes, nothing outside of a stage, and no step lost to a full disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runs import environment

import holdfast

LOG = """
import sys, holdfast
for step in range(int(sys.argv[2])):
    holdfast.log({"writer": int(sys.argv[1]), "padding": 1.5, **{f"m{i}": i for i in range(40)}}, step=step)
"""
FULL = """
import os, resource, holdfast
path = os.environ["HOLDFAST_METRICS"]
for step in range(100):
    if step == 20:
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 130, resource.RLIM_INFINITY))
    if step == 60:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    holdfast.log(step=step, loss=1 / (step + 1))
"""


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_values_are_appended_with_step_name_time_and_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    monkeypatch.setenv("HOLDFAST_METRICS", str(path))
    monkeypatch.setenv("HOLDFAST_ATTEMPT_NUMBER", "3")
    holdfast.log(step=7, loss=0.5, reward=True)
    holdfast.log({"val/acc": 1}, step=8, loss=float("inf"))
    found = [(row["step"], row["name"], row["value"], row["attempt"]) for row in rows(path)]
    assert found == [
        (7, "loss", 0.5, 3),
        (7, "reward", 1.0, 3),
        (8, "val/acc", 1.0, 3),
        (8, "loss", "Infinity", 3),
    ]
    assert rows(path)[0]["time"] == rows(path)[1]["time"]


def test_outside_of_a_stage_nothing_happens(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import holdfast; holdfast.log(step=1, loss=2)"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        check=True,
    )
    assert done.stdout + done.stderr == b"" and list(tmp_path.iterdir()) == []


def test_importing_holdfast_into_a_training_script_brings_in_the_standard_library_alone() -> None:
    program = (
        "import sys; before = set(sys.modules); import holdfast; holdfast.log(step=1, x=1)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "sys.exit(', '.join(sorted(new - sys.stdlib_module_names - {'holdfast'})) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("step", "values"), [(1.5, {"loss": 1}), (1, {"loss": "low"}), (1, {"loss": None}), (1, {"step": 2})]
)
def test_what_is_no_number_is_refused_at_the_desk_already(step: object, values: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"step|loss"):
        holdfast.log(values, step=step)  # type: ignore[arg-type]  # the mistake under test


def test_lines_of_many_writers_are_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    env = environment(HOLDFAST_METRICS=str(path))
    writers = [subprocess.Popen([sys.executable, "-c", LOG, str(n), "50"], env=env) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    found = rows(path)
    assert len(found) == 4 * 50 * 42
    for start in range(0, len(found), 42):
        call = found[start : start + 42]
        assert [row["name"] for row in call[:2]] == ["writer", "padding"]
        assert len({(row["step"], row["time"]) for row in call}) == 1


def test_a_torn_line_of_a_program_that_died_does_not_take_the_next_one_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "na')
    monkeypatch.setenv("HOLDFAST_METRICS", str(path))
    holdfast.log(step=2, loss=1)
    assert json.loads(path.read_text().splitlines()[-1])["step"] == 2


def test_no_step_is_lost_to_a_full_disk_and_the_program_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    env = environment(HOLDFAST_METRICS=str(path))
    done = subprocess.run([sys.executable, "-c", FULL], env=env, capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 1 and "metrics are kept" in done.stderr
    steps = []
    for line in path.read_text().splitlines():
        try:
            steps.append(json.loads(line)["step"])
        except ValueError:
            continue  # the line that was cut
    assert steps == list(range(100))
