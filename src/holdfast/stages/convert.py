"""A checkpoint as a clean Hugging Face directory: safetensors, config, tokenizer, generation config.

Reads our `step_N/model/`, or any Hugging Face directory. The bytes are the same on every machine, so equal models have
equal digests, whoever converted them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from holdfast.core import files, kind
from holdfast.core.errors import UserError
from holdfast.core.kind import Kind

if TYPE_CHECKING:
    import torch

    from holdfast.core.output import Output

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
CARRIED = (
    "tokenizer*",
    "special_tokens_map.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "generation_config.json",
)


class ConvertParams(kind.Params):
    """What changes on the way."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` keeps what the checkpoint has; otherwise floating point tensors are cast."""


class Convert(Kind):
    """Safe to run twice: the bytes are the same."""

    name = "convert"
    has_inner = False
    inputs = ("checkpoint",)
    Params = ConvertParams

    def home(self, name: str) -> str:
        return f"hf_eval_checkpoints/{name}"

    def run(self, params: ConvertParams, inputs: Mapping[str, Path], out: Output) -> None:
        source = find_model(inputs["checkpoint"])
        shards = list_shards(source)
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            names = _convert_shard(source / shard, out.path / shard, params.dtype)
            weight_map.update(dict.fromkeys(names, shard))
            out.progress(number, len(shards), "shard")
        _check_coverage(source, set(weight_map))
        if len(shards) > 1:
            _write_index(out.path, weight_map)
        _write_config(source, out.path, params.dtype)
        _carry_over(source, out.path)
        out.metric(0, tensors=len(weight_map))


def find_model(checkpoint: Path) -> Path:
    """The Hugging Face directory in a checkpoint, or the checkpoint itself.

    Raises:
        UserError: neither is one.
    """
    for candidate in (checkpoint / "model", checkpoint):
        if (candidate / CONFIG).is_file():
            return candidate
    raise UserError(
        f"no model in {checkpoint}: neither it nor its model/ holds {CONFIG}", "give a checkpoint's directory"
    )


def list_shards(model: Path) -> list[str]:
    """Names of the weight files, in order.

    Raises:
        UserError: there are none, or the index names a file that is not there.
    """
    index = model / INDEX
    if index.exists():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        for shard in shards:
            if Path(shard).name != shard or not (model / shard).is_file():
                raise UserError(f"{index} names {shard!r}, which is not there", "the checkpoint is incomplete")
        return shards
    if (model / WEIGHTS).is_file():
        return [WEIGHTS]
    raise UserError(f"no weights in {model}: neither {WEIGHTS} nor {INDEX}", "only safetensors are read")


def _convert_shard(source: Path, target: Path, dtype: str) -> list[str]:
    """Write one shard with its names sorted, so that the bytes do not depend on the order of saving."""
    from safetensors.torch import save_file

    tensors = dict(sorted(_read_shard(source, dtype)))
    save_file(tensors, target, metadata={"format": "pt"})
    files.apply_umask(target)
    return list(tensors)


def _read_shard(source: Path, dtype: str) -> Iterator[tuple[str, torch.Tensor]]:
    import torch
    from safetensors import safe_open

    wanted = None if dtype == "auto" else getattr(torch, dtype)
    with safe_open(source, framework="pt") as shard:
        for name in shard.keys():  # noqa: SIM118 - not a mapping
            tensor = shard.get_tensor(name)
            yield name, tensor.to(wanted) if wanted and tensor.is_floating_point() else tensor


def _check_coverage(model: Path, found: set[str]) -> None:
    """Refuse a checkpoint whose files hold other tensors than its index names."""
    index = model / INDEX
    if not index.exists():
        return
    named = set(json.loads(index.read_text())["weight_map"])
    if named != found:
        absent, extra = sorted(named - found)[:3], sorted(found - named)[:3]
        raise UserError(
            f"{index} and its files disagree: not there {absent}, not named {extra}", "the checkpoint is incomplete"
        )


def _write_index(target: Path, weight_map: Mapping[str, str]) -> None:
    total = sum((target / shard).stat().st_size for shard in set(weight_map.values()))
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    files.write_durably(target / INDEX, json.dumps(content, indent=2).encode())


def _write_config(source: Path, target: Path, dtype: str) -> None:
    config: dict[str, Any] = json.loads((source / CONFIG).read_text())
    if dtype != "auto":
        config.pop("torch_dtype", None)
        config["dtype"] = dtype
    files.write_durably(target / CONFIG, json.dumps(config, indent=2, sort_keys=True).encode() + b"\n")


def _carry_over(source: Path, target: Path) -> None:
    for pattern in CARRIED:
        for path in sorted(source.glob(pattern)):
            if path.is_file() and path.suffix != ".safetensors":
                shutil.copyfile(path, target / path.name)
