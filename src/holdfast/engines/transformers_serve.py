"""`transformers serve` as an engine: the server that needs nothing but transformers, on a CPU or a GPU.

Read in transformers 5.23 and measured, and the reason for what is done here:

- With continuous batching the whole server samples as its first request says; `do_sample` is only ever switched off
  by a request, and its default is the model's own `generation_config.json`, which most often says greedy. So every
  request carries a whole generation config. One server serves one evaluation, and all its requests sample alike.
- A request's `seed` seeds the whole server, and what is batched with what depends on time. So no single response can
  be made again from a seed; the first request of an attempt seeds the server, that no two attempts draw alike.
- By default the cache takes a share of all memory, 14 GB of 24 on a CPU for a model of 3 MB, and 11 s to fill: two
  servers on one machine end each other. Here it holds what the requests in flight can need.
- Threads cost a tiny model more than they give: 400 responses a second with one, 200 with two. Only the machine that
  serves knows the weights, so this module is also the program that starts the server there.
- Anything behind an `@` in the model's path would be taken for a revision.
- Answers of the models in `ANCHORS` are cut out of prompt and answer at the mark that their usual chat templates
  have. With a template that lacks it the whole prompt becomes a part of the answer.
- Tool calls come back as such only for models whose tool format it knows, and as text for all others, without a word:
  so here it has none.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.core.errors import UserError
from holdfast.core.service import Service
from holdfast.engines import Capabilities, Engine
from holdfast.engines.completions import Sampling

TINY = 100_000_000
"""Bytes of weights below which one thread is faster than several."""
PAGE = 32
"""Tokens in one block of the cache."""
ANCHORS = {"qwen2": "<|im_start|>", "qwen3": "<|im_start|>", "gemma4": "<|turn>"}
"""By the beginning of a model's type, what begins a message in its chat template."""


class TransformersServe(Engine):
    """One server with continuous batching. It has no min_p, and texts to stop at are cut by the client."""

    name = "transformers"
    counts_tokens = True
    capabilities = Capabilities(
        frozenset({"top_k", "seed", "stop_token_ids", "chat_template_kwargs"}), seeds="server", metrics=None, tools="no"
    )
    options = frozenset({"engine_timeout", "dtype", "engine_arguments"})

    def service(self, model: Path, tokens: int) -> Service:
        """The service that serves the model directory `model`, and nothing else.

        Raises:
            UserError: this server would not find a directory of that name.
        """
        if "@" in str(model):
            says = f"transformers serve cannot read {model}: it takes what follows @ for a revision"
            raise UserError(says, "rename it")
        program = (sys.executable, "-m", "holdfast.engines.transformers_serve", str(model))
        dtype = ("--dtype", self.serving.dtype) if self.serving.dtype else ()
        command = (
            *program,
            "--port",
            "{port}",
            "--host",
            "{host}",
            "--tokens",
            str(tokens),
            *dtype,
            *self.serving.engine_arguments,
        )
        return Service("engine", command, env={"HF_HUB_OFFLINE": "1"}, timeout=self.serving.engine_timeout)

    def check_chats(self, model: Path) -> None:
        kind = str(_read(model / "config.json").get("model_type", ""))
        anchor = next((anchor for start, anchor in ANCHORS.items() if kind.startswith(start)), "")
        if anchor not in _template(model):
            raise UserError(
                f"transformers serve would take prompts for answers: the chat template of {model} has no {anchor}, by "
                f"which it finds where the answer of a {kind} begins",
                "give the model a template with such marks, or take engine vllm",
            )

    def served_name(self, model: Path) -> str:
        return str(model)

    def request_fields(self, model: Path, sampling: Sampling) -> dict[str, Any]:
        """A whole generation config: with continuous batching nothing less is heard."""
        asked = super().request_fields(model, sampling)
        top_k = asked.pop("top_k", 0)
        more_ends = asked.pop("stop_token_ids", [])
        drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": top_k}
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        chosen = drawn if sampling.temperature > 0 else greedy
        config = {**_ends(model), **_read(model / "generation_config.json"), **chosen}
        if more_ends:
            config["eos_token_id"] = _joined(config.get("eos_token_id"), more_ends)
        return {**asked, "generation_config": json.dumps({**config, "max_new_tokens": sampling.max_tokens})}


def _joined(ends: int | list[int] | None, more: list[int]) -> list[int]:
    known = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return [*known, *(each for each in more if each not in known)]


def _ends(model: Path) -> dict[str, Any]:
    """The tokens at which this model ends, for a directory without a generation config."""
    config = _read(model / "config.json")
    return {name: config[name] for name in ("eos_token_id", "pad_token_id", "bos_token_id") if name in config}


def _template(model: Path) -> str:
    path = model / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    said = _read(model / "tokenizer_config.json").get("chat_template", "")
    return said if isinstance(said, str) else json.dumps(said)


def _read(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content if isinstance(content, dict) else {}


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the server."""
    options, rest = _parse(arguments)
    if _weigh(options.model) < TINY:
        os.environ["OMP_NUM_THREADS"] = "1"

    import torch
    from transformers.cli.transformers import main as transformers

    blocks = -(-options.tokens // PAGE) + 1
    # A GPU's memory is for this server alone, and its default share of it is right.
    cache = [] if torch.cuda.is_available() else ["--cb-block-size", str(PAGE), "--cb-num-blocks", str(blocks)]
    listen = ["--host", options.host, "--port", options.port, "--log-level", "warning"]
    sys.argv = ["transformers", "serve", str(options.model), "--continuous-batching", *listen, *cache, *rest]
    transformers()


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and what is the server's own."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="a Hugging Face model directory")
    parser.add_argument("--port", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--tokens", type=int, required=True, help="that all requests in flight can hold together")
    return parser.parse_known_args(arguments)


def _weigh(model: Path) -> int:
    return sum(path.stat().st_size for path in model.glob("*.safetensors"))


if __name__ == "__main__":
    main()
