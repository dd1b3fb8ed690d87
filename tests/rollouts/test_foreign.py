"""Files of other programs: whose a row is must never depend on where it stands."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.errors import UserError
from holdfast.rollouts import foreign

PROMPTS = [{"game_id": number, "seed": 100 + number, "dim_board": [4, 4]} for number in range(1, 6)]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def done(prompt: dict[str, Any], reward: float = 1.0) -> dict[str, Any]:
    return {"prompt": prompt, "response": {"output": []}, "reward": reward, "success": True, "num_steps": 3}


def test_rows_in_any_order_count_for_their_prompts(tmp_path: Path) -> None:
    rows = [done(prompt) for prompt in PROMPTS[:3] for _ in range(4)] + [done(PROMPTS[3])]
    random.Random(3).shuffle(rows)
    prompts = write(tmp_path / "prompts.jsonl", PROMPTS)
    found = foreign.remaining(prompts, write(tmp_path / "rollouts.jsonl", rows), 4)
    assert (found.wanted, found.done) == (20, 13)
    assert found.missing == {"4": 3, "5": 4}
    assert foreign.write_remaining(found, prompts, tmp_path / "left.jsonl", each=False) == 2
    assert [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()] == PROMPTS[3:]
    assert foreign.write_remaining(found, prompts, tmp_path / "left.jsonl", each=True) == 7


def test_what_counts_for_nothing_is_named_with_its_line(tmp_path: Path) -> None:
    rows: list[Any] = [done(PROMPTS[0]), "{not json", {"prompt": PROMPTS[1], "error": {"type": "timeout"}}]
    rows += [done({"game_id": 99}), done(PROMPTS[0])]
    path = write(tmp_path / "rollouts.jsonl", rows)
    with open(path, "a") as file:
        file.write('{"prompt": {"game_id": 2}, "rew')
    found = foreign.remaining(write(tmp_path / "prompts.jsonl", PROMPTS), path, 1)
    assert found.done == 1 and set(found.missing) == {"2", "3", "4", "5"}
    assert found.problems[0].startswith("line 2 is not JSON") and found.problems[1].startswith("line 6 is torn")
    assert found.strangers == 1 and found.surplus == {"1": 1}


def test_rows_of_nemo_gym_are_known_by_what_was_asked(tmp_path: Path) -> None:
    asked = [{"responses_create_params": {"input": [{"role": "user", "content": f"{n}?"}]}} for n in range(3)]
    rows = [{**asked[n], "response": {}, "reward": 0.5, "_ng_task_index": 7, "_ng_rollout_index": 0} for n in (2, 2, 0)]
    rows.append({**asked[1], "reward": 0.0, "_ng_failure_class": "timeout_exceeded"})
    found = foreign.remaining(write(tmp_path / "prompts.jsonl", asked), write(tmp_path / "rollouts.jsonl", rows), 2)
    assert found.done == 3 and sorted(found.missing.values()) == [1, 2]


def test_a_prompt_without_an_id_is_known_by_its_contents(tmp_path: Path) -> None:
    prompts = [{"question": "a"}, {"question": "b"}]
    found = foreign.remaining(
        write(tmp_path / "prompts.jsonl", prompts), write(tmp_path / "rollouts.jsonl", [done(prompts[1])]), 1
    )
    assert found.done == 1 and len(found.missing) == 1
    assert foreign.write_remaining(found, tmp_path / "prompts.jsonl", tmp_path / "left", each=False) == 1
    assert json.loads((tmp_path / "left").read_text()) == prompts[0]


def test_bad_json_in_the_prompts_is_named_by_its_line(tmp_path: Path) -> None:
    rows: list[Any] = [{"id": str(number)} for number in range(72)] + ["{nonsense"]
    with pytest.raises(UserError, match="line 73"):
        foreign.remaining(write(tmp_path / "prompts.jsonl", rows), write(tmp_path / "r", []), 1)
