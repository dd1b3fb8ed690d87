"""inspect_ai as a client of `bench/rollouts.py`, run by the Python of an environment that has it:

    PYTHON bench/rollout_inspect.py inspect_ai SHAPE URL COUNT IN_FLIGHT DIRECTORY

Its own evaluation (`eval_async`: data set, `generate` with tools, a scorer, its log), without display.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from inspect_ai import Task, eval_async
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import Score, Target, mean, scorer
from inspect_ai.solver import TaskState, generate, use_tools
from inspect_ai.tool import tool

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import sums


@tool
def add() -> Any:
    async def execute(a: int, b: int) -> str:
        """Add two numbers.

        Args:
            a: One of them.
            b: The other.
        """
        return sums.add({"a": a, "b": b})

    return execute


@scorer(metrics=[mean()])
def right() -> Any:
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=float(sums.is_right(int(target.text), state.output.completion)))

    return score


async def run(task: sums.Task) -> None:
    os.environ["INSPECT_CTL_SERVER"] = "false"
    samples = [Sample(input=sums.question(number), target=str(number)) for number in range(task.prompts)]
    tools = [use_tools(add())] if task.shape == "tools" else []
    asked = Task(dataset=MemoryDataset(samples), solver=[*tools, generate()], scorer=right())
    model = get_model("openai/fake", base_url=f"{task.url}/v1", api_key="none", responses_api=False)
    [log] = await eval_async(
        asked,
        model=model,
        epochs=sums.REPEATS,
        max_samples=task.in_flight,
        max_connections=task.in_flight,
        max_tokens=sums.MOST_TOKENS,
        temperature=1.0,
        top_p=1.0,
        log_dir=str(task.directory),
        score_display=False,
    )
    results = log.results
    if log.status != "success" or results is None or results.completed_samples != task.total:
        raise ValueError(f"{log.status}: {log.error}")
    [found] = results.scores
    if found.metrics["mean"].value != 1.0:
        raise ValueError(f"a mean of {found.metrics['mean'].value}")


if __name__ == "__main__":
    os.environ["INSPECT_DISPLAY"] = "none"
    sums.main({"inspect_ai": run}, lambda name: None)
