"""A model's accuracy on an environment, from responses that are collected through an engine in the same job.

Rows go to a collection that all evaluations with the same environment, model and sampling share; what is owed is
counted by (prompt, repeat). A killed evaluation asks only for the rest, and one with more repeats only for the
difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from holdfast.core import files, kind
from holdfast.core.errors import ConfigError
from holdfast.core.kind import Kind
from holdfast.core.service import Service
from holdfast.engines.serving import Serving
from holdfast.environments import with_version
from holdfast.evaluation.collecting import Asking, Collecting
from holdfast.evaluation.templates import ChatTemplate
from holdfast.rollouts.collection import Collection, Sample, row_key

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.core.stage import Ref
    from holdfast.engines import Engine
    from holdfast.engines.completions import Sampling
    from holdfast.environments import Environment
    from holdfast.rollouts.calls import Limits
    from holdfast.rollouts.row_index import Index

COUNTED = ("reward", "success", "answer", "finish", "usage", "timing")
"""What of a row its metrics depend on."""


class EvaluateParams(Serving):
    """What is asked, how often, how tokens are drawn, and by which engine."""

    environment: str
    model: str = kind.added("", as_before="")
    """The name of a model that nobody here has the files of: its contents are the word of whoever serves it."""
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
    seed: int | None = kind.added(None, as_before=None)
    """Of the draws, where the engine keeps to it."""
    chat_template: str = kind.added("", as_before="")
    """Text of a template, instead of the tokenizer's own; the prompts are then put by us."""
    chat_template_kwargs: dict[str, Any] = kind.added({}, as_before={})
    """What the template is given, such as `{enable_thinking: false}`."""
    metric: Literal["pass@k", "cons@k"] = kind.added("pass@k", as_before="pass@k")
    """Which score is named first; cons@k is maj@k."""
    k: int = kind.added(1, as_before=1, ge=1)
    again: str = kind.added("", as_before="")
    """Tells a fresh result of the same work from the one before."""
    save_path: str = kind.placed("")
    """Where NeMo RL's `config.json` and `evaluation_data.json` are written, too."""
    verifier_workers: int = kind.placed(2, ge=1)
    """Processes that grade, where grading needs any."""
    accept_missing: int = kind.placed(0, ge=0)
    """So many responses may be missing, for reasons that no further try mends; the scores say so."""
    in_flight: int = kind.placed(32, ge=1)
    """Requests at a time, to each engine."""
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
    optional_inputs = ("model",)
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
        if ("model" in inputs) == bool(parsed.model):
            raise ConfigError(
                f"an evaluation takes a model, as an input or by its name: input {'model' in inputs}, name "
                f"{parsed.model!r}",
                "write `inputs: {model: ...}`, or for `engine: url` its name, `params: {model: ...}`",
            )

    def services(self, params: EvaluateParams, inputs: Mapping[str, Path]) -> list[Service]:
        from holdfast.environments import load_environment

        environment = load_environment(params.environment, params.settings)
        engine = _engine(params)
        tokens = _most_tokens(params, environment) if engine.counts_tokens else 0
        service = engine.service(_model(params, inputs), tokens)
        return [service] if service else []

    def run(self, params: EvaluateParams, inputs: Mapping[str, Path], out: Output) -> None:
        from holdfast.environments import load_environment

        environment = load_environment(params.environment, params.settings)
        sampling = _sampling(params, environment).given()
        key = row_key(
            **environment.identity(),
            model=_fingerprint(params, out),
            sampling={"engine": params.engine, **sampling, **params.identity(), **_draws(params)},
            template=_template(params).identity,
        )
        collection = Collection(out.parts(key), out.attempt, out.token)
        ids = [prompt.id for prompt in environment.prompts()]
        failed: dict[str, int] = {}
        with contextlib.closing(collection.index(ids, params.repeats)) as before:
            if before.done < before.wanted:
                asking = _asking(params, environment, key, _model(params, inputs), out)
                counts = asyncio.run(Collecting(asking, out, params.accept_missing).run(collection, before))
                failed = dict(counts.failed)
        _write(params, environment, collection.index(ids, params.repeats), failed, out)


def _model(params: EvaluateParams, inputs: Mapping[str, Path]) -> Path:
    return inputs.get("model") or Path(params.model)


def _fingerprint(params: EvaluateParams, out: Output) -> str:
    return out.input_digests.get("model") or f"asserted {params.model}"


def _intent(params: EvaluateParams) -> dict[str, Any]:
    """What is asked, without where and how."""
    said = params.model_dump(mode="json")
    return {name: value for name, value in said.items() if name not in Evaluate().placed_params(said)}


def _draws(params: EvaluateParams) -> dict[str, Any]:
    """What tells these rows from others that were drawn in the same way."""
    return {name: value for name, value in (("seed", params.seed), ("again", params.again)) if value not in (None, "")}


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


def _template(params: EvaluateParams) -> ChatTemplate:
    return ChatTemplate(params.chat_template, params.chat_template_kwargs)


def _asking(params: EvaluateParams, environment: Environment, key: str, model: Path, out: Output) -> Asking:
    urls = [params.url] if params.url else out.endpoints("engine")
    standing = "asserted" if params.model else "to be judged" if params.url else None
    return Asking(
        environment=environment,
        engine=_engine(params),
        model=model,
        sampling=_sampling(params, environment),
        template=_template(params),
        key=key,
        urls=urls,
        limits=_limits(params, len(urls)),
        verifier_workers=params.verifier_workers,
        standing=standing,
    )


def _limits(params: EvaluateParams, engines: int) -> Limits:
    from holdfast.rollouts.calls import Limits

    return Limits(
        in_flight=params.in_flight * engines,
        deadline=params.deadline,
        tries=params.tries,
        patience=params.patience,
        stall=params.stall,
    )


def _write(
    params: EvaluateParams, environment: Environment, index: Index, failed: Mapping[str, int], out: Output
) -> None:
    """`rows.jsonl` in the order of the prompts, `metrics.json`, and lines of `metrics.jsonl`."""
    from holdfast.evaluation import metrics, nemo_rl_files

    kept: dict[Sample, dict[str, Any]] = {}
    standings = set()
    with open(out.path / "rows.jsonl", "w", encoding="utf-8") as file:
        for row in index.rows():
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            kept[Sample(row["id"], row["repeat"])] = {name: row[name] for name in COUNTED if name in row}
            standings.add(row.get("model", "started for this"))
    index.close()
    content = metrics.summarise(
        kept,
        [prompt.id for prompt in environment.prompts()],
        params.repeats,
        step=params.step or 0,
        identity={
            "version": environment.version,
            "standing": sorted(standings),
            "model_digest": _fingerprint(params, out),
            "problems": environment.identity(),
            **_intent(params),
        },
        failed=failed,
        ks=sorted({*metrics.default_ks(params.repeats), params.k} - {1}),
    )
    out.metric(params.step or 0, **{each["name"]: each["value"] for each in content["metrics"]})
    (out.path / "metrics.json").write_bytes(files.encode(content))
    if params.save_path:
        nemo_rl_files.write(Path(params.save_path), out.path / "rows.jsonl", params.model_dump(mode="json"))
