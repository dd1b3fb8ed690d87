"""The example of the guide is an environment that works."""

from __future__ import annotations

from pathlib import Path

from tests.rollouts.fake_engine import running
from tests.rollouts.play import collect_episodes

from holdfast.environments.prompt_set import OwnPrompts

NAME = "examples.guess_number:GuessNumber"


def test_the_example_is_played(tmp_path: Path) -> None:
    """The fake engine guesses the first number of the question, 1, over and over."""
    prompts = OwnPrompts({"one": {"id": "one", "number": 1}, "two": {"id": "two", "number": 2}})
    with running(tmp_path, "--endless") as engine:
        result = collect_episodes(tmp_path, engine.url, NAME, prompts, settings={"most": 5}, turns=4)
    one, two = (result.rows[sample] for sample in sorted(result.rows))
    assert one["reward"] == 1.0 and one["success"] and one["num_steps"] == 1
    assert two["reward"] == -0.4 and not two["success"] and two["info"]["ended"] == "turn_limit"
