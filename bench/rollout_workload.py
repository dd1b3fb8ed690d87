"""Programs of `bench/analyze.py`, each a process of its own:

python bench/rollout_workload.py write FILE ROWS      rows of a collection, about 2.1 KB each, 16 to a prompt
python bench/rollout_workload.py pandas FILE          the statistics of the document's script, with pandas.read_json
python bench/rollout_workload.py lines FILE           the same, with json.loads for each line and a small DataFrame
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from typing import Any

REPEATS = 16
THOUGHT = "The board is five wide and the piece is at column two; moving it left fills the bottom row. "
JQ = """\
{
  count: length, min: (map(.reward) | min), max: (map(.reward) | max), mean: (map(.reward) | add / length),
  median: (map(.reward) | sort | .[length / 2 | floor]), success: (map(select(.success == true)) | length),
  common: (group_by(.reward) | map({reward: .[0].reward, count: length}) | sort_by(-.count) | .[:20]),
  tools: (map(.tool_calls) | {mean: (add / length), min: min, max: max}),
  by_calls: (group_by(.tool_calls) | map({calls: .[0].tool_calls, mean: (map(.reward) | add / length)}))
}
"""
"""The same statistics for `jq -s`, without Pearson's r."""


def write(path: str, count: int) -> None:
    """A file whose rewards and lengths differ from row to row, and whose transcripts are some of a few."""
    draw = random.Random(0)
    transcripts = [_transcript(draw) for _ in range(64)]
    with open(path, "w", buffering=1 << 20) as file:
        for first in range(0, count, REPEATS):
            file.writelines(_rows(first // REPEATS, draw, transcripts))


def _transcript(draw: random.Random) -> str:
    """Messages and turns as JSON, about 1.2 KB."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": THOUGHT * 2}]
    for turn in range(3):
        call = {"name": "step", "arguments": json.dumps({"actions": [draw.randrange(3), 2]})}
        tools = [{"id": f"call-{turn}", "type": "function", "function": call}]
        messages.append({"role": "assistant", "content": THOUGHT[: 40 + draw.randrange(40)], "tool_calls": tools})
        messages.append({"role": "tool", "tool_call_id": f"call-{turn}", "content": "____\\n_X__\\n##_#"})
    turns = [{"reward": -0.1, "finish": "tool_calls", "seconds": 3.1, "actions": [0, 2]}] * 3
    return f'"messages": {json.dumps(messages)}, "turns": {json.dumps(turns)}'


def _rows(prompt: int, draw: random.Random, transcripts: list[str]) -> Iterator[str]:
    level = draw.random() ** 3
    for repeat in range(REPEATS):
        calls = draw.randrange(1, 11)
        success = draw.random() < level
        started = 1.7e9 + prompt + repeat * 0.01
        prompt_row = f'{{"game_id": {prompt}, "dim_board": [{4 + prompt % 3}, 5], "box_type": {prompt % 4}}}'
        usage = f'{{"prompt_tokens": {900 + 40 * calls}, "completion_tokens": {draw.randrange(200, 4096)}}}'
        timing = f'{{"started": {started}, "finished": {started + 5 + calls}}}'
        reward = f'"reward": {10 * success - calls / 10:.1f}, "success": {str(success).lower()}'
        yield (
            f'{{"schema": 1, "id": "{prompt}", "repeat": {repeat}, "prompt": {prompt_row}, '
            f'"response": {{"output": [{_CALL * calls}{_SAID}], "finish_reason": "stop"}}, {reward}, '
            f'"num_steps": {calls + 2}, "seed": {draw.randrange(2**31)}, "usage": {usage}, "timing": {timing}, '
            f'"attempt": 1, "tries": 1, "finish": "stop", {draw.choice(transcripts)}, "tool_calls": {calls}, '
            '"terminated": true, "truncated": false, "info": {}}\n'
        )


_CALL = '{"type": "function_call", "name": "step"}, '
_SAID = '{"type": "message"}'


def with_pandas(path: str) -> None:
    """As most scripts do it."""
    import pandas  # type: ignore[import-untyped]

    report(pandas.read_json(path, lines=True))


def with_lines(path: str) -> None:
    """As careful scripts do it."""
    import pandas

    with open(path, "rb") as file:
        rows = (json.loads(line) for line in file)
        kept = [(row["reward"], row["success"], row["tool_calls"]) for row in rows]
    report(pandas.DataFrame(kept, columns=["reward", "success", "tool_calls"]))


def report(frame: Any) -> None:
    """What the document's script prints."""
    reward, calls = frame["reward"], frame["tool_calls"]
    print(len(frame), reward.min(), reward.max(), reward.mean(), reward.median(), frame["success"].sum())
    print(reward.value_counts().head(20))
    print(calls.mean(), calls.min(), calls.max(), calls.corr(reward))
    print(frame.groupby("tool_calls")["reward"].mean())


def main() -> None:
    action, path = sys.argv[1:3]
    if action == "write":
        write(path, int(sys.argv[3]))
    else:
        {"pandas": with_pandas, "lines": with_lines}[action](path)


if __name__ == "__main__":
    main()
