"""Metrics made in one pass over a file must be those of rows that are all held, to the last digit."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.evaluation import reference_metrics

from holdfast.evaluation import published
from holdfast.evaluation.intervals import bootstrap_interval
from holdfast.evaluation.metrics import summarise
from holdfast.evaluation.recorded import RUN, record, spread
from holdfast.rollouts.collection import Row, Sample

REWARDS: dict[str, list[float]] = {
    "binary": [0, 1.0],
    "shares": [0.1, 0.2, 0.7, 1 / 3, 1.0],
    "real": [-3.7, 0.1, 19.3, 2e100, 1e-9, 7],
}
ANSWERS: dict[str, list[str | None]] = {
    "none": [None],
    "some": [None, "4", "5"],
    "many": [f"answer {number}" for number in range(60)],
}


def draw_rows(draw: random.Random, prompts: int, repeats: int, kind: str, answers: str) -> Iterator[Row]:
    """Rows of a collection with gaps, in order; of some it is not known how long they took or how they ended."""
    for prompt in range(prompts):
        for repeat in range(repeats):
            if draw.random() < 0.8:
                yield draw_row(draw, f"p{prompt}", repeat, kind, answers)


def draw_row(draw: random.Random, prompt: str, repeat: int, kind: str, answers: str) -> Row:
    started = draw.uniform(0, 50)
    row: Row = {"schema": 1, "id": prompt, "repeat": repeat, "reward": draw.choice(REWARDS[kind]), "response": "…"}
    more: Row = {
        "success": draw.choice([True, False]),
        "answer": draw.choice(ANSWERS[answers]),
        "finish": draw.choice(["length", "stop", None]),
        "usage": draw.choice(
            [None, {"prompt_tokens": draw.randrange(9), "completion_tokens": draw.choice([7, 0.5, -1, 2**40])}]
        ),
        "timing": draw.choice([None, {"started": started, "finished": started + draw.random()}]),
    }
    return row | {name: value for name, value in more.items() if draw.random() < 0.9}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    prompts=st.sampled_from([1, 2, 29, 30, 47]),
    repeats=st.sampled_from([1, 2, 5, 8]),
    kind=st.sampled_from(sorted(REWARDS)),
    answers=st.sampled_from(sorted(ANSWERS)),
)
def test_what_is_published_of_rows_that_stream_is_what_it_was_of_rows_in_memory(
    tmp_path: Path, seed: int, prompts: int, repeats: int, kind: str, answers: str
) -> None:
    rows = list(draw_rows(random.Random(seed), prompts, repeats, kind, answers))
    if not rows:
        return
    path, ids = tmp_path / "rollouts.jsonl", [f"p{number}" for number in range(prompts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = reference_metrics.summarise({Sample(row["id"], row["repeat"]): row for row in rows}, ids, repeats)
    found = summarise(published.read(path), ids, repeats)
    assert json.dumps(found) == json.dumps(expected)


def test_long_columns_are_sorted_in_runs_to_the_same_numbers() -> None:
    draw = random.Random(1)
    rows = list(draw_rows(draw, 2 * RUN // 3, 2, "shares", "some"))
    assert len(rows) > RUN
    ids = [f"p{number}" for number in range(2 * RUN // 3)]
    _, spent = record(rows, ids, 2)
    spans = [(row["timing"]["started"], row["timing"]["finished"]) for row in rows if row.get("timing")]
    seconds = [finished - started for started, finished in spans]
    assert spent.time() == {"request": reference_metrics.spread(seconds), "busy": reference_metrics.busy(spans)}
    values = [draw.random() for _ in range(3 * RUN + 1)]
    for count in (RUN - 1, RUN, RUN + 1, len(values)):
        assert spread(values[:count]) == reference_metrics.spread(values[:count])


@pytest.mark.parametrize("prompts", [31, 800])
def test_the_interval_does_not_depend_on_how_many_are_drawn_at_a_time(prompts: int) -> None:
    values = [random.Random(number).random() for number in range(prompts)]
    expected = reference_metrics.bootstrap(values)
    for cells in (1, 1000, 7777, 1 << 30):
        assert bootstrap_interval(values, cells=cells) == expected


def test_a_row_that_is_out_of_order_is_refused_and_never_left_out() -> None:
    def row(prompt: str, repeat: int) -> dict[str, Any]:
        return {"id": prompt, "repeat": repeat, "reward": 1.0}

    for rows in (
        [row("p", 0), row("q", 0), row("p", 1)],
        [row("p", 1), row("p", 0)],
        [row("p", 0), row("p", 0)],
        [row("stranger", 0)],
    ):
        with pytest.raises(ValueError, match="not in the order"):
            summarise(rows, ["p", "q"], 2)


def test_a_file_in_no_order_is_read_in_order(tmp_path: Path) -> None:
    samples = [("q", 1), ("p", 0), ("q", 0), ("p", 1), ("q", 1)]
    rows = [{"id": name, "repeat": repeat, "reward": float(at)} for at, (name, repeat) in enumerate(samples)]
    path = tmp_path / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = published.survey(path)
    assert found == (["q", "p"], 2, False)
    assert [row["reward"] for row in published.read_in_order(path, found)] == [2.0, 4.0, 1.0, 3.0]
    path.write_text("".join(json.dumps(rows[at]) + "\n" for at in (2, 0, 1, 3)))
    assert published.survey(path).is_ordered


def test_a_row_with_what_json_cannot_say_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    path.write_text('{"id": "p", "repeat": 0, "reward": 1.0, "info": {"loss": NaN}}\n')
    (row,) = published.read(path)
    assert row["reward"] == 1.0


def test_a_row_takes_few_bytes_whatever_it_holds() -> None:
    count = 40_000
    ids = [f"p{number}" for number in range(count // 16)]
    draw = random.Random(2)
    stream = (
        draw_row(draw, each, repeat, "real", "some") | {"response": "x" * 1000} for each in ids for repeat in range(16)
    )
    record([], [], 1)
    tracemalloc.start()
    held = record(stream, ids, 16)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(held[0]) == len(ids) and used / count < 48
    assert numpy.asarray(held[0].rewards).nbytes == 8 * count
