"""Checkpoints as NeMo RL's policies leave them, written by torch's own distributed checkpointing.

`v1` saves `{"model": state dict}` into `policy/weights`; `v2` the bare state dict into `policy/weights/model`, as DCP
or as safetensors of its ranks. The directories and `config.yaml` are those of its checkpointer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


def write_step(run: Path, number: int, model: Path | str, **policy: Any) -> Path:
    """`step_N` with its `config.yaml` and `training_info.json`, and no weights yet."""
    step = run / f"step_{number}"
    (step / "policy").mkdir(parents=True)
    config = {"policy": {"model_name": str(model), "tokenizer": {"name": str(model)}, **policy}}
    (step / "config.yaml").write_text(yaml.safe_dump(config))
    (step / "training_info.json").write_text(json.dumps({"current_step": number}))
    return step


def save_v1(state: Mapping[str, torch.Tensor], step: Path) -> Path:
    return save_dcp({"model": dict(state)}, step / "policy" / "weights")


def save_v2(state: Mapping[str, torch.Tensor], step: Path) -> Path:
    return save_dcp(dict(state), step / "policy" / "weights" / "model")


def save_dcp(state: dict[str, Any], directory: Path) -> Path:
    import warnings

    from torch.distributed.checkpoint.state_dict_saver import save

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one process, no group: as it should be here
        save(state, checkpoint_id=directory, no_dist=True)
    return directory
