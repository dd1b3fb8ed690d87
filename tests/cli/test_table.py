"""A script that goes by the exit code is told of what is owed, and of nothing else."""

from __future__ import annotations

import pytest

from holdfast.cli.table import exit_code
from holdfast.core.plan import Standing, State
from holdfast.core.record import Record
from holdfast.core.stage import Ref, Stage

MODEL = Stage("convert", 1, {})
SCORE = Stage("evaluate", 1, {}, {"model": Ref(MODEL.key)})


@pytest.mark.parametrize(
    ("model", "score", "code"),
    [
        (State.COMPLETE, State.COMPLETE, 0),
        (State.EVICTED, State.COMPLETE, 0),
        (State.EVICTED, State.RUNNING, 3),
        (State.EVICTED, None, 3),
        (State.OWED, State.COMPLETE, 3),
    ],
)
def test_what_served_and_went_from_the_cache_is_not_owed(model: State, score: State | None, code: int) -> None:
    standings = [Standing(Record(MODEL, "model", "model"), model, "")]
    if score:
        standings.append(Standing(Record(SCORE, "score", "score"), score, ""))
    assert exit_code(standings) == code
