"""Programs of `bench/rollouts_memory.py`, each a process of its own that works on one collection in DIR:

write DIR ROWS OWED     a prompt set for so many rows, and all rows but OWED of them
collect DIR ROWS URL    the stage: have what is owed, publish all
decide DIR ROWS         what an attempt finds out before it asks for anything
import DIR ROWS         the other stage: take in what `collect` published

Rows are 2 KB, 16 to a prompt, and lie in their part as a collection has them: repeat by repeat. A rollout that is
played is one message.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.rollout_workload import REPEATS, THOUGHT

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.stages.problems import Problems
    from holdfast.stages.rollouts import RolloutParams

PROMPTS = "prompts.jsonl"
TRANSCRIPTS = 64


def write(directory: Path, count: int, owed: int) -> None:
    """What an earlier attempt left behind."""
    prompts = [_prompt(number) for number in range(count // REPEATS)]
    (directory / PROMPTS).write_text("".join(f"{prompt}\n" for prompt in prompts))
    if count == owed:
        return
    _, problems, out = open_stage(directory, "")
    with open(out.parts(problems.collection_key("asserted fake")) / "001-aaaa.jsonl", "w", buffering=1 << 20) as part:
        part.writelines(_rows(prompts, count - owed))


def _prompt(number: int) -> str:
    return json.dumps({"game_id": f"puzzle-{number}", "seed": number, "dim_board": [5, 5], "box_type": number % 3})


def _rows(prompts: list[str], count: int) -> Iterator[str]:
    draw = random.Random(0)
    transcripts = [_transcript(draw) for _ in range(TRANSCRIPTS)]
    for number in range(count):
        repeat, prompt = divmod(number, len(prompts))
        success = draw.random() < prompt / len(prompts)
        started = 1.7e9 + number / 400 + draw.random()
        usage = f'{{"prompt_tokens": {draw.randrange(900, 9000)}, "completion_tokens": {draw.randrange(200, 4096)}}}'
        yield (
            f'{{"schema": 1, "id": "puzzle-{prompt}", "repeat": {repeat}, "prompt": {prompts[prompt]}, '
            f'"reward": {10 * success - draw.randrange(1, 11) / 10:.1f}, "success": {str(success).lower()}, '
            f'"num_steps": 3, "seed": {draw.randrange(2**31)}, "usage": {usage}, "timing": {{"started": {started}, '
            f'"finished": {started + 5 * draw.random()}}}, "attempt": 1, "tries": 1, "model": "asserted", '
            f'"finish": "{"stop" if draw.random() < 0.9 else "length"}", {draw.choice(transcripts)}, "tool_calls": 3, '
            '"terminated": true, "truncated": false, "info": {}}\n'
        )


def _transcript(draw: random.Random) -> str:
    """A response, messages and turns as JSON, 1.7 KB."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": THOUGHT * 6}]
    for turn in range(3):
        call = {"name": "step", "arguments": json.dumps({"actions": [draw.randrange(3), 2]})}
        tools = [{"id": f"call-{turn}", "type": "function", "function": call}]
        messages.append({"role": "assistant", "content": THOUGHT[: 40 + draw.randrange(40)], "tool_calls": tools})
        messages.append({"role": "tool", "tool_call_id": f"call-{turn}", "content": "_____\n__X__\n_____\n##_##"})
    turns = [{"reward": -0.1, "finish": "tool_calls", "seconds": 3.1, "usage": {}, "info": {}}] * 3
    response = {"output": [{"type": "message"}], "finish_reason": "stop"}
    return f'"response": {json.dumps(response)}, "messages": {json.dumps(messages)}, "turns": {json.dumps(turns)}'


def open_stage(directory: Path, url: str) -> tuple[RolloutParams, Problems, Output]:
    """The stage's params, what is played, and an attempt at it."""
    from holdfast.core import files
    from holdfast.core.output import Output
    from holdfast.stages.problems import Problems
    from holdfast.stages.rollouts import Rollouts

    places = {name: directory / name for name in ("home", "record", "collections")}
    for place in places.values():
        place.mkdir(exist_ok=True)
    asked = {"prompts": str(directory / PROMPTS), "repeats": REPEATS, "turns": 1, "in_flight": 256}
    played = {"environment": "tetris", "settings": {"interface": "text"}}
    params = Rollouts().parse({**asked, **played, "model": "fake", "engine": "url", "url": f"{url}/v1"})
    out = Output(
        places["home"],
        key="k" * 64,
        attempt=2,
        token=files.new_token(),
        record=places["record"],
        collections=places["collections"],
        environ={},
        input_digests={},
    )
    return params, Problems(params), out


def collect(directory: Path, count: int, url: str) -> None:
    """Have what is owed, and publish everything."""
    from holdfast.stages.rollouts import Rollouts

    params, _, out = open_stage(directory, url)
    Rollouts().run(params, {}, out)
    content = json.loads((out.path / "metrics.json").read_text())
    assert content["coverage"]["done"] == content["coverage"]["expected"] == count


def decide(directory: Path, count: int) -> None:
    """Read the collection, see that its prompts are those of the set, and count what is owed."""
    from holdfast.rollouts.row_index import Index

    params, problems, out = open_stage(directory, "")
    problems.check_unchanged()
    parts = out.parts(problems.collection_key("asserted fake"))
    with closing(Index(parts, problems.ids(), params.repeats)) as index:
        problems.refuse_changed(index)
        assert index.wanted == count
        print(index.wanted - index.done, sum(1 for _ in index.owed(params.attempts)))


def take_in(directory: Path, count: int) -> None:
    """Import the published file."""
    from holdfast.stages.import_rollouts import ImportRollouts

    _, _, out = open_stage(directory, "")
    kind = ImportRollouts()
    source = out.path / "rollouts.jsonl"
    out.path = directory / "imported"
    out.path.mkdir()
    kind.run(kind.parse({}), {"rollouts": source}, out)
    assert json.loads((out.path / "metrics.json").read_text())["coverage"]["done"] == count


def main() -> None:
    action, directory, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if action == "write":
        write(directory, count, int(sys.argv[4]))
    elif action == "collect":
        collect(directory, count, sys.argv[4])
    else:
        {"decide": decide, "import": take_in}[action](directory, count)


if __name__ == "__main__":
    main()
