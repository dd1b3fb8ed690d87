"""A checkpoint as a model directory that inference reads: safetensors, config, generation config, tokenizer.

Reads what `holdfast.checkpoints` knows: DCP, NeMo RL's, verl's, PEFT adapters, ours, without torch and without running
anything that they hold. The bytes are the same on every machine, so equal models have equal digests.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from holdfast.core import kind
from holdfast.core.errors import UserError
from holdfast.core.kind import Kind

if TYPE_CHECKING:
    from holdfast.checkpoints.plan import Plan
    from holdfast.core.output import Output


class ConvertParams(kind.Params):
    """What changes on the way."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` keeps what the checkpoint has; otherwise floating point tensors are cast."""
    config: dict[str, Any] = kind.added({}, as_before={})
    """Over the model's config.json, section by section (NeMo RL's `policy.hf_config_overrides`)."""
    chat_template: str = kind.added("", as_before="")
    """Text of a template that the run had instead of the tokenizer's."""
    adapter: Literal["merge", "export"] = kind.added("merge", as_before="merge")
    """What becomes of a PEFT adapter."""
    out: str = kind.placed("")
    """Where the result is wanted, too."""


class Convert(Kind):
    """Safe to run twice: the bytes are the same. `model` is what training began from, of which config and tokenizer are
    read, `base` the same with the weights that an adapter is merged into.
    """

    name = "convert"
    version = 2
    has_inner = False
    generations = True
    inputs = ("checkpoint",)
    optional_inputs = ("model", "base", "tokenizer")
    Params = ConvertParams

    def home(self, name: str) -> str:
        return f"hf_eval_checkpoints/{name}"

    def run(self, params: ConvertParams, inputs: Mapping[str, Path], out: Output) -> None:
        from holdfast.checkpoints import convert

        planned = plan(params, inputs)
        done = convert.run(
            planned,
            out.path,
            progress=lambda done, total: out.progress(done, total, "byte"),
            stop=out.stop_requested,
        )
        for note in done.notes:
            sys.stderr.write(f"note: {note}\n")
        out.metric(0, tensors=done.tensors, parameters=done.parameters, weight_bytes=done.weight_bytes)

    def published(self, params: ConvertParams, home: Path) -> None:
        from holdfast.checkpoints import placing

        if params.out and not placing.is_placed(home, Path(params.out)):
            placing.place(home, Path(params.out))


def plan(params: ConvertParams, inputs: Mapping[str, Path]) -> Plan:
    """What a conversion with these params and inputs writes; only the inputs are read, and nothing beside them.

    Raises:
        UserError: the checkpoint is damaged, or not of that model.
    """
    from holdfast.checkpoints import plan as plans
    from holdfast.checkpoints.selection import Options

    model = inputs.get("base") or inputs.get("model")
    tokenizer = inputs.get("tokenizer")
    options = Options(
        dtype=params.dtype,
        model=str(model) if model else None,
        tokenizer=str(tokenizer) if tokenizer else None,
        overrides=params.config,
        chat_template=params.chat_template or None,
        adapter=params.adapter,
        reads_run=False,
    )
    planned = plans.plan(inputs["checkpoint"], options)
    if not planned.tensors:
        raise UserError(f"{inputs['checkpoint']} holds no tensor of a model", "give another checkpoint")
    return planned
