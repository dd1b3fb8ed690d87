"""The code that a script belongs to: its digests for the manifest, its interpreter, and copies that do not change.

None of it is part of a key: finished work whose code changed since is reported, and run again only when asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.core import files
from holdfast.core.errors import UserError
from holdfast.core.store import Store
from holdfast.execute import snapshots

PROJECT_FILES = (".git", "uv.lock", "pyproject.toml")


def project(script: Path) -> Path | None:
    """The nearest directory above a script that looks like the root of a project; a repository before others."""
    above = script.resolve().parents
    for mark in PROJECT_FILES:
        for directory in above:
            if (directory / mark).exists():
                return directory
    return None


def lock(script: Path) -> Path | None:
    """The nearest `uv.lock` above a script, inside its project."""
    home = project(script)
    for directory in script.resolve().parents:
        if (directory / "uv.lock").exists():
            return directory / "uv.lock"
        if directory == home:
            break
    return None


def relative(script: Path) -> str:
    """A script's path inside its project, or inside the current directory; absolute where it is in neither."""
    location = script.resolve()
    for base in (project(script), Path.cwd().resolve()):
        if base and location.is_relative_to(base):
            return location.relative_to(base).as_posix()
    return str(location)


def state(script: Path) -> dict[str, Any]:
    """`script`: its sha256; `revision` of its repository; `dirty`: sha256 of what changed since, empty if nothing."""
    found = {"script": hashlib.sha256(script.read_bytes()).hexdigest()}
    directory = script.resolve().parent
    revision = _git(directory, "rev-parse", "HEAD")
    if revision is not None:
        changed = _git(directory, "diff", "HEAD", "--no-ext-diff", "--binary") or b""
        dirty = hashlib.sha256(changed).hexdigest() if changed else ""
        found |= {"revision": revision.decode().strip(), "dirty": dirty}
    return found


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two states, in words; empty if nothing does."""
    if "script" in then and then["script"] != now["script"]:
        return f"its script changed since: {then['script'][:12]} then, {now['script'][:12]} now"
    if "revision" in then and [then.get("revision"), then.get("dirty")] != [now.get("revision"), now.get("dirty")]:
        return f"its repository changed since: {_words(then)} then, {_words(now)} now"
    return ""


def _words(found: Mapping[str, Any]) -> str:
    revision = str(found.get("revision", "no repository"))[:12]
    return f"{revision} with changes" if found.get("dirty") else revision


def interpreter(script: Path, given: str | None, *, on_cluster: bool) -> tuple[list[str], str]:
    """The tokens before the script, and what a person should know of the choice."""
    if given is not None:
        return _split(given), ""
    locked = lock(script)
    if locked and (on_cluster or shutil.which("uv")):
        return ["uv", "run"], ""
    note = f"{locked} is not used: there is no uv on PATH; the script runs with {sys.executable}" if locked else ""
    return [sys.executable], note


def _split(interpreter: str) -> list[str]:
    try:
        tokens = shlex.split(interpreter)
    except ValueError as error:
        raise UserError(f"--interpreter {interpreter!r} cannot be read: {error}", "close the quotes") from None
    if not tokens:
        raise UserError(f"--interpreter is {interpreter!r}: it names no program", "--interpreter python3")
    return tokens


def _git(directory: Path, *arguments: str) -> bytes | None:
    """What git says, None where it says no or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(directory), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def top_of(directory: Path) -> Path:
    """The top of the repository that a directory is in.

    Raises:
        UserError: it is in none.
    """
    found = _git(directory, "rev-parse", "--show-toplevel")
    if found is None:
        raise UserError(
            f"--snapshot needs a git repository, and {directory} is in none", "launch without it, or git init"
        )
    return Path(os.fsdecode(found).rstrip("\n"))


@dataclass(frozen=True)
class Snapshot:
    """The tracked, changed and new files of a repository (not what git ignores), named by their contents."""

    top: Path
    names: tuple[str, ...]
    digest: str

    @classmethod
    def of(cls, top: Path, root: Path) -> Snapshot:
        """What a repository holds now, save for the root, should that lie in it."""
        inside = os.path.relpath(root.resolve(), top.resolve())
        names = tuple(sorted(name for name in _listed(top) if not Path(name).is_relative_to(inside)))
        digest = hashlib.sha256()
        for name in names:
            digest.update(_mark(top / name, name))
        return cls(top.resolve(), names, digest.hexdigest())

    def holds(self, path: Path) -> bool:
        """Whether a path, relative to the current directory, leads to a file of the copy."""
        location = path.resolve()
        return (
            not path.is_absolute()
            and location.is_relative_to(self.top)
            and location.relative_to(self.top).as_posix() in self.names
        )

    def folder(self, store: Store) -> Path:
        """Where the copy is, once it was made."""
        return snapshots.place(store) / self.digest[:16]

    def make(self, store: Store) -> Path:
        """Make the copy, which is never changed; the same contents are copied once.

        Raises:
            UserError: files changed while they were copied.
        """
        target = self.folder(store)
        with contextlib.suppress(FileNotFoundError):
            os.utime(target)  # young again, so that no `gc` of this moment takes it
            return target
        store.prepare()
        files.make_directories(target.parent)
        built = target.with_name(f"{files.TEMPORARY}{files.new_token()}")
        built.mkdir()
        copied = hashlib.sha256()
        for name in self.names:
            _copy(self.top / name, built / name)
            copied.update(_mark(built / name, name))
        if copied.hexdigest() != self.digest:
            files.discard(built)
            raise UserError(f"files in {self.top} changed while they were copied", "launch again")
        files.sync_filesystem(built)
        if not files.move_into_place(built, target):
            files.discard(built)
        return target


def _listed(top: Path) -> set[str]:
    tracked = _git(top, "ls-files", "-z", "--recurse-submodules") or _git(top, "ls-files", "-z") or b""
    untracked = _git(top, "ls-files", "-z", "--others", "--exclude-standard") or b""
    names = {os.fsdecode(name) for name in (tracked + untracked).split(b"\0") if name}
    return {name for name in names if (top / name).is_symlink() or (top / name).is_file()}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def _mark(path: Path, name: str) -> bytes:
    """What of a file counts: name, whether it can be run, contents."""
    content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
    executable = b"x" if os.access(path, os.X_OK) else b"-"
    return b"\0".join([os.fsencode(name), executable, hashlib.sha256(content).hexdigest().encode(), b""])
