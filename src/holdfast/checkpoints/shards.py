"""The weights of a Hugging Face model directory: one safetensors file, or several and an index."""

from __future__ import annotations

import json
from pathlib import Path

from holdfast.checkpoints import safetensors_file
from holdfast.checkpoints.layout import INDEX, WEIGHTS
from holdfast.checkpoints.tensors import Tensor
from holdfast.core.errors import UserError


def list_files(model: Path) -> list[Path]:
    """The weight files of a model directory, in order; none if there are no safetensors or one of them is not there.

    Raises:
        UserError: the index cannot be read, or names files elsewhere.
    """
    index = model / INDEX
    if not index.is_file():
        single = model / WEIGHTS
        return [single] if single.is_file() else []
    names = sorted(set(read_index(index).values()))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise UserError(f"{index} names a file elsewhere: {outside[0]!r}", "the index was not written by a trainer")
    files = [model / name for name in names]
    return files if all(file.is_file() for file in files) else []


def read_index(index: Path) -> dict[str, str]:
    """Tensor name to file name.

    Raises:
        UserError: it is not an index.
    """
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        weights = content["weight_map"]
        return {str(name): str(file) for name, file in weights.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{index} is not an index of weights: {type(error).__name__}: {error}", "the copy may be incomplete"
        ) from None


def read_model(model: Path) -> dict[str, Tensor]:
    """The tensors of a model directory; none if `list_files` finds none.

    Raises:
        UserError: a file is damaged, or the files hold other tensors than the index names.
    """
    files = list_files(model)
    tensors = safetensors_file.read(files)
    if files and (model / INDEX).is_file():
        _check_index(model / INDEX, set(tensors))
    return tensors


def _check_index(index: Path, found: set[str]) -> None:
    named = set(read_index(index))
    if named != found:
        absent, extra = sorted(named - found)[:3], sorted(found - named)[:3]
        raise UserError(
            f"{index} and its files disagree: not there {absent}, not named {extra}", "the directory is incomplete"
        )
