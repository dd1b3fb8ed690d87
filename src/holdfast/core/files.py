"""Durable file operations: every write, fsync, link and rename on which the truth of a root rests goes through here.

They use `os` calls directly, so that a test can count the boundaries and crash at each of them. Standard library
only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

from holdfast.core.errors import DamagedFile, NewerSchema, UnreadableFile

SCHEMA = 1
TEMPORARY = ".tmp-"
TRASH = ".trash-"
ASIDE = ".bad-"
LEFTOVER = re.compile(r"\.(?:tmp|trash)-[0-9a-f]{16}")
SET_ASIDE = re.compile(r".*\.bad-[0-9a-f]{16}")
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def new_token() -> str:
    """A name that no other process will choose: 16 hex digits."""
    return secrets.token_hex(8)


def is_leftover(name: str) -> bool:
    """Whether a file of this name is what a writer of ours left: a program's own `.tmp-mine` is not."""
    return LEFTOVER.match(name) is not None


def is_set_aside(name: str) -> bool:
    """Whether we renamed a file out of the way to this name."""
    return SET_ASIDE.fullmatch(name) is not None


def write_durably(path: str | Path, data: bytes) -> None:
    """Create or truncate `path`, write `data`, and wait until it is on disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """`os.write` until nothing is left: a single call may write less, on a full disk for example."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def fsync_path(path: str | Path) -> None:
    """Wait until a file's bytes, or a directory's entries, are on disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create(path: Path, data: bytes) -> None:
    """Create `path` with `data`, whole and exactly once: of many who try, one succeeds.

    A token-named file is written first and linked to the name. link() is atomic on NFS too, but its answer can be
    lost on the way back, so success is read from the link count.

    Raises:
        FileExistsError: somebody else was first.
    """
    temporary = path.with_name(f"{TEMPORARY}{new_token()}")
    write_durably(temporary, data)
    try:
        if not link(temporary, path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        fsync_path(path.parent)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def link(temporary: Path, path: Path) -> bool:
    """Give a finished file its name; False if the name is taken. Without hard links the bytes go to an O_EXCL file."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return os.stat(temporary).st_nlink == 2
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        return _create_exclusively(path, temporary.read_bytes())
    return True


def _create_exclusively(path: Path, data: bytes) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    return True


def replace(path: Path, data: bytes) -> None:
    """Write `path` so that readers see the old bytes or the new ones, never a mixture."""
    temporary = path.with_name(f"{TEMPORARY}{new_token()}")
    try:
        write_durably(temporary, data)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    fsync_path(path.parent)


def point(link: Path, target: str) -> None:
    """Make the symbolic link `link` say `target`, atomically, whatever it said before."""
    temporary = link.with_name(f"{TEMPORARY}{new_token()}")
    os.symlink(target, temporary)
    os.replace(temporary, link)
    fsync_path(link.parent)


def move_into_place(source: Path, target: Path) -> bool:
    """Rename a finished directory to its name; False if a directory with contents is already there (first wins)."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    fsync_path(target.parent)
    return True


def exchange(one: Path, other: Path) -> bool:
    """Let two paths trade places in a single step; False where the file system cannot do that."""
    if sys.platform != "linux":
        return False
    at_here, rename_exchange = -100, 2
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    if rename(at_here, os.fsencode(one), at_here, os.fsencode(other), rename_exchange) != 0:
        return False
    fsync_path(other.parent)
    return True


def set_aside(path: Path, label: str = ASIDE) -> Path:
    """Rename something out of the way, destroying nothing; returns its new name."""
    aside = path.with_name(f"{path.name}{label}{new_token()}")
    os.rename(path, aside)
    fsync_path(path.parent)
    return aside


def discard(path: Path) -> None:
    """Delete a tree in two moves: after the rename nobody can mistake what is left for the real thing."""
    trash = path if is_leftover(path.name) else path.with_name(f"{TRASH}{new_token()}")
    with contextlib.suppress(FileNotFoundError):
        if trash != path:
            os.rename(path, trash)
        if trash.is_dir() and not trash.is_symlink():
            shutil.rmtree(trash, ignore_errors=True)
        else:
            os.unlink(trash)


def sync_filesystem(path: Path) -> None:
    """One sync for everything written so far below the mount of `path`: for many small files, thousands of times faster
    than one fsync each."""
    if sys.platform == "linux":
        fd = os.open(path, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(path))
        finally:
            os.close(fd)
    else:
        os.sync()


def make_directories(path: Path) -> None:
    """mkdir -p, each new level durable."""
    if path.is_dir():
        return
    make_directories(path.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        fsync_path(path.parent)


def encode(content: dict[str, Any]) -> bytes:
    """The form in which our JSON files are written: readable, one schema number, a newline at the end."""
    return json.dumps({"schema": SCHEMA, **content}, indent=1, ensure_ascii=False).encode() + b"\n"


def decode(data: bytes, path: str | Path, what: str) -> dict[str, Any]:
    """Parse one of our JSON files and check its schema number.

    Raises:
        DamagedFile: torn, truncated, not JSON, or not ours.
        NewerSchema: written by a later version.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(
            f"{what} is damaged: {path}: {len(data)} bytes, {_where(error)}", f"look at it: less {path}"
        ) from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or type(schema) is not int:
        raise DamagedFile(
            f"{what} is not one of ours: {path}: schema is {schema!r}, expected {SCHEMA}", f"look at it: less {path}"
        )
    if schema > SCHEMA:
        raise NewerSchema(
            f"{what} was written by a later version: {path}: schema is {schema}, this version reads up to {SCHEMA}",
            "upgrade holdfast, or use another --root",
        )
    return content


def _where(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON from byte {error.pos}"
    return "nested too deeply" if isinstance(error, RecursionError) else "not text"


def read(path: str | Path, what: str) -> dict[str, Any]:
    """Read and check one of our JSON files.

    Raises:
        FileNotFoundError, NotADirectoryError: there is none.
        DamagedFile, NewerSchema: see `decode`.
        UnreadableFile: it is there, and we may not read it.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise UnreadableFile(
            f"{what} cannot be read: {path}: {error.strerror}", f"look at its owner and mode: ls -l {path}"
        ) from None
    return decode(data, path, what)


def read_or_none(path: str | Path, what: str) -> dict[str, Any] | None:
    """As `read`, with None for a file that is not there."""
    try:
        return read(path, what)
    except (FileNotFoundError, NotADirectoryError):
        return None


def last_line(path: Path, limit: int = 65536) -> bytes:
    """The last whole line of a file that may still be growing; empty if there is none."""
    tail = read_tail(path, limit)
    lines = tail[: tail.rfind(b"\n")].splitlines() if b"\n" in tail else []
    return lines[-1] if lines else b""


def read_tail(path: Path, limit: int = 65536) -> bytes:
    """The last `limit` bytes of a file, empty if it is not there."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
            return file.read(limit)
    except FileNotFoundError:
        return b""


def apply_umask(path: Path) -> None:
    """Give a file the mode that a new one would have. safetensors creates its files with 0600, whatever the umask."""
    umask = os.umask(0o022)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def safe_name(text: str) -> str:
    """`text` as one path component: no separators, spaces or shell characters, at most 120 bytes."""
    return re.sub(r"[^\w.+-]", "_", text)[:120] or "_"
