"""GPU slots of this host, claimed across launches and roots.

A slot is a sequence of claims in the user's runtime directory, like the attempts of a stage: a holder that is gone
frees it. Standard library only: the frozen supervisor carries this file.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from pathlib import Path

from holdfast.core import attempt, files
from holdfast.core.attempt import Census, Claim, Life
from holdfast.core.errors import Held, UserError


def devices() -> list[str]:
    """Ids of the GPUs that we may use: `HOLDFAST_GPUS`, `CUDA_VISIBLE_DEVICES`, otherwise all that the host has."""
    for variable in ("HOLDFAST_GPUS", "CUDA_VISIBLE_DEVICES"):
        if variable in os.environ:
            named = [device.strip() for device in os.environ[variable].split(",")]
            return [device for device in dict.fromkeys(named) if device and device != "-1"]
    present = glob.glob("/dev/nvidia[0-9]*")
    return sorted((path.removeprefix("/dev/nvidia") for path in present), key=int)


def directory() -> Path:
    """Where the slots of this user on this host are kept."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or os.path.join(tempfile.gettempdir(), f"holdfast-{os.getuid()}")
    path = Path(runtime) / "holdfast-gpus"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.geteuid() or path.parent.stat().st_uid not in (0, os.geteuid()):
        raise UserError(f"{path} belongs to another user, who could end our programs by it", "set XDG_RUNTIME_DIR")
    return path


def acquire(count: int, token: str = "") -> dict[str, Claim] | None:
    """Claims to `count` GPUs by device id, held by the calling process; None if so many are not free.

    `token` is what the processes that will use them carry: when their supervisor dies they are ended before anybody
    else gets the GPU.
    """
    held: dict[str, Claim] = {}
    for device in devices():
        if len(held) == count:
            break
        with contextlib.suppress(Held):
            held[device] = _take(_sequence(device), token)
    if len(held) == count:
        return held
    release(held)
    return None


def _take(sequence: Path, token: str) -> Claim:
    """A claim to one slot.

    Old claims are forgotten, so a number can be free again for one who looked long ago: only the highest number holds.

    Raises:
        Held: somebody has it.
    """
    too_late = Held(f"somebody was faster at {sequence}")
    try:
        claim = attempt.take(sequence, "", exclusive=True, token=token)
    except FileNotFoundError:  # forgotten by others while we made it
        raise too_late from None
    if attempt.highest(sequence) > claim.n:
        _forget(claim.path)
        raise too_late
    return claim


def release(held: dict[str, Claim]) -> None:
    """Give slots back, and forget the claims before them."""
    for claim in held.values():
        attempt.end(claim, "released", "")
        for n in range(claim.n - 1, 0, -1):
            old = attempt.entry(claim.path.parent, n)
            if not old.exists():
                break
            _forget(old)


def _forget(entry: Path) -> None:
    shutil.rmtree(entry.with_suffix(""), ignore_errors=True)
    entry.unlink(missing_ok=True)


def free() -> int:
    """How many slots nobody holds at the moment."""
    census = Census()
    return sum(_is_free(attempt.newest(_sequence(device)), census) for device in devices())


def _sequence(device: str) -> Path:
    return directory() / files.safe_name(device)


def _is_free(last: Claim | None, census: Census) -> bool:
    return last is None or last.ending() is not None or attempt.judge(last, census).life is Life.DEAD
