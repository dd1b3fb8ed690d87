"""Takes in what others made: a directory or file becomes an input by the fingerprint of its contents, never by its
path.

The full digest is cached by inode, size, mtime and ctime, so that a large model is read once. A torch.distributed
checkpoint is not read for it: its `.metadata` holds an id that is new with every save.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from holdfast.core import artifact, files, near
from holdfast.core.errors import DamagedFile, UserError
from holdfast.core.record import Record
from holdfast.core.stage import Stage
from holdfast.core.store import ADOPTED, Store

DCP_METADATA = ".metadata"
BLOB = re.compile(r"/blobs/([0-9a-f]{40}|[0-9a-f]{64})$")
"""https://huggingface.co/docs/huggingface_hub/guides/manage-cache"""


def adopt(store: Store, path: Path, only: Sequence[str] = ()) -> Record:
    """The record that stands for the directory or file at `path` in a plan; with `only`, for those of its files whose
    names match one of these globs.

    Raises:
        UserError: there is nothing of the kind.
    """
    if not path.exists():
        close = near.path(path)
        raise UserError(
            f"cannot take in {path}: there is no such directory or file at {path.absolute()}",
            f"did you mean `{close}`?" if close else "give a path from where you type, or the name of a stage",
        )
    if not (path.is_dir() or path.is_file()):
        raise UserError(
            f"cannot take in {path}: it is neither a directory nor a file", "give what has contents that stay"
        )
    location = path.resolve()
    params: dict[str, object] = {"fingerprint": fingerprint(store, location, only)}
    if only:
        params["only"] = list(only)
    return Record(Stage(ADOPTED, 1, params), location.name, str(location))


def fingerprint(store: Store, location: Path, only: Sequence[str] = (), *, remember: bool = False) -> str:
    """Of the contents: of a directory the names and digests of all files below, hidden ones and our manifest excepted;
    of a torch.distributed checkpoint its `.metadata` and the sizes of its files; of a file its digest.

    Only with `remember` is the answer kept: a planner looks and writes nothing.
    """
    if (location / DCP_METADATA).is_file():
        return _checkpoint_fingerprint(location)
    cache = store.adopted / f"{hashlib.sha256(json.dumps([str(location), *only]).encode()).hexdigest()[:32]}.json"
    seen = {"": _state(location.stat())} if location.is_file() else _states(location)
    seen = {name: state for name, state in seen.items() if not only or _is_one(name, only)}
    try:
        known = files.read_or_none(cache, "fingerprint")
    except DamagedFile:
        known = None
    if known and known["files"] == seen:
        return str(known["fingerprint"])
    digests = {name: _digest(location / name) for name in sorted(seen)}
    found = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    # A file written within the last two seconds could change again without a visible change of its times.
    if remember and all(time.time_ns() - max(state[2:]) > 2_000_000_000 for state in seen.values()):
        files.make_directories(cache.parent)
        files.replace(cache, files.encode({"path": str(location), "files": seen, "fingerprint": found}))
    return found


def _checkpoint_fingerprint(directory: Path) -> str:
    sizes = {path.name: path.stat().st_size for path in sorted(directory.glob("*.distcp"))}
    identity = {"metadata": artifact.digest_of(directory / DCP_METADATA), "sizes": sizes}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    """Of a file's bytes. The cache of Hugging Face keeps files under the hash of their contents, and links to them."""
    if path.is_symlink() and BLOB.search(os.readlink(path)):
        return f"blob {os.path.basename(os.readlink(path))}"
    return artifact.digest_of(path)


def _is_one(name: str, only: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in only)


def _state(found: os.stat_result) -> list[int]:
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _states(directory: Path) -> dict[str, list[int]]:
    """Inode, size, mtime and ctime of every regular file below, by relative path; links to files are followed.

    Raises:
        UserError: a link leads nowhere, so nobody can say what the contents are.
    """
    states: dict[str, list[int]] = {}
    for path in _visible(directory):
        try:
            state = path.stat()
        except FileNotFoundError:
            raise UserError(
                f"cannot take in {directory}: {path.name} is a link to {os.readlink(path)}, which is not there",
                "mend or delete the link",
            ) from None
        if stat.S_ISREG(state.st_mode):
            states[str(path.relative_to(directory))] = _state(state)
    return states


def _visible(directory: Path) -> Iterator[Path]:
    """Everything below that is not hidden; links to directories are followed, but not round in a circle."""
    seen = {directory.resolve()}
    for parent, folders, names in os.walk(directory, followlinks=True):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        linked = {folder: Path(parent, folder).resolve() for folder in folders if Path(parent, folder).is_symlink()}
        folders[:] = [folder for folder in folders if linked.get(folder) not in seen]
        seen.update(linked.values())
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))
