"""Programs that read what NeMo RL's evaluation leaves can read what ours leaves."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from holdfast.evaluation.nemo_rl_files import write

PARAMS = {
    "model": "",
    "environment": "dataset",
    "settings": {"name": "HuggingFaceH4/MATH-500"},
    "metric": "pass@k",
    "k": 1,
    "repeats": 2,
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": None,
}


def test_rows_lie_prompt_by_prompt_and_any_metric_can_be_computed_from_them(tmp_path: Path) -> None:
    rows = [
        {"id": each, "repeat": repeat, "prompt": f"what is {each}?", "response": "é\n'x'", "reward": float(repeat)}
        for each in "ab"
        for repeat in range(2)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(tmp_path / "out", tmp_path / "rows.jsonl", PARAMS)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["dataset_name"], config["num_tests_per_prompt"], config["top_k"]) == (
        "HuggingFaceH4/MATH-500",
        2,
        -1,
    )
    found = json.loads((tmp_path / "out" / "evaluation_data.json").read_text())["evaluation_data"]
    assert [row["sample_index"] // 2 for row in found] == [0, 0, 1, 1]
    assert [row["reward"] for row in found] == [0.0, 1.0, 0.0, 1.0]
    log = ast.literal_eval(found[0]["message_log"])
    assert [message["role"] for message in log] == ["user", "assistant"] and log[1]["content"] == "é\n'x'"
