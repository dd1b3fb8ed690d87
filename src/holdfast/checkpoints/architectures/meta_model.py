"""The tensors of an architecture that no template knows: a model without storage, made by transformers.

Runs as a process of its own (`python -m holdfast.checkpoints.architectures.meta_model DIRECTORY`), so that converting
loads no torch where a template will do. `DIRECTORY` holds a `config.json`; code that a model brings along never runs.
Prints a JSON object to stdout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from holdfast.core.errors import UserError

PATIENCE = 600.0
"""Seconds for the child: it imports torch from what may be a slow file system."""


def ask(config: dict[str, Any]) -> dict[str, Any]:
    """`{"shapes": {name: [sizes]}, "tied": {name: name}}` of a model of `config`, from a child process.

    Raises:
        UserError: transformers is not there, does not know the architecture, or the config is wrong.
    """
    import tempfile

    with tempfile.TemporaryDirectory(prefix="holdfast-architecture-") as scratch:
        (Path(scratch) / "config.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", __name__, scratch]
        answer, last = _run(command)
    if answer is None:
        raise UserError(
            f"no template for the architecture {config.get('model_type')!r}, and transformers cannot make it: {last}",
            "give a source model directory that holds its safetensors: their headers say which tensors there are",
        )
    return answer


def _run(command: list[str]) -> tuple[dict[str, Any] | None, str]:
    """The child's answer, or its last words."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=offline)
    except subprocess.TimeoutExpired:
        return None, f"no answer in {PATIENCE:.0f} s"
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["no word"])[-1]
    return json.loads(done.stdout.splitlines()[-1]), ""


def describe(directory: str) -> dict[str, Any]:
    """Names and shapes as `save_pretrained` would write them, which differ from those in memory for MoE models."""
    import torch
    from transformers.core_model_loading import revert_weight_conversion

    with torch.device("meta"):
        model = _make(directory)
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    disk = revert_weight_conversion(model, state)
    return {"shapes": {name: list(tensor.shape) for name, tensor in sorted(disk.items())}, "tied": dict(tied)}


def _make(directory: str) -> Any:
    """The class that the config names, if transformers has it; a causal language model otherwise."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    named = getattr(transformers, (config.architectures or [""])[0], None)
    if isinstance(named, type) and issubclass(named, transformers.PreTrainedModel):
        return cast("Any", named)._from_config(config)
    return transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def main() -> None:
    answer = describe(sys.argv[1])
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
