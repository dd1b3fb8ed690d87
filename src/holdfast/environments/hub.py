"""Data sets of the Hugging Face hub, pinned to a commit.

What a name means is asked of the local cache first (what is there is what will be read), then of the hub. Where neither
answers, the name stays unpinned and says so. The standard library is enough for that, since plans are made where no
library of the field is installed.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from holdfast.core import near
from holdfast.core.errors import UserError
from holdfast.environments.sources import Row

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
PATIENCE = 10.0


def find_commit(name: str, revision: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The commit that a revision (a branch or a tag; None is `main`) of a data set means now; None: nobody can say."""
    wanted = revision or "main"
    if COMMIT.fullmatch(wanted):
        return wanted
    try:
        known = (_cached(name, environ) / "refs" / wanted).read_text().strip()
    except (OSError, ValueError):
        return None if is_offline(environ) else _ask(name, wanted, environ)
    return known if COMMIT.fullmatch(known) else None


def is_offline(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the user forbade the network, as the hub's own library reads it."""
    return any(
        environ.get(name, "").upper() in {"1", "ON", "YES", "TRUE"}
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    )


def _cached(name: str, environ: Mapping[str, str]) -> Path:
    """Where the hub's library keeps a data set."""
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = environ.get("HF_HOME") or f"{cache}/huggingface"
    hub = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(hub).expanduser() / f"datasets--{name.replace('/', '--')}"


def _ask(name: str, revision: str, environ: Mapping[str, str]) -> str | None:
    hub = environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = f"{hub.rstrip('/')}/api/datasets/{quote(name)}/revision/{quote(revision, safe='')}"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            found = json.loads(reply.read()).get("sha")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and COMMIT.fullmatch(found) else None


def read(name: str, subset: str | None, split: str | None, commit: str | None) -> list[Row]:
    """All rows of one subset and split, at a commit (None: at what `main` is now).

    Raises:
        UserError: it is not there, not to be had, or has no such subset or split.
    """
    directory = _download(name, commit)
    try:
        import datasets
    except ImportError:
        raise _no_library(name) from None
    try:
        chosen = split or _only_split(datasets, name, directory, subset)
        rows = datasets.load_dataset(directory, subset, split=chosen)
    except ValueError as error:  # of the library: a subset or split that there is not
        raise UserError(f"data set {name}: {' '.join(str(error).split())}", "correct `subset` or `split`") from None
    return [Row(f"row {number} of {name}, {chosen}", dict(row)) for number, row in enumerate(rows, 1)]


def _download(name: str, commit: str | None) -> str:
    try:
        import huggingface_hub
    except ImportError:
        raise _no_library(name) from None
    try:
        return str(huggingface_hub.snapshot_download(name, repo_type="dataset", revision=commit))
    except (OSError, ValueError) as error:  # not found, gated, no network, not in the cache, no such name
        says = " ".join(str(error).split())[:300]
        at = f" --revision {commit}" if commit else ""
        raise UserError(
            f"data set {name} is not in the cache, and cannot be had: {says}",
            f"where there is a network: hf download --repo-type dataset {name}{at}",
        ) from None


def _only_split(datasets: Any, name: str, directory: str, subset: str | None) -> str:
    there = [str(each) for each in datasets.get_dataset_split_names(directory, subset)]
    if len(there) == 1 or "test" in there:
        return "test" if "test" in there else there[0]
    raise UserError(f"data set {name} has {len(there)} splits, and none is named", f"`split`: {near.listed(there)}")


def _no_library(name: str) -> UserError:
    return UserError(
        f"data set {name} is on the hub, and the library `datasets` is not there", "pip install 'holdfast[evals]'"
    )
