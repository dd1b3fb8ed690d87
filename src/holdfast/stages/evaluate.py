"""A model's accuracy on an environment, from responses that are collected through an engine in the same job.

Rows go to a collection that all evaluations with the same environment, model and sampling share; what is owed is
counted by (prompt, repeat). A killed evaluation asks only for the rest, and one with more repeats only for the
difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from holdfast.core import files, kind
from holdfast.core.kind import Kind
from holdfast.core.service import Service
from holdfast.environments import load_environment, with_version
from holdfast.evaluation.collecting import Asking, Collecting
from holdfast.rollouts.collection import Collection
from holdfast.stages import asking
from holdfast.stages.asking import AskingParams

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.core.stage import Ref
    from holdfast.environments import Environment
    from holdfast.rollouts.row_index import Index

ROWS = "rows.jsonl"


class EvaluateParams(AskingParams):
    """What is asked, and which score is named first."""

    step: int | None = None
    """The checkpoint's optimizer step, for the metrics."""
    metric: Literal["pass@k", "cons@k"] = kind.added("pass@k", as_before="pass@k")
    """Which score is named first; cons@k is maj@k."""
    k: int = kind.added(1, as_before=1, ge=1)
    save_path: str = kind.placed("")
    """Where NeMo RL's `config.json` and `evaluation_data.json` are written, too."""


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
        parsed = self.parse(params)
        environment = load_environment(parsed.environment, parsed.settings)
        asking.check_plan(parsed, inputs, environment.max_tokens, "an evaluation")

    def services(self, params: EvaluateParams, inputs: Mapping[str, Path]) -> list[Service]:
        environment = load_environment(params.environment, params.settings)

        def longest() -> int:
            return max(len(prompt.text) for prompt in environment.prompts())

        service = asking.engine_service(params, inputs, longest, environment.max_tokens)
        return [service] if service else []

    def run(self, params: EvaluateParams, inputs: Mapping[str, Path], out: Output) -> None:
        environment = load_environment(params.environment, params.settings)
        fingerprint = asking.fingerprint_of(params, out.input_digests)
        key = asking.collection_key(params, environment.identity(), fingerprint, environment.max_tokens)
        collection = Collection(out.parts(key), out.attempt, out.token)
        ids = [prompt.id for prompt in environment.prompts()]
        failed: dict[str, int] = {}
        with contextlib.closing(collection.index(ids, params.repeats)) as index:
            if index.done < index.wanted:
                engines = asking.engines_of(params, key, asking.model_of(params, inputs), environment.max_tokens, out)
                asked = Asking(environment, asking.template_of(params), params.verifier_workers, engines)
                counts = asyncio.run(Collecting(asked, out, params.accept_missing).run(collection, index))
                failed = dict(counts.failed)
                index.update()
            standings = _write_rows(index, out.path / ROWS)
        _write_metrics(params, environment, standings, failed, out)


def _intent(params: EvaluateParams) -> dict[str, Any]:
    """What is asked, without where and how."""
    said = params.model_dump(mode="json")
    return {name: value for name, value in said.items() if name not in Evaluate().placed_params(said)}


def _write_rows(index: Index, path: Path) -> set[str]:
    """In the order of the prompts. Returns whose word it was that the engines served the model."""
    standings = set()
    with open(path, "w", encoding="utf-8") as file:
        for row in index.rows():
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            standings.add(row.get("model", "started for this"))
    return standings


def _write_metrics(
    params: EvaluateParams, environment: Environment, standings: Set[str], failed: Mapping[str, int], out: Output
) -> None:
    """`metrics.json`, lines of `metrics.jsonl`, and NeMo RL's files where they are wanted."""
    from holdfast.evaluation import metrics, nemo_rl_files, published

    content = metrics.summarise(
        published.read(out.path / ROWS),
        [prompt.id for prompt in environment.prompts()],
        params.repeats,
        step=params.step or 0,
        identity={
            "version": environment.version,
            "standing": sorted(standings),
            "model_digest": asking.fingerprint_of(params, out.input_digests),
            "problems": environment.identity(),
            **_intent(params),
        },
        failed=failed,
        ks=sorted({*metrics.default_ks(params.repeats), params.k} - {1}),
    )
    out.metric(params.step or 0, **{each["name"]: each["value"] for each in content["metrics"]})
    (out.path / "metrics.json").write_bytes(files.encode(content))
    if params.save_path:
        nemo_rl_files.write(Path(params.save_path), out.path / ROWS, params.model_dump(mode="json"))
