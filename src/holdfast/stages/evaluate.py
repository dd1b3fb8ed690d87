"""A model's accuracy on an environment, from responses that are collected through an engine in the same job.

Rows go to a collection that all evaluations with the same environment, model and sampling share; what is owed is
counted by (prompt, repeat). A killed evaluation asks only for the rest, and one with more repeats only for the
difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from holdfast.core import files, kind
from holdfast.core.errors import HoldfastError, Stopped
from holdfast.core.kind import Kind
from holdfast.core.service import Service
from holdfast.engines.serving import Serving
from holdfast.environments import with_version
from holdfast.rollouts.collection import Collection, Sample, row_key

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.core.stage import Ref
    from holdfast.engines import Engine
    from holdfast.engines.completions import Sampling
    from holdfast.environments import Environment, Grade
    from holdfast.rollouts.calls import Limits
    from holdfast.rollouts.counts import Counts
    from holdfast.rollouts.row_index import Index

TEMPLATE = "as it is"
"""The prompt template; part of a collection's identity. Templates come with the data sets that need them."""
SAY_EVERY = 10.0
"""Seconds between two lines in the log that say how far it is."""


class EvaluateParams(Serving):
    """What is asked, how often, how tokens are drawn, and by which engine."""

    environment: str
    settings: dict[str, Any] = Field(default_factory=dict)
    """Which of the environment's problems, for example `{split: held_out, count: 256}`."""
    repeats: int = Field(1, ge=1)
    """Responses to each prompt."""
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    """None takes the environment's own limit."""
    engine: str = "transformers"
    """By name, see `holdfast.engines`, or `package.module:Class`."""
    environment_version: int = kind.added(1, as_before=1)
    """Filled in from the environment: what a reward means is part of what was done."""
    step: int | None = None
    """The checkpoint's optimizer step, for the metrics."""
    top_k: int | None = kind.added(None, as_before=None, ge=-1)
    """None, 0 and -1 keep all tokens."""
    min_p: float | None = kind.added(None, as_before=None, ge=0, le=1)
    stop: tuple[str, ...] = kind.added((), as_before=[])
    stop_token_ids: tuple[int, ...] = kind.added((), as_before=[])
    in_flight: int = kind.placed(32, ge=1)
    """Requests at a time."""
    deadline: float = kind.placed(600.0, gt=0)
    """Seconds for one request."""
    tries: int = kind.placed(3, ge=1)
    patience: float = kind.placed(600.0, gt=0)
    """Seconds to wait for an engine that is gone, or only says 429."""
    stall: float = kind.placed(900.0, gt=0)
    """Seconds without any answer after which an engine counts as hung."""


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

    def check_plan(self, params: Mapping[str, Any], inputs: Mapping[str, Ref]) -> None:
        from holdfast.environments import load_environment

        parsed = self.parse(params)
        environment = load_environment(parsed.environment, parsed.settings)
        _engine(parsed).request_fields(Path("not there yet"), _sampling(parsed, environment))

    def services(self, params: EvaluateParams, inputs: Mapping[str, Path]) -> list[Service]:
        from holdfast.environments import load_environment

        environment = load_environment(params.environment, params.settings)
        service = _engine(params).service(inputs["model"], _most_tokens(params, environment))
        return [service] if service else []

    def run(self, params: EvaluateParams, inputs: Mapping[str, Path], out: Output) -> None:
        from holdfast.environments import load_environment

        environment = load_environment(params.environment, params.settings)
        sampling = _sampling(params, environment)
        key = row_key(
            environment=params.environment,
            version=environment.version,
            model=out.input_digests["model"],
            sampling={"engine": params.engine, **sampling.given(), **params.identity()},
            template=TEMPLATE,
        )
        collection = Collection(out.parts(key), out.attempt, out.token)
        ids = [prompt.id for prompt in environment.prompts()]
        with contextlib.closing(collection.index(ids, params.repeats)) as before:
            if before.done < before.wanted:
                work = _Collecting(params, environment, sampling, key, inputs["model"], out)
                asyncio.run(work.run(collection, before))
        _write(params, environment, collection.index(ids, params.repeats), out)


def _engine(params: EvaluateParams) -> Engine:
    from holdfast.engines import load_engine

    return load_engine(params.engine, params)


def _sampling(params: EvaluateParams, environment: Environment) -> Sampling:
    from holdfast.engines.completions import Sampling

    most = params.max_tokens or environment.max_tokens
    drawn = (params.temperature, params.top_p, most, params.top_k, params.min_p)
    return Sampling(*drawn, params.stop, params.stop_token_ids)


def _most_tokens(params: EvaluateParams, environment: Environment) -> int:
    """What all requests in flight hold at most, counted in characters: no token is shorter than one."""
    longest = max(len(prompt.text) for prompt in environment.prompts())
    return max(8192, params.in_flight * (longest + _sampling(params, environment).max_tokens))


def _limits(params: EvaluateParams) -> Limits:
    from holdfast.rollouts.calls import Limits

    return Limits(
        in_flight=params.in_flight,
        deadline=params.deadline,
        tries=params.tries,
        patience=params.patience,
        stall=params.stall,
    )


class _Collecting:
    """One attempt to have everything that is owed."""

    def __init__(
        self,
        params: EvaluateParams,
        environment: Environment,
        sampling: Sampling,
        key: str,
        model: Path,
        out: Output,
    ) -> None:
        self.params = params
        self.environment = environment
        self.sampling = sampling
        self.key = key
        self.model = model
        self.out = out
        self.engine = _engine(params)
        self._say_next = time.monotonic() + SAY_EVERY

    async def run(self, collection: Collection, index: Index) -> None:
        """Ask for what is owed until nothing is.

        Raises:
            Stopped: the word to stop came.
            HoldfastError: some responses could not be had; the others are recorded.
        """
        from holdfast.engines.client import connect
        from holdfast.engines.url import judge
        from holdfast.rollouts.breaker import Breaker
        from holdfast.rollouts.calls import Calls
        from holdfast.rollouts.collect import collect
        from holdfast.rollouts.counts import Counts
        from holdfast.rollouts.single_turn import SingleTurn

        counts, limits = Counts(index.wanted, index.done), _limits(self.params)
        prompts = {prompt.id: prompt for prompt in self.environment.prompts()}
        more: dict[str, Any] = {"attempt": self.out.attempt}
        self._report(counts)
        is_ours = self.params.url is None
        where = self.out.endpoint("engine") if is_ours else str(self.params.url)
        async with connect(self.engine, self.model, self.sampling, where) as (client, served):
            if not is_ours:
                more["model"] = await asyncio.to_thread(judge, where, served, self.model)
            breaker = Breaker(client.is_healthy, limits.patience, sys.stderr.write)
            calls = Calls(limits, breaker)
            work = SingleTurn(client, calls, prompts, self._grade, self._seeds(), index.response)
            try:
                trouble = await collect(
                    index.owed(),
                    work,
                    collection,
                    counts,
                    limits=limits,
                    trouble=lambda: calls.trouble,
                    should_stop=self.out.stop_requested,
                    report=self._report,
                    more=more,
                )
            finally:
                await breaker.close()
        _check(counts, str(trouble or ""))

    async def _grade(self, prompt_id: str, response: str) -> Grade:
        return self.environment.grade(prompt_id, response)

    def _seeds(self) -> Callable[[Sample], int | None]:
        """Of each response, where the engine keeps to it. One that seeds the whole server gets a seed with the first
        request of an attempt, so that no attempt repeats what an earlier one drew.
        """
        from holdfast.rollouts.single_turn import derive_seed

        if self.engine.capabilities.seeds == "request":
            return lambda sample: derive_seed(self.key, sample)
        first = [int(self.out.token, 16) % 2**31]
        return lambda sample: first.pop() if first else None

    def _report(self, counts: Counts) -> None:
        self.out.progress(counts.done, counts.wanted, "response")
        if time.monotonic() >= self._say_next:
            self._say_next = time.monotonic() + SAY_EVERY
            sys.stderr.write(counts.line() + "\n")


def _check(counts: Counts, trouble: str) -> None:
    """
    Raises:
        Stopped: the word to stop came.
        HoldfastError: some responses could not be had.
    """
    failed = sum(counts.failed.values())
    if failed:
        gave_up = f"; given up: {trouble}" if trouble else ""
        says = f"{failed} of {counts.wanted} responses failed, the first: {counts.first_failure}"
        raise HoldfastError(says + gave_up)
    if trouble:
        raise HoldfastError(f"given up at response {counts.done} of {counts.wanted}: {trouble}")
    if counts.done < counts.wanted:
        raise Stopped(f"stopped at response {counts.done} of {counts.wanted}")


def _write(params: EvaluateParams, environment: Environment, index: Index, out: Output) -> None:
    """`rows.jsonl` in the order of the prompts, `metrics.json`, and a line of `metrics.jsonl`."""
    from holdfast.evaluation.statistics import accuracy

    rewards: dict[str, list[float]] = {}
    standings = set()
    with open(out.path / "rows.jsonl", "w", encoding="utf-8") as file:
        for row in index.rows():
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            rewards.setdefault(row["id"], []).append(row["reward"])
            standings.add(row.get("model", "started for this"))
    index.close()
    estimate = accuracy(rewards)
    step = params.step or 0
    out.metric(step, accuracy=estimate.value)
    metric = {"name": "accuracy", "value": estimate.value, "low": estimate.low, "high": estimate.high}
    content = {
        "step": step,
        "metrics": [{**metric, "k": params.repeats, "n_prompts": len(rewards)}],
        "coverage": {"wanted": index.wanted, "recorded": index.done},
        "identity": {
            "environment": params.environment,
            "version": environment.version,
            "standing": sorted(standings),
            **params.model_dump(mode="json"),
        },
    }
    (out.path / "metrics.json").write_bytes(files.encode(content))
