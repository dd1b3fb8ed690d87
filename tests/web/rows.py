"""Rows for tests of pages: games of Tetris as we write them, and the same as NeMo Gym and the document have them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MOVES = ("Left", "Right", "Down")
TOOL = {"role": "system", "content": "You play Tetris on a small board. Call the tool `step` with a list of moves."}


def boards(draw: random.Random, width: int = 5, height: int = 5) -> Iterator[tuple[str, str]]:
    """(move, board) of a piece of one cell that comes down, and lies there."""
    x, floor = draw.randrange(width), "".join(draw.choice("#_") for _ in range(width))
    for y in range(height):
        lines = ["_" * width] * (height - 1) + [floor]
        lines[y] = lines[y][:x] + "X" + lines[y][x + 1 :]
        yield MOVES[draw.randrange(3)] if y else "start", "\n".join(lines)


def game(prompt: int, repeat: int, **more: Any) -> Row:
    """One rollout of several turns, as a collection has it."""
    draw = random.Random(1000 * prompt + repeat)
    success = draw.random() < 0.3
    played = list(boards(draw))
    messages: list[Row] = [TOOL, {"role": "user", "content": f"Puzzle {prompt}. Clear a line."}]
    turns: list[Row] = []
    for number, (move, board) in enumerate(played[1:]):
        reward = 9.9 if success and number == len(played) - 2 else -0.1
        arguments = json.dumps({"actions": [move]})
        call = {"id": f"call-{number}", "type": "function", "function": {"name": "step", "arguments": arguments}}
        messages.append({"role": "assistant", "content": f"I move {move}.", "tool_calls": [call]})
        told = json.dumps({"observation": board, "reward": reward, "done": False})
        messages.append({"role": "tool", "tool_call_id": f"call-{number}", "name": "step", "content": told})
        step = {"action": move, "reward": reward, "board": board}
        info = {"board": board, "before": played[number][1], "steps": [step]}
        usage = {"prompt_tokens": 200, "completion_tokens": draw.randrange(40, 400)}
        turns.append({"reward": reward, "info": info, "usage": usage, "finish": "tool_calls", "seconds": 0.7})
    tokens = sum(turn["usage"]["completion_tokens"] for turn in turns)
    began = 1_000_000.0 + 10 * prompt + repeat
    return {
        "schema": 1,
        "id": f"puzzle-{prompt}",
        "repeat": repeat,
        "prompt": {"game_id": prompt, "seed": 93810 + prompt, "dim_board": [5, 5], "box_type": prompt % 4},
        "response": {"output": [{"type": "text", "text": m["content"]} for m in messages], "finish_reason": "stop"},
        "reward": round(sum(turn["reward"] for turn in turns), 1),
        "success": success,
        "num_steps": len(turns),
        "seed": 7,
        "usage": {"prompt_tokens": 800, "completion_tokens": tokens},
        "timing": {"started": began, "finished": began + draw.uniform(1, 90)},
        "attempt": 1,
        "tries": 1,
        "finish": "stop",
        "messages": messages,
        "turns": turns,
        "tool_calls": len(turns),
        "terminated": True,
        "truncated": draw.random() < 0.1,
        "info": {},
        **more,
    }


def failure(prompt: int, repeat: int, kind: str = "timeout", finished: float = 1.0) -> Row:
    """A row of what came to nothing."""
    error = {"type": kind, "message": f"no answer within 600 s: {kind}"}
    timing = {"started": 0.0, "finished": finished}
    return {"schema": 1, "id": f"puzzle-{prompt}", "repeat": repeat, "error": error, "timing": timing, "attempt": 1}


def nemo_gym(task: int, rollout: int) -> Row:
    """A line of NeMo Gym's rollouts."""
    call = {"type": "function_call", "name": "step", "arguments": '{"actions": []}', "call_id": "c1"}
    output = {
        "type": "function_call_output",
        "call_id": "c1",
        "output": '{"observation": "X___\\n____\\n", "reward": 0}',
    }
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"Done {task}."}]}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "First I look."}]}
    return {
        "_ng_task_index": task,
        "_ng_rollout_index": rollout,
        "responses_create_params": {"input": [{"role": "user", "content": f"Task {task}"}], "tools": []},
        "response": {"output": [thought, call, output, said], "usage": {"input_tokens": 10, "output_tokens": 42}},
        "reward": task / 10,
    }


def document(prompt: int) -> Row:
    """A line of `rollouts.jsonl` as the document has it: no repeat, the request inside the prompt."""
    call = {"type": "function_call", "name": "step", "arguments": '{"actions": ["Down"]}', "call_id": "c1"}
    request = {"input": [{"role": "user", "content": f"Play {prompt}"}]}
    return {
        "prompt": {
            "game_id": prompt,
            "seed": 93810,
            "dim_board": [5, 5],
            "box_type": 0,
            "responses_create_params": request,
        },
        "response": {"output": [call], "finish_reason": "stop"},
        "reward": 9.7,
        "success": True,
        "num_steps": 8,
    }


def lines(rows: Iterable[Any]) -> bytes:
    """Rows as they lie in a file."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def write(path: Path, rows: Iterable[Any]) -> Path:
    """A file of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines(rows))
    return path
