"""Whether a script can report to W&B, without loading it: is it installed where the script runs, are we logged in."""

from __future__ import annotations

import importlib.util
import netrc
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlparse

from holdfast.trackers import SCRIPT_RUN

HOST = "api.wandb.ai"


def why_off(command: Sequence[str], lock: Path | None, environ: Mapping[str, str], own_python: str) -> str:
    """Why W&B is off, in words; empty if it is on."""
    mode = environ.get("WANDB_MODE", "")
    if mode == "disabled":
        return "WANDB_MODE is disabled"
    if not _is_installed(command, lock, own_python):
        return "it is not installed where the script runs"
    if mode == "offline" or environ.get("WANDB_API_KEY") or _has_login(environ):
        return ""
    return "not logged in: `wandb login`, or WANDB_API_KEY, or WANDB_MODE=offline"


def _is_installed(command: Sequence[str], lock: Path | None, own_python: str) -> bool:
    if list(command) == [own_python]:
        return importlib.util.find_spec("wandb") is not None
    if list(command[:2]) == ["uv", "run"] and lock:
        return 'name = "wandb"' in lock.read_text(encoding="utf-8", errors="replace")
    return True  # an interpreter that we cannot ask cheaply


def _has_login(environ: Mapping[str, str]) -> bool:
    host = urlparse(environ.get("WANDB_BASE_URL", "")).hostname or HOST
    path = environ.get("NETRC") or str(Path.home() / ".netrc")
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def variables(name: str, group: str | None, home: str, run: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What a script's W&B reads: one run across restarts, in `wandb/` of the home. What the user exports wins."""
    grouped = {"WANDB_RUN_GROUP": group} if group else {}
    ours = {"WANDB_NAME": name, "WANDB_DIR": home, "WANDB_RUN_ID": run, "WANDB_RESUME": "allow", **grouped}
    left = {name: value for name, value in ours.items() if name not in environ}
    return {**left, SCRIPT_RUN: environ.get("WANDB_RUN_ID") or run}
