"""What every stage that asks an engine shares: how tokens are drawn, by which engine, how many at a time, and so which
rows of which collection are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from holdfast.core import kind
from holdfast.core.errors import ConfigError
from holdfast.engines.serving import Serving
from holdfast.evaluation.templates import ChatTemplate
from holdfast.rollouts.collection import row_key

if TYPE_CHECKING:
    from holdfast.core.output import Output
    from holdfast.core.service import Service
    from holdfast.core.stage import Ref
    from holdfast.engines import Engine
    from holdfast.engines.completions import Sampling
    from holdfast.rollouts.asking import Engines
    from holdfast.rollouts.calls import Limits
    from holdfast.rollouts.gate import Bounds


class AskingParams(Serving):
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
    again: str = kind.added("", as_before="")
    """Tells a fresh result of the same work from the one before."""
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

    def sent_with_chats(self) -> Mapping[str, Any]:
        """What requests tell the engine's chat template; nothing where prompts are put by us."""
        return {}


def check_plan(params: AskingParams, inputs: Mapping[str, Ref], most: int, what: str) -> None:
    """Whether the engine can do what is asked, and there is one model; `what` is what needs it, `most` the
    environment's limit of tokens.

    Raises:
        ConfigError: it cannot, or there is none, or there are two.
    """
    engine_of(params).request_fields(Path("not there yet"), sampling_of(params, most))
    if ("model" in inputs) == bool(params.model):
        raise ConfigError(
            f"{what} takes a model, as an input or by its name: input {'model' in inputs}, name {params.model!r}",
            "write `inputs: {model: ...}`, or for `engine: url` its name, `params: {model: ...}`",
        )


def engine_service(
    params: AskingParams, inputs: Mapping[str, Path], longest: Callable[[], int], most: int
) -> Service | None:
    """The server of the engine; None where it is there already. `longest` gives the longest prompt, in characters
    (no token is shorter than one); it is asked only for an engine that must know.
    """
    engine = engine_of(params)
    each = longest() + sampling_of(params, most).max_tokens if engine.counts_tokens else 0
    return engine.service(model_of(params, inputs), max(8192, params.in_flight * each))


def collection_key(params: AskingParams, source: Mapping[str, Any], fingerprint: str, most: int) -> str:
    """The rows' collection. `source` is what the environment says of itself, `fingerprint` the digest of the model's
    contents.
    """
    sampling = sampling_of(params, most).given()
    return row_key(
        **source,
        model=fingerprint,
        sampling={"engine": params.engine, **sampling, **params.identity(), **_draws(params)},
        template=template_of(params).identity,
    )


def model_of(params: AskingParams, inputs: Mapping[str, Path]) -> Path:
    """The model's directory, or its name where nobody here has its files."""
    return inputs.get("model") or Path(params.model)


def fingerprint_of(params: AskingParams, digests: Mapping[str, str]) -> str:
    """The model's digest, or that its name is all that is known."""
    return digests.get("model") or f"asserted {params.model}"


def engine_of(params: AskingParams) -> Engine:
    """
    Raises:
        ConfigError: no such engine, or an option that it does not have.
    """
    from holdfast.engines import load_engine

    return load_engine(params.engine, params)


def sampling_of(params: AskingParams, most: int) -> Sampling:
    """How tokens are drawn; `most` is the limit where none is given."""
    from holdfast.engines.completions import Sampling

    drawn = (params.temperature, params.top_p, params.max_tokens or most, params.top_k, params.min_p)
    return Sampling(*drawn, params.stop, params.stop_token_ids, params.sent_with_chats())


def template_of(params: AskingParams) -> ChatTemplate:
    """How prompts are put."""
    return ChatTemplate(params.chat_template, params.chat_template_kwargs)


def engines_of(
    params: AskingParams, key: str, model: Path, most: int, out: Output, bounds: Bounds | None = None
) -> Engines:
    """Who is asked, and how; `bounds` where the number in flight follows the engine."""
    from holdfast.rollouts.asking import Engines

    urls = [params.url] if params.url else out.endpoints("engine")
    standing = "asserted" if params.model else "to be judged" if params.url else None
    return Engines(
        engine=engine_of(params),
        model=model,
        sampling=sampling_of(params, most),
        key=key,
        urls=urls,
        limits=_limits(params, len(urls)),
        standing=standing,
        bounds=bounds,
    )


def _draws(params: AskingParams) -> dict[str, Any]:
    """What tells these rows from others that were drawn in the same way."""
    return {name: value for name, value in (("seed", params.seed), ("again", params.again)) if value not in (None, "")}


def _limits(params: AskingParams, engines: int) -> Limits:
    from holdfast.rollouts.calls import Limits

    return Limits(
        in_flight=params.in_flight * engines,
        deadline=params.deadline,
        tries=params.tries,
        patience=params.patience,
        stall=params.stall,
    )
