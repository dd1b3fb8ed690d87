"""A model's accuracy on an environment, from responses that are collected through an engine in the same job.

Rows go to a collection that all evaluations with the same environment, model and sampling share; what is owed is
counted by (prompt, repeat). A killed evaluation asks only for the rest, and one with more repeats only for the
difference.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from holdfast.core import files, kind
from holdfast.core.errors import HoldfastError, Stopped
from holdfast.core.kind import Kind
from holdfast.core.service import Service
from holdfast.environments import with_version
from holdfast.rollouts.collection import Collection, Row, Sample, row_key

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.engines.completions import Completion, Sampling
    from holdfast.environments import Environment
    from holdfast.rollouts.collect import Answer

TEMPLATE = "as it is"
"""The prompt template; part of a collection's identity. Templates come with the data sets that need them."""


class EvaluateParams(kind.Params):
    """What is asked, how often, and how tokens are drawn."""

    environment: str
    settings: dict[str, Any] = Field(default_factory=dict)
    """Which of the environment's problems, for example `{split: held_out, count: 256}`."""
    repeats: int = Field(1, ge=1)
    """Responses to each prompt."""
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    """None takes the environment's own limit."""
    engine: Literal["transformers"] = "transformers"
    environment_version: int = kind.added(1, as_before=1)
    """Filled in from the environment: what a reward means is part of what was done."""
    step: int | None = None
    """The checkpoint's optimizer step, for the metrics."""


class Evaluate(Kind):
    """Safe to run twice: rows of both attempts count, and the first to finish publishes."""

    name = "evaluate"
    has_inner = False
    inputs = ("model",)
    Params = EvaluateParams

    def fill(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return with_version(params)

    def home(self, name: str) -> str:
        return f"evals/{name}"

    def services(self, params: EvaluateParams, inputs: Mapping[str, Path]) -> list[Service]:
        from holdfast.engines.transformers_serve import transformers_serve
        from holdfast.environments import load_environment

        environment = load_environment(params.environment, params.settings)
        return [transformers_serve(inputs["model"], _most_tokens(params, environment))]

    def run(self, params: EvaluateParams, inputs: Mapping[str, Path], out: Output) -> None:
        from holdfast.environments import load_environment

        environment = load_environment(params.environment, params.settings)
        sampling = _sampling(params, environment)
        key = row_key(
            environment=params.environment,
            version=environment.version,
            model=out.input_digests["model"],
            sampling={"engine": params.engine, **vars(sampling)},
            template=TEMPLATE,
        )
        collection = Collection(out.parts(key), out.attempt, out.token)
        try:
            asyncio.run(_collect(params, environment, sampling, inputs["model"], collection, out))
        finally:
            collection.close()
        _write(params, environment, collection.rows(), out)


def _sampling(params: EvaluateParams, environment: Environment) -> Sampling:
    from holdfast.engines.completions import Sampling

    return Sampling(params.temperature, params.top_p, params.max_tokens or environment.max_tokens)


def _most_tokens(params: EvaluateParams, environment: Environment) -> int:
    """What all requests in flight hold at most, counted in characters: no token is shorter than one."""
    from holdfast.rollouts.collect import Limits

    longest = max(len(prompt.text) for prompt in environment.prompts())
    return max(8192, Limits.in_flight * (longest + _sampling(params, environment).max_tokens))


class _Progress:
    """Records answers as they come, and counts them."""

    def __init__(self, environment: Environment, collection: Collection, total: int, done: int, out: Output) -> None:
        self.environment = environment
        self.collection = collection
        self.prompts = {prompt.id: prompt.text for prompt in environment.prompts()}
        self.total = total
        self.done = done
        self.failures: list[Row] = []
        self.out = out

    def record(self, answer: Answer) -> None:
        """Append the row of an answer; a failure is a row, too, and its sample stays owed."""
        if answer.completion is None:
            row = answer.failure()
            self.failures.append(row)
        else:
            row = _row(answer, self.prompts[answer.sample.id], self.environment)
            self.done += 1
        self.collection.append({**row, "attempt": self.out.attempt})
        self.out.progress(self.done, self.total, "response")

    def check(self) -> None:
        """
        Raises:
            Stopped: the word to stop came.
            HoldfastError: some responses could not be had; the others are recorded.
        """
        if self.failures:
            first = self.failures[0]["error"]
            says = f"{len(self.failures)} of {self.total} responses failed, the first: "
            raise HoldfastError(f"{says}{first['type']}: {first['message']}")
        if self.done < self.total:
            raise Stopped(f"stopped at response {self.done} of {self.total}")


async def _collect(
    params: EvaluateParams,
    environment: Environment,
    sampling: Sampling,
    model: Path,
    collection: Collection,
    out: Output,
) -> None:
    """Ask for what is owed until nothing is; raises as `_Progress.check` does."""
    import aiohttp

    from holdfast.engines.completions import CompletionsClient
    from holdfast.engines.transformers_serve import request_fields
    from holdfast.rollouts.collect import collect

    ids = [prompt.id for prompt in environment.prompts()]
    owed = collection.owed(ids, params.repeats)
    total = len(ids) * params.repeats
    progress = _Progress(environment, collection, total, total - len(owed), out)
    out.progress(progress.done, total, "response")
    # The first request of an attempt seeds the server, so that no attempt repeats what an earlier one drew.
    seeds = {owed[0]: int(out.token, 16) % 2**31} if owed else {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        url = out.endpoint("engine")
        client = CompletionsClient(session, url, str(model), sampling, request_fields(model, sampling))

        async def ask(sample: Sample) -> Completion:
            return await client.complete(progress.prompts[sample.id], seeds.get(sample))

        await collect(owed, ask, progress.record, out.stop_requested)
    progress.check()


def _row(answer: Answer, prompt: str, environment: Environment) -> Row:
    assert answer.completion is not None
    reward = environment.reward(answer.sample.id, answer.completion.text)
    return {
        "prompt": prompt,
        "response": answer.completion.text,
        "reward": reward,
        "success": reward >= 1.0,
        "num_steps": 1,
        "id": answer.sample.id,
        "repeat": answer.sample.repeat,
        "seed": None,
        "usage": answer.completion.usage,
        "timing": answer.timing,
    }


def _write(params: EvaluateParams, environment: Environment, rows: Mapping[Sample, Row], out: Output) -> None:
    """`rows.jsonl` in the order of the prompts, `metrics.json`, and a line of `metrics.jsonl`."""
    from holdfast.evaluation.statistics import accuracy

    ids = [prompt.id for prompt in environment.prompts()]
    chosen = [rows[Sample(each, repeat)] for each in ids for repeat in range(params.repeats)]
    with open(out.path / "rows.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
    estimate = accuracy(
        {each: [rows[Sample(each, repeat)]["reward"] for repeat in range(params.repeats)] for each in ids}
    )
    step = params.step or 0
    out.metric(step, accuracy=estimate.value)
    metric = {"name": "accuracy", "value": estimate.value, "low": estimate.low, "high": estimate.high}
    content = {
        "step": step,
        "metrics": [{**metric, "k": params.repeats, "n_prompts": len(ids)}],
        "coverage": {"wanted": len(ids) * params.repeats, "recorded": len(chosen)},
        "identity": {
            "environment": params.environment,
            "version": environment.version,
            **params.model_dump(mode="json"),
        },
    }
    (out.path / "metrics.json").write_bytes(files.encode(content))
