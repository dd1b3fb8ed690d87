"""The table of a sweep: every point, its last and best value, and nothing that was never measured."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.launches import launch
from tests.runs import hold

from holdfast.pipelines import sweep_results
from holdfast.pipelines.sweep_results import curves

SCRIPT = """
import json, os, sys
given = dict(token.split("=") for token in sys.argv[1:])
lr, kl = float(given["lr"]), float(given["kl"])
if lr == 3 and kl == 1: sys.exit("CUDA out of memory")
with open(os.environ["HOLDFAST_METRICS"], "a") as file:
    for step, value in enumerate([lr, lr * kl, float("nan")], 1):
        file.write(json.dumps({"step": step, "name": "reward", "value": value, "time": 0, "attempt": 1}) + "\\n")
        file.write(json.dumps({"step": step, "name": "loss", "value": 1 / lr, "time": 0, "attempt": 1}) + "\\n")
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with one point that failed."""
    directory = tmp_path_factory.mktemp("swept")
    (directory / "train.py").write_text(SCRIPT)
    (directory / "sweep.yaml").write_text("script_path: train.py\nlr: [1, 2, 3]\nkl: [1, 5]\n")
    launch(directory / "root", "--sweep", "sweep.yaml", "--max-parallel", "2", code=1)
    return directory / "root"


def test_table_shows_points_state_last_and_best(swept: Path) -> None:
    done = hold(swept, "status", "train_sweep", code=1)
    head, *rows = [line.split() for line in done.stdout.splitlines() if line][:7]
    assert head == ["lr", "kl", "state", "step", "reward", "best", "at", "step"]
    assert rows[0] == ["1", "1", "complete", "3", "nan", "1", "1"]
    assert rows[5] == ["3", "5", "complete", "3", "nan", "15", "2", "*"]
    assert rows[4][:4] == ["3", "1", "owed", "failed"]


def test_lower_is_better_for_a_loss_and_on_request(swept: Path) -> None:
    rows = json.loads(hold(swept, "status", "train_sweep", "--metric", "loss", "--json", code=1).stdout)
    assert rows[0]["best"] == {"step": 1, "value": 1.0} and rows[4]["best"] is None
    text = hold(swept, "status", "train_sweep", "--lower", code=1).stdout
    assert next(line for line in text.splitlines() if line.endswith("*")).split()[:2] == ["1", "1"]


def test_csv_has_full_names_and_every_point(swept: Path) -> None:
    done = hold(swept, "status", "train_sweep", "--csv", code=1)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 6 and rows[5]["point"] == "train_sweep/lr-3+kl-5"
    assert rows[5]["best reward"] == "15.0" and rows[4]["best reward"] == "" and rows[4]["state"] == "owed"


def test_figure_is_drawn_over_the_swept_values(swept: Path, tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    hold(swept, "status", "train_sweep", "--figure", str(figure), code=1)
    assert figure.read_bytes().startswith(b"\x89PNG") and figure.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train_sweep", "--metric", "rewrd"], "did you mean `reward`?"),
        (["--csv"], "sweeps: train_sweep"),
        (["train_swep"], "no stage is called `train_swep`"),
    ],
)
def test_mistakes_are_explained(swept: Path, arguments: list[str], told: str) -> None:
    assert told in hold(swept, "status", *arguments, code=2).stderr


def test_what_a_later_attempt_did_again_replaces_what_was_there(tmp_path: Path) -> None:
    rows = [(1, 1, 0.1), (2, 1, 0.2), (3, 1, 0.3), (2, 2, 0.25), (3, 2, 0.35), (4, 2, 0.4)]
    lines = [
        json.dumps({"step": step, "name": "r", "value": value, "attempt": attempt}) for step, attempt, value in rows
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 5, "na']))
    assert curves(tmp_path / "metrics.jsonl") == {"r": [(1, 0.1), (2, 0.25), (3, 0.35), (4, 0.4)]}


@given(st.binary(max_size=200))
def test_any_bytes_are_no_metrics_and_no_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "metrics.jsonl"
    path.write_bytes(data + b'\n{"step": 1, "name": "r", "value": 2}\n')
    assert curves(path)["r"][-1] == (1, 2.0)
    assert sweep_results.PREFERRED
