"""The small files of a model directory: config, generation config, tokenizer, chat template.

Written so that the same inputs give the same bytes. Code that a model brings along is never carried over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.core import config as config_files
from holdfast.core.errors import UserError

CONFIG = "config.json"
GENERATION = "generation_config.json"
TEMPLATE = "chat_template.jinja"
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "vocab.txt", "merges.txt", "*.tiktoken", "tekken.json", "spiece.model", "sentencepiece*.model",
    "chat_template*", "additional_chat_templates/*.jinja", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json",
)  # fmt: skip
"""What tokenizers and processors of transformers are saved as."""
OF_ONE_MACHINE = ("_name_or_path", "_commit_hash", "_attn_implementation")
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
DTYPE_FIELDS = ("dtype", "torch_dtype")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", "the model directory is incomplete") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object", "the model directory is damaged")
    return content


def write_json(content: Mapping[str, Any]) -> bytes:
    """The same bytes for the same content."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def make_config(source: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The source's `config.json` with the run's overrides, without what is true on one machine only.

    Raises:
        UserError: the source has no config.
    """
    content = config_files.merge(read_json(source / CONFIG), dict(overrides))
    for key in OF_ONE_MACHINE:
        content.pop(key, None)
    classes = content.pop("auto_map", None)
    entries = classes.items() if isinstance(classes, dict) else ()
    elsewhere = {name: code for name, code in entries if "--" in str(code)}
    return {**content, "auto_map": elsewhere} if elsewhere else content


def set_dtype(config: Mapping[str, Any], dtypes: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """The config with the dtype that most bytes of the weights have, given as (dtype, bytes).

    Loaders take it as the dtype to load in: if it said bfloat16 beside float32 weights, they would be rounded.
    """
    totals: dict[str, int] = {}
    for dtype, size in dtypes:
        if dtype in DTYPES:
            totals[DTYPES[dtype]] = totals.get(DTYPES[dtype], 0) + size
    if not totals:
        return dict(config)
    return _with_dtype(config, max(sorted(totals), key=totals.__getitem__), outermost=True)


def _with_dtype(config: Mapping[str, Any], dtype: str, *, outermost: bool = False) -> dict[str, Any]:
    """Under the field's name that is there (transformers 4 says torch_dtype), also in nested configs."""
    changed = {
        key: _with_dtype(value, dtype) if isinstance(value, dict) and key.endswith("_config") else value
        for key, value in config.items()
        if key != "quantization_config" or value
    }
    there = [field for field in DTYPE_FIELDS if field in config]
    changed.update(dict.fromkeys(there or ["dtype"] * outermost, dtype))
    return changed


def make_generation_config(places: Sequence[Path], config: Mapping[str, Any]) -> dict[str, Any]:
    """The first `generation_config.json` in `places`; without one, the special tokens of the model's config."""
    for place in places:
        if (place / GENERATION).is_file():
            return read_json(place / GENERATION)
    text = config.get("text_config")
    inner = text if isinstance(text, dict) else {}
    tokens = {key: config.get(key, inner.get(key)) for key in SPECIAL}
    return {"_from_model_config": True, **{key: value for key, value in tokens.items() if value is not None}}


def find_tokenizer(places: Sequence[Path]) -> dict[str, Path]:
    """Name in the model directory to file, from the first place that has a tokenizer; empty if none has."""
    for place in places:
        if (place / "tokenizer_config.json").is_file() or (place / "tokenizer.json").is_file():
            found = (path for pattern in TOKENIZER for path in sorted(place.glob(pattern)) if path.is_file())
            return {path.relative_to(place).as_posix(): path for path in found if path.suffix != ".py"}
    return {}


def find_code(places: Iterable[Path]) -> list[Path]:
    """Python files beside a model: programs, which stay where they are."""
    return sorted(path for place in places for path in place.glob("*.py"))
