"""Puts a converted checkpoint at a path that somebody chose, whole or not at all.

Weights are hard links where the file system allows it, so that a second path costs no space; the small files, which
people edit, are copies.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from holdfast.core import artifact, files
from holdfast.core.artifact import Manifest
from holdfast.core.errors import UserError

LINKED = (".safetensors",)


def is_placed(home: Path, out: Path) -> bool:
    """Whether `out` holds what `home` holds, by their manifests and the sizes of the files."""
    ours, theirs = artifact.read(home), artifact.read(out)
    if ours is None or theirs is None or theirs.digest != ours.digest:
        return False
    return not artifact.verify(out, theirs, digests=False)


def place(home: Path, out: Path) -> None:
    """Make `out` hold the files of the artifact `home`. What an earlier conversion placed there is replaced, in one
    step where the file system allows it. Of many who do this at once, each is content with what another one placed.

    Raises:
        UserError: other files lie there, or `home` is no artifact.
    """
    manifest = artifact.read(home)
    if manifest is None:
        raise UserError(f"{home} is not complete", "convert it first")
    _refuse_foreign(out)
    files.make_directories(out.parent)
    built = out.with_name(f"{files.TEMPORARY}{files.new_token()}")
    built.mkdir()
    try:
        _fill(built, home, manifest)
        while not files.move_into_place(built, out) and not is_placed(home, out):
            _refuse_foreign(out)
            if files.exchange(built, out):
                break
            files.discard(out)
    finally:
        files.discard(built)


def _refuse_foreign(out: Path) -> None:
    if os.path.lexists(out) and (not out.is_dir() or (artifact.read(out) is None and any(out.iterdir()))):
        raise UserError(
            f"{out} holds files that holdfast did not make", "choose another --hf-ckpt-path, or move them away"
        )


def _fill(built: Path, home: Path, manifest: Manifest) -> None:
    for file in manifest.files:
        target = built / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.suffix in LINKED and _link(home / file.path, target)):
            shutil.copyfile(home / file.path, target)
            files.fsync_path(target)
    files.write_durably(built / artifact.MANIFEST, files.encode(dict(manifest.content)))


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        return False
    return True
