"""The table and the figure say what the rows say."""

import json
from pathlib import Path

import pytest

from holdfast.core.record import Record
from holdfast.core.stage import Stage
from holdfast.core.store import Store
from holdfast.evaluation.statistics import paired_gain
from holdfast.pipelines import learning_curve
from holdfast.pipelines.learning_curve import Evaluated

BASE = {"a": [0.0, 1.0], "b": [0.0, 0.0], "c": [1.0, 1.0]}
LATER = {"a": [1.0, 1.0], "b": [1.0, 0.0], "c": [1.0, 1.0]}


def evaluated(store: Store, run: str | None, step: int, rewards: dict[str, list[float]]) -> Evaluated:
    record = Record(Stage("evaluate", 1, {"run": run, "step": step}), f"{run}-{step}", f"evals/{run}-{step}")
    home = store.home(record)
    home.mkdir(parents=True)
    rows = [{"id": prompt, "repeat": k, "reward": r} for prompt, each in rewards.items() for k, r in enumerate(each)]
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Evaluated(run, step, record)


@pytest.fixture
def curve(tmp_path: Path) -> learning_curve.Curve:
    store = Store(tmp_path)
    return learning_curve.read(
        [
            evaluated(store, None, 0, BASE),
            evaluated(store, "one", 10, BASE),
            evaluated(store, "one", 20, LATER),
            evaluated(store, "two", 20, LATER),
        ],
        store,
    )


def test_gain_is_paired_by_prompt_and_only_of_the_last_steps(curve: learning_curve.Curve) -> None:
    expected = paired_gain(BASE, LATER)
    assert curve.final_gain == expected
    assert [point.gain and point.gain.value for point in curve.points] == [None, 0.0, expected.value, expected.value]


def test_table_has_a_line_per_checkpoint_in_the_order_of_steps(curve: learning_curve.Curve) -> None:
    table = learning_curve.lines(curve)
    assert [line.split()[:2] for line in table[1:5]] == [["start", "0"], ["one", "10"], ["one", "20"], ["two", "20"]]
    assert table[1].split()[2] == "0.500" and "+0.333" in table[4]
    assert table[-1].startswith("paired gain of 2 runs at their last step: +0.333")


def test_figure_is_replaced_whole(curve: learning_curve.Curve, tmp_path: Path) -> None:
    figure = tmp_path / "curve.png"
    figure.write_bytes(b"an older figure")
    learning_curve.draw(curve, figure, "title with $ and _", {10: "stopped"})
    assert figure.read_bytes().startswith(b"\x89PNG") and figure.read_bytes().rstrip().endswith(b"IEND\xaeB`\x82")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".png"] == ["curve.png"]
