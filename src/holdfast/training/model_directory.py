"""Write a model as the directory that `from_pretrained`, servers and people expect: safetensors, config, tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core import files

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def write_model(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Save both into `directory`, quietly, readable for whoever may read the directory."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    for path in directory.glob("*.safetensors"):
        files.apply_umask(path)
