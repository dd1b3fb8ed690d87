"""Files of rollouts as the three programs write them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from holdfast.evaluation.analysis.coverage import Expected
from holdfast.evaluation.analysis.reading import Table, read
from holdfast.evaluation.analysis.summary import Analysis, summarise

Row = dict[str, Any]


def ours(name: str, repeat: int, reward: float, **more: Any) -> Row:
    """A row of a collection."""
    row = {"schema": 1, "id": name, "repeat": repeat, "reward": reward, "success": reward >= 1, "num_steps": 3}
    timing = {"started": 100.0 + repeat, "finished": 104.0 + repeat}
    usage = {"prompt_tokens": 10, "completion_tokens": 20 + repeat}
    return {**row, "finish": "stop", "tries": 1, "timing": timing, "usage": usage, "truncated": False, **more}


def failure(prompt: str, repeat: int, kind: str = "timeout") -> Row:
    return {"schema": 1, "id": prompt, "repeat": repeat, "error": {"type": kind, "message": "no answer"}, "attempt": 1}


def document(game: int, reward: float, calls: int = 1, **more: Any) -> Row:
    """A row as the document has it."""
    prompt = {"game_id": game, "seed": 93810, "dim_board": [4 + game % 2, 5], "box_type": game % 3}
    output = [{"type": "function_call", "name": "step", "arguments": "{}"}] * calls + [{"type": "message"}]
    response = {"output": output, "finish_reason": "stop"}
    return {"prompt": prompt, "response": response, "reward": reward, "success": reward > 1, "num_steps": calls, **more}


def gym(task: int, rollout: int, reward: float, calls: int = 1, **more: Any) -> Row:
    """A row of NeMo Gym's collector."""
    output = [{"type": "function_call", "name": "step", "call_id": "c"}] * calls + [{"type": "message", "content": []}]
    response = {"model": "Qwen3-4B", "output": output, "usage": {"input_tokens": 50, "output_tokens": 7}}
    params = {"input": [{"role": "user", "content": f"game {task}"}], "temperature": 0.6}
    index = {"_ng_task_index": task, "_ng_rollout_index": rollout, "agent_ref": {"name": "game_agent"}}
    return {"responses_create_params": params, "response": response, "reward": reward, **index, **more}


def write(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    """A line for each; text as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def table_of(path: Path, *more: Path, by: tuple[str, ...] = ()) -> Table:
    return read([path, *more], by)


def analysis_of(path: Path, *more: Path, by: tuple[str, ...] = (), **wanted: Any) -> Analysis:
    return summarise(read([path, *more], by), Expected(**wanted), name_file=lambda each: each.name)
