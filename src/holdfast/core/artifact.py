"""An artifact is a directory with a valid manifest, and a manifest is the proof that work is complete.

Sealed artifacts are built in a sibling `.tmp-<token>` and renamed, first wins. Exclusive kinds fill their home across
attempts, and the manifest is linked into it at the end. Either way the manifest is the last thing that appears.
The standard library is enough to read one: the frozen supervisor does.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import mmap
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from holdfast.core import files
from holdfast.core.errors import DamagedFile, NameTaken, UnreadableFile

MANIFEST = ".holdfast.json"
METRICS = "metrics.jsonl"
"""Written by every kind, with times in it: verified like other files, but not part of what the contents are."""
SHOWN = ("tensorboard/*", "wandb/*", "logs/metrics.csv")
"""Where trackers write in the home of an exclusive kind: loose, whatever the kind says."""
FIELDS: Mapping[str, type] = {"key": str, "digest": str, "files": list}
WINDOW = 16 * 2**20
"""Bytes that are mapped at once while a file is digested."""
OPTIONAL: Mapping[str, type] = {"path": str, "attempt": int, "inputs": dict, "inner": list}


class File(NamedTuple):
    """One file of an artifact: size in bytes, blake3 hex digest; a loose file (appended to by others) has no digest."""

    path: str
    size: int
    digest: str | None


@dataclass(frozen=True)
class Manifest:
    """The proof, as it was read. `content` is the parsed file."""

    content: Mapping[str, Any]

    @property
    def key(self) -> str:
        return str(self.content["key"])

    @property
    def path(self) -> str:
        """Where inside its stage's home, for an inner artifact (a checkpoint); empty for the home itself."""
        return str(self.content.get("path", ""))

    @property
    def digest(self) -> str:
        """Of the sealed contents: equal digests mean equal bytes, whoever wrote them and when."""
        return str(self.content["digest"])

    @property
    def attempt(self) -> int:
        return int(self.content.get("attempt", 0))

    @property
    def has_generations(self) -> bool:
        return bool(self.content.get("generations"))

    @property
    def inputs(self) -> Mapping[str, Mapping[str, str]]:
        return dict(self.content.get("inputs", {}))

    @cached_property
    def files(self) -> tuple[File, ...]:
        return tuple(_file(entry) for entry in self.content["files"])


def _file(entry: Any) -> File:
    path, size, digest = entry if isinstance(entry, list) and len(entry) == 3 else (None, None, None)
    if not (isinstance(path, str) and isinstance(size, int) and isinstance(digest, str | None)):
        raise DamagedFile(f"manifest is not one of ours: it lists {entry!r}, expected a path, a size and a digest")
    return File(path, size, digest)


def read(home: str | Path) -> Manifest | None:
    """The manifest in `home`, or None where there is none.

    Raises:
        DamagedFile: there is one that cannot be believed.
        UnreadableFile: we may not read it, or a later version wrote it.
    """
    path = f"{home}/{MANIFEST}"
    content = files.read_or_none(path, "manifest")
    if content is None:
        return None
    for name, expected in FIELDS.items():
        if not isinstance(content.get(name), expected):
            raise _foreign(path, name, content.get(name), expected)
    for name, expected in OPTIONAL.items():
        if name in content and not isinstance(content[name], expected):
            raise _foreign(path, name, content[name], expected)
    return Manifest(content)


def _foreign(path: str, name: str, value: Any, expected: type) -> DamagedFile:
    return DamagedFile(
        f"manifest is not one of ours: {path}: {name} is {value!r}, expected a {expected.__name__}",
        f"look at it: less {path}",
    )


def holds(home: str | Path, key: str, path: str = "") -> Manifest | None:
    """The manifest in `home` if it proves the artifact `key` (and inner `path`); one that is damaged, or that we may
    not read, proves nothing.
    """
    try:
        manifest = read(home)
    except (DamagedFile, UnreadableFile):
        return None
    return manifest if manifest and manifest.key == key and manifest.path == path else None


def seal(directory: Path, description: Mapping[str, Any], loose: Iterable[str] = ()) -> Manifest:
    """Digest every file below `directory` and wait until all of it is on disk, which writes while we digest.

    Inner artifacts are cited by path and digest, not listed. `description` goes into the manifest as it is. `loose` are
    globs of files that others append to.
    """
    patterns = tuple(loose)
    listed: list[File] = []
    inner: list[dict[str, str]] = []
    for path, entry in _walk(directory, ""):
        if entry is not None:
            inner.append({"path": path, "digest": entry.digest})
        else:
            listed.append(_describe(directory / path, path, any(fnmatch.fnmatch(path, glob) for glob in patterns)))
    for file in listed:
        if file.digest is not None and not (directory / file.path).is_symlink():
            files.fsync_path(directory / file.path)
    _sync_directories(directory)
    sealed = sorted(file for file in listed if file.digest is not None and file.path != METRICS)
    digest = hashlib.sha256(json.dumps([sealed, inner]).encode()).hexdigest()
    return Manifest(
        {
            **description,
            "digest": digest,
            "published": time.time(),
            "inner": inner,
            "files": [list(file) for file in sorted(listed)],
        }
    )


def _walk(directory: Path, below: str) -> Iterator[tuple[str, Manifest | None]]:
    """Files as (path, None) and inner artifacts as (path, manifest); leftovers of writers that died are passed over."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        path = f"{below}{entry.name}"
        if entry.name == MANIFEST or files.is_leftover(entry.name) or files.is_set_aside(entry.name):
            continue
        if entry.is_file() or entry.is_symlink():
            yield path, None
        elif not entry.is_dir():
            continue  # a pipe or a socket: nothing to keep, and reading it would never end
        elif manifest := read(entry.path):
            yield path, manifest
        else:
            yield from _walk(Path(entry.path), f"{path}/")


def _describe(location: Path, path: str, is_loose: bool) -> File:
    if location.is_symlink():
        return File(path, 0, None if is_loose else f"link to {os.readlink(location)}")
    if is_loose:
        return File(path, location.stat().st_size, None)
    return File(path, location.stat().st_size, digest_of(location))


def digest_of(path: Path) -> str:
    """blake3 of a file's bytes, read on all cores through a window, so that memory does not grow with the file."""
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO)
    with open(path, "rb") as file:
        for start in range(0, os.fstat(file.fileno()).st_size, WINDOW):
            length = min(WINDOW, os.fstat(file.fileno()).st_size - start)
            with mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start) as window:
                hasher.update(window)
    return hasher.hexdigest()


def _sync_directories(directory: Path) -> None:
    for parent, _, _ in os.walk(directory):
        files.fsync_path(parent)


def publish(built: Path, home: Path, manifest: Manifest) -> bool:
    """Rename `built` to `home`, its manifest inside; False if the same work was already there (then `built` is
    discarded).

    Raises:
        NameTaken: something else lies at `home`.
    """
    files.write_durably(built / MANIFEST, files.encode(dict(manifest.content)))
    files.fsync_path(built)
    files.make_directories(home.parent)
    while not files.move_into_place(built, home):
        if not make_way(home, manifest):
            files.discard(built)
            return False
    return True


def make_way(home: Path, manifest: Manifest) -> bool:
    """Put aside what lies at `home` if its manifest is damaged; False if it is the same work, and complete.

    Raises:
        NameTaken: something else lies there.
        UnreadableFile: we cannot know.
    """
    try:
        found = read(home)
    except DamagedFile:
        files.set_aside(home)
        return True
    if found is None and not os.path.lexists(home):
        return True  # it was removed a moment ago
    if found and (found.key, found.path) == (manifest.key, manifest.path):
        return False
    holds = f"key {found.key[:12]} {found.path}".rstrip() if found else "no manifest"
    raise NameTaken(
        f"{home} holds other work: {holds}, expected key {manifest.key[:12]} {manifest.path}".rstrip(),
        "give this stage another name, or move that directory away",
    )


def publish_in_place(home: Path, manifest: Manifest) -> bool:
    """Link the manifest into a home that was filled in place; False if a valid one was there first.

    Raises:
        UnreadableFile: there is one that we may not read, or that a later version wrote.
    """
    while True:
        try:
            files.create(home / MANIFEST, files.encode(dict(manifest.content)))
        except FileExistsError:
            if _is_published(home, manifest):
                return False
            files.set_aside(home / MANIFEST)
        else:
            return True


def _is_published(home: Path, manifest: Manifest) -> bool:
    try:
        found = read(home)
    except DamagedFile:
        return False
    return found is not None and (found.key, found.path) == (manifest.key, manifest.path)


def verify(home: Path, manifest: Manifest, *, digests: bool) -> list[str]:
    """What does not agree with the manifest, in words: missing files, sizes, and with `digests` the bytes."""
    problems = []
    for file in manifest.files:
        if file.digest is None:
            continue
        problem = _difference(home / file.path, file, digests)
        if problem:
            problems.append(f"{file.path}: {problem}")
    return problems


def _difference(location: Path, file: File, digests: bool) -> str:
    expected = file.digest or ""
    if expected.startswith("link to "):
        found = f"link to {os.readlink(location)}" if location.is_symlink() else "not a link"
        return "" if found == expected else f"{found}, expected {expected}"
    if location.is_symlink() or not location.is_file():
        return "missing"
    size = location.stat().st_size
    if size != file.size:
        return f"{size} bytes, expected {file.size}"
    if digests and (found := digest_of(location)) != expected:
        return f"digest {found[:12]}, expected {expected[:12]}"
    return ""
