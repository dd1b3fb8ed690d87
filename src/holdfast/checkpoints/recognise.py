"""What a checkpoint is: which trainer wrote it, in which format, and where in it the tensors are.

Looks at names of files only, and into small JSON files. Given any directory of a checkpoint (NeMo RL's `step_N`, its
`policy/` or `policy/weights/`), it finds the one that holds tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from holdfast.checkpoints.layout import INDEX
from holdfast.checkpoints.shards import list_files
from holdfast.core.errors import UserError

Format = Literal["dcp", "safetensors shards", "adapter", "verl", "model directory", "torch file"]

DCP_METADATA = ".metadata"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
CONFIG = "config.json"
TORCH_WEIGHTS = "pytorch_model.bin"
RANK_FILE = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")
MEGATRON = re.compile(r"iter_\d+")
STEP = re.compile(r"(global_)?step[_-]?\d+|checkpoint-\d+")
BELOW = (
    "", "model", "weights", "weights/model", "policy/weights", "policy/weights/model", "actor", "pytorch_model_fsdp_0",
)  # fmt: skip
"""Where tensors may lie below what is given: the directory itself, ours (`model/`), NeMo RL's, verl's, accelerate's."""
SHOWN = 8


@dataclass(frozen=True)
class Recognised:
    """A checkpoint and where its parts are."""

    format: Format
    weights: Path
    """The directory (or the file) with the tensors."""
    sentence: str
    """What it is, for people."""
    files: tuple[Path, ...]
    """The files with tensors, as far as their names tell; those of a DCP are named in its `.metadata`."""
    tokenizer: Path | None = None
    """A tokenizer directory that was saved with the weights."""
    model: Path | None = None
    """A directory with the model's config that was saved with the weights."""
    run_config: Path | None = None
    """The trainer's `config.yaml`."""


def recognise(path: Path) -> Recognised:
    """What lies at `path`.

    Raises:
        UserError: nothing is there, nothing that is known, or a format that others have to convert.
    """
    path = path.absolute()
    if not path.exists():
        raise UserError(f"there is no checkpoint at {path}", "give the directory that the trainer saved")
    if path.is_file():
        return _recognise_file(path)
    for name in BELOW:
        directory = path / name if name else path
        if directory.is_dir():
            for look in LOOKS:
                found = look(directory)
                if found:
                    return found
    raise UserError(
        f"nothing that is known as a checkpoint in {path}: no {DCP_METADATA}, {ADAPTER_CONFIG}, {CONFIG} with weights, "
        f"*.safetensors or model_world_size_W_rank_R.pt in it or in {', '.join(BELOW[1:])}; {_list(path)}",
        "give the directory that the trainer saved, for example step_100",
    )


def find_step(weights: Path) -> Path | None:
    """The nearest `step_N`, `global_step_N` or `checkpoint-N` at or above a directory."""
    return next((each for each in (weights, *weights.parents) if STEP.fullmatch(each.name)), None)


def _recognise_file(path: Path) -> Recognised:
    if RANK_FILE.fullmatch(path.name) or path.name == DCP_METADATA or path.suffix == ".distcp":
        return recognise(path.parent)
    if path.name == TORCH_WEIGHTS:
        return Recognised("torch file", path, "weights in one file of torch.save", (path,), model=path.parent)
    raise UserError(f"{path} is a file", "give the directory of the checkpoint")


def _adapter(directory: Path) -> Recognised | None:
    weights = directory / ADAPTER_WEIGHTS
    if not (directory / ADAPTER_CONFIG).is_file():
        return None
    if not weights.is_file():
        raise UserError(
            f"{directory} holds {ADAPTER_CONFIG} but no {ADAPTER_WEIGHTS}; {_list(directory)}",
            "save the adapter with safetensors (the default of PEFT), or copy what is missing",
        )
    return _found("adapter", directory, "a PEFT adapter", (weights,))


def _dcp(directory: Path) -> Recognised | None:
    if not (directory / DCP_METADATA).is_file():
        partial = sorted(directory.glob("*.distcp"))
        if partial:
            raise UserError(
                f"{directory} holds {len(partial)} .distcp files but no {DCP_METADATA}, which is written last",
                "the checkpoint was not finished: take another one",
            )
        return None
    if directory.name == "weights":
        sentence = "a distributed checkpoint (DCP) of NeMo RL, DTensor policy v1"
    elif directory.name == "model" and directory.parent.name == "weights":
        sentence = "a distributed checkpoint (DCP) of NeMo RL, DTensor policy v2"
    else:
        sentence = "a distributed checkpoint (DCP)"
    return _found("dcp", directory, sentence, (directory / DCP_METADATA,))


def _verl(directory: Path) -> Recognised | None:
    ranks = {}
    worlds = set()
    for file in directory.iterdir():
        match = RANK_FILE.fullmatch(file.name)
        if match:
            worlds.add(int(match[1]))
            ranks[int(match[2])] = file
    if not ranks:
        return None
    if len(worlds) > 1:
        raise UserError(
            f"{directory} holds rank files of worlds of {' and '.join(map(str, sorted(worlds)))} ranks",
            "remove those of the older save",
        )
    (world,) = worlds
    missing = sorted(set(range(world)) - ranks.keys())
    if missing or len(ranks) > world:
        raise UserError(
            f"{directory} lacks the files of {len(missing)} of {world} ranks, the first is rank {missing[0]}"
            if missing
            else f"{directory} holds files of {len(ranks)} ranks of {world}",
            "copy the files of all ranks into one directory",
        )
    files = tuple(ranks[rank] for rank in sorted(ranks))
    model = next((each for each in (directory / "huggingface", directory) if (each / CONFIG).is_file()), None)
    found = _found("verl", directory, f"FSDP files of {world} ranks, of verl", files)
    return Recognised("verl", directory, found.sentence, files, model or found.tokenizer, model, found.run_config)


def _megatron(directory: Path) -> Recognised | None:
    inner = sorted(each for each in directory.iterdir() if MEGATRON.fullmatch(each.name) and each.is_dir())
    candidates = [directory, *inner] if MEGATRON.fullmatch(directory.name) else inner
    if not candidates:
        return None
    where = candidates[-1]
    config = _run_config(where)
    raise UserError(
        f"{where} is a Megatron checkpoint: only Megatron can read it",
        "convert it with NeMo RL: `uv run --extra mcore python examples/converters/convert_megatron_to_hf.py "
        f"--config {config or 'CONFIG'} --hf-model-name MODEL --megatron-ckpt-path {where} --hf-ckpt-path OUT`",
    )


def _model_directory(directory: Path) -> Recognised | None:
    if not (directory / CONFIG).is_file():
        return None
    files = tuple(list_files(directory))
    ours = (directory.parent / "training_info.json").is_file() and (directory.parent / ".holdfast.json").is_file()
    sentence = "the model of a checkpoint of Holdfast" if ours else "a Hugging Face model directory"
    if files:
        return _found("model directory", directory, sentence, files, directory)
    if (directory / INDEX).is_file():
        raise UserError(f"{directory / INDEX} names files that are not there", "copy all files of the model")
    torch_files = tuple(sorted(directory.glob("pytorch_model*.bin")))
    if torch_files:
        return _found("torch file", directory, f"{sentence} with weights of torch.save", torch_files, directory)
    return None


def _safetensors(directory: Path) -> Recognised | None:
    whole = directory / "consolidated"
    if whole.is_dir() and list_files(whole):
        files = tuple(list_files(whole))
        model = whole if (whole / CONFIG).is_file() else None
        sentence = "safetensors that NeMo RL (DTensor policy v2) has put together"
        return _found("safetensors shards", whole, sentence, files, model)
    files = tuple(sorted(directory.glob("*.safetensors")))
    if not files:
        return None
    sentence = f"safetensors of {len(files)} files, as NeMo RL (DTensor policy v2) saves them"
    return _found("safetensors shards", directory, sentence, files)


LOOKS: tuple[Callable[[Path], Recognised | None], ...] = (
    _adapter, _dcp, _verl, _model_directory, _safetensors, _megatron
)  # fmt: skip
"""In this order, in every place."""


def _found(
    format: Format, weights: Path, sentence: str, files: tuple[Path, ...], model: Path | None = None
) -> Recognised:
    return Recognised(format, weights, sentence, files, _tokenizer(weights), model, _run_config(weights))


def _tokenizer(weights: Path) -> Path | None:
    """NeMo RL's `policy/tokenizer` beside `policy/weights`, or files beside the weights."""
    places = [weights, *(above / "tokenizer" for above in (weights, *list(weights.parents)[:3]))]
    return next((each for each in places if (each / "tokenizer_config.json").is_file()), None)


def _run_config(weights: Path) -> Path | None:
    """`config.yaml` of a NeMo RL step, at most three directories above its weights."""
    places = [above / "config.yaml" for above in list(weights.parents)[:4]]
    return next((each for each in places if each.is_file() and (each.parent / "policy").is_dir()), None)


def _list(directory: Path) -> str:
    names = sorted(each.name + "/" * each.is_dir() for each in directory.iterdir())
    if not names:
        return "it is empty"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"there are {', '.join(names[:SHOWN])}{more}"
