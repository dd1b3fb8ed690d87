"""Write a model as the directory that `from_pretrained`, servers and people expect: safetensors, config, tokenizer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def write_model(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Save both into `directory`, quietly, readable for whoever may read the directory."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    for path in directory.glob("*.safetensors"):
        # safetensors creates its files with mode 0600, whatever the umask.
        path.chmod(0o666 & ~_umask())


def _umask() -> int:
    umask = os.umask(0o022)
    os.umask(umask)
    return umask
