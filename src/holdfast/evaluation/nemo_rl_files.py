"""The files that NeMo RL's `run_eval.py` writes to `eval.save_path`, for the programs that read them.

As in nemo_rl/evals/eval.py of August 2026: `config.json` beside `evaluation_data.json`, whose rows are prompt by prompt
with all responses to one together; what is no JSON there (`message_log`, `extra_env_info`) is Python's `str()` of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from holdfast.core import files


def write(directory: Path, rows: Path, params: Mapping[str, Any]) -> None:
    """Both files, from the rows of an evaluation in the order of its prompts."""
    files.make_directories(directory)
    files.replace(directory / "config.json", json.dumps(_config(params), indent=2).encode())
    content = {"evaluation_data": list(_rows(rows))}
    files.replace(directory / "evaluation_data.json", json.dumps(content, indent=2, ensure_ascii=False).encode())


def _config(params: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_name": params.get("model_name") or params["model"],
        "dataset_name": params["settings"].get("name", params["environment"]),
        "metric": params["metric"],
        "k_value": params["k"],
        "num_tests_per_prompt": params["repeats"],
        "temperature": params["temperature"],
        "top_p": params["top_p"],
        "top_k": -1 if params["top_k"] is None else params["top_k"],
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            log = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]
            yield {
                "prompt": row["prompt"],
                "response": row["response"],
                "reward": row["reward"],
                "message_log": str(log),
                "extra_env_info": str({"id": row["id"], "repeat": row["repeat"]}),
                "sample_index": number,
            }
