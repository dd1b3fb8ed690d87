"""The model that training began from: its config, tokenizer and, for an adapter, its weights.

Named by a directory, or by a hub name that is looked up in the local Hugging Face cache. Nothing is downloaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.core import config as config_files
from holdfast.core.errors import UserError

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
OVERRIDES = ("hf_overrides", "hf_config_overrides")
"""What NeMo RL called it, and calls it now; the latter wins."""


@dataclass(frozen=True)
class SourceModel:
    name: str
    """As it was asked for."""
    directory: Path
    revision: str | None = None
    """The commit, where the name is the hub's."""


@dataclass(frozen=True)
class RunConfig:
    """What a NeMo RL run's `config.yaml` says about its model."""

    path: Path
    model: str
    tokenizer: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """For `config.json`, section by section."""
    chat_template: str | None = None
    """Text of a template of the run's own."""


def read_run_config(path: Path) -> RunConfig:
    """`policy.model_name`, `policy.tokenizer` and `policy.hf_config_overrides` of a NeMo RL config.

    Raises:
        UserError: it cannot be read, or does not name a model.
    """
    policy = config_files.load(path).get("policy")
    model = policy.get("model_name") if isinstance(policy, dict) else None
    if not isinstance(policy, dict) or not isinstance(model, str):
        raise UserError(f"{path} has no policy.model_name", "give the config.yaml of the run, or name the model")
    tokenizer = policy.get("tokenizer") or {}
    if not isinstance(tokenizer, dict):
        raise UserError(f"policy.tokenizer in {path} is {tokenizer!r}, not a section", f"edit {path}")
    overrides: dict[str, Any] = {}
    for key in OVERRIDES:
        section = policy.get(key) or {}
        if not isinstance(section, dict):
            raise UserError(f"policy.{key} in {path} is {section!r}, not a section", f"edit {path}")
        overrides = config_files.merge(overrides, section)
    return RunConfig(path, model, tokenizer.get("name"), overrides, _read_template(tokenizer, path))


def _read_template(tokenizer: Mapping[str, Any], path: Path) -> str | None:
    """NeMo RL takes `default` (the tokenizer's own), a file that ends in .jinja, or the text of a template."""
    said = tokenizer.get("chat_template")
    if not isinstance(said, str) or said.lower() == "default":
        return None
    if not said.endswith(".jinja"):
        return said
    try:
        return Path(said).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"policy.tokenizer.chat_template in {path} names a file that cannot be read: {said}: {error}",
            "run from the directory in which training was started",
        ) from None


def resolve(name: str, revision: str | None = None) -> SourceModel:
    """The directory of a model.

    Raises:
        UserError: it is neither a directory nor in the local cache of the hub.
    """
    directory = Path(name).expanduser()
    if directory.is_dir():
        return SourceModel(name, directory.absolute())
    if not HUB_NAME.fullmatch(name):
        raise UserError(f"there is no model directory {name}", "name a directory, or a model of the hub")
    found = _find_in_cache(name, revision)
    if found is None:
        wanted = f" at {revision}" if revision else ""
        raise UserError(
            f"{name}{wanted} is neither a directory nor in the Hugging Face cache ({cache_directory()})",
            f"on a machine with a network: `hf download {name}{f' --revision {revision}' if revision else ''}`",
        )
    return SourceModel(name, found, found.name)


def cache_directory() -> Path:
    """Where Hugging Face keeps what it downloaded.

    See https://huggingface.co/docs/huggingface_hub/guides/manage-cache
    """
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(named).expanduser()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HF_HOME") or caches / "huggingface").expanduser() / "hub"


def _find_in_cache(name: str, revision: str | None) -> Path | None:
    """`models--ORG--NAME/snapshots/COMMIT`; a branch or tag is a file in `refs/` that holds its commit."""
    home = cache_directory() / f"models--{name.replace('/', '--')}"
    wanted = revision or "main"
    reference = home / "refs" / wanted
    commit = reference.read_text().strip() if reference.is_file() else wanted
    snapshot = home / "snapshots" / commit
    return snapshot if (snapshot / "config.json").exists() else None
