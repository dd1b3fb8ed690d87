"""The library `verifiers` as a client of `bench/rollouts.py`, run by the Python of an environment that has it:

    PYTHON bench/rollout_verifiers.py verifiers SHAPE URL COUNT IN_FLIGHT DIRECTORY

Its own evaluation (`run_eval`: tasks, traces, interception, `traces.jsonl`), without dashboard and upload. A favourable
case: the harness runs in this process, over one aiohttp session, where those that come with it start a Python for each
rollout.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import verifiers.v1 as vf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import sums

__all__ = ["SumHarness", "Sums"]
_sessions: list[aiohttp.ClientSession] = []


class SumData(vf.TaskData):
    number: int


class SumTask(vf.Task[SumData]):
    @vf.reward()
    async def right(self, trace: vf.Trace) -> float:
        return float(sums.is_right(self.data.number, trace.last_reply))


class SumsConfig(vf.TasksetConfig):
    prompts: int = 1


class Sums(vf.Taskset[SumTask, SumsConfig]):
    def load(self) -> Iterable[SumTask]:
        for number in range(self.config.prompts):
            yield SumTask(SumData(prompt=sums.question(number), number=number), self.config.task)


class SumHarnessConfig(vf.HarnessConfig):
    shape: str = "single"


class SumHarness(vf.Harness[SumHarnessConfig]):
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, *rest: Any) -> Any:
        """The loop of a model with a tool."""
        headers = {"Authorization": f"Bearer {secret}"}
        messages: list[dict[str, Any]] = [{"role": "user", "content": trace.task.data.prompt}]
        for _ in range(sums.TURNS[self.config.shape]):
            request = sums.body(messages, 0, self.config.shape)
            async with _sessions[0].post(f"{endpoint}/chat/completions", json=request, headers=headers) as response:
                message = (await response.json())["choices"][0]["message"]
            messages.append(message)
            for call in message.get("tool_calls") or ():
                content = sums.add(call["function"]["arguments"])
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
        return vf.ProgramResult(0, "", "")


async def run(task: sums.Task) -> None:
    from verifiers.v1.cli.eval.runner import run_eval
    from verifiers.v1.configs.cli.eval import EvalConfig

    name = Path(__file__).stem
    agent = {"harness": {"id": name, "shape": task.shape}, "runtime": {"type": "subprocess"}}
    config = EvalConfig.model_validate(
        {
            "env": {"taskset": {"id": name, "prompts": task.prompts}, "agent": agent},
            "model": "fake",
            "client": {"base_url": f"{task.url}/v1", "api_key_var": "NO_KEY"},
            "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": sums.MOST_TOKENS},
            "num_rollouts": sums.REPEATS,
            "max_concurrent": task.in_flight,
            "rich": None,
            "push": False,
            "output_dir": str(task.directory),
        }
    )
    plugin: Any = importlib.import_module(name)  # this file again, as the library imports it
    unlimited = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=unlimited) as session:
        plugin._sessions.append(session)
        episodes = await run_eval(config)
    check(episodes, task)


def check(episodes: Any, task: sums.Task) -> None:
    """
    Raises:
        ValueError: a rollout is missing, or wrong.
    """
    rewards = sum(trace.reward for episode in episodes for trace in episode.traces if trace.ok)
    files = task.directory.rglob("traces.jsonl")
    lines = sum(bool(json.loads(line)) for path in files for line in path.read_text().splitlines())
    if (rewards, lines) != (task.total, task.total):
        failed = [str(each)[:500] for episode in episodes for trace in episode.traces for each in trace.errors]
        raise ValueError(f"{rewards:g} rollouts of {task.total} right, {lines} recorded: {failed[:2]}")


if __name__ == "__main__":
    sums.main({"verifiers": run}, lambda name: None)
