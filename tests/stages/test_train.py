"""A training run publishes whole checkpoints, goes on from the newest that verifies, and says what is still owed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.tiny import make_output, write_tiny

from holdfast.core import artifact
from holdfast.core.errors import ConfigError, Stopped
from holdfast.stages.train import Train

pytestmark = pytest.mark.train
KIND = Train()
PARAMS: dict[str, Any] = {
    "run": "a",
    "environment": "addition",
    "steps": 4,
    "save_at": [1],
    "save_every": 3,
    "completions": 8,
    "group": 4,
    "max_tokens": 2,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model"))


def run(model: Path, directory: Path, attempt: int, **environ: str) -> None:
    KIND.run(KIND.parse(PARAMS), {"model": model}, make_output(directory, attempt, environ=environ))


def test_a_stopped_run_goes_on_and_a_damaged_checkpoint_is_set_aside(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home, state, params = tmp_path / "home", tmp_path / "home" / "training_state", KIND.parse(PARAMS)
    with pytest.raises(Stopped, match="step 2 of 4"):
        run(model, tmp_path, 1, HOLDFAST_STOP_AFTER="2")
    assert KIND.owed(params, home) == "ended without its last checkpoint: step_4"
    assert {path.name for path in state.glob("step_*")} == {"step_1", "step_2", "step_latest"}

    (state / "step_2" / "optimizer.pt").write_bytes(b"torn")
    run(model, tmp_path, 2)
    assert "step_2 does not verify" in capfd.readouterr().err
    assert KIND.owed(params, home) is None
    assert (state / "step_latest").readlink() == Path("step_4")
    assert all(artifact.read(state / f"step_{step}") for step in (1, 3, 4))
    steps = [line for line in (home / "logs" / "train_log.jsonl").read_text().splitlines() if '"attempt": 2' in line]
    assert len(steps) == 3, "goes on behind step 1"

    (state / "step_latest").unlink()
    run(model, tmp_path, 3)
    assert (state / "step_latest").readlink() == Path("step_4"), "nothing is left to train, the link is mended"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"group": 3}, "multiple of group"),
        ({"save_at": [5]}, "save_at"),
        ({"lerning_rate": 1}, "lerning_rate"),
        ({"steps": 0}, "steps"),
    ],
)
def test_impossible_settings_are_refused_before_anything_loads(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        KIND.parse({**PARAMS, **change})
    assert says in str(error.value)
