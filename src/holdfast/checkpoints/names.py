"""Names in a checkpoint as the architecture spells them.

Trainers wrap models (`torch.compile`, FSDP, DDP, activation checkpointing) and put them into dictionaries beside other
state, and each wrapper leaves its name in the names. Those that never name a part of a model go wherever they stand;
what stands before the model's own names is found by comparing with the names that the architecture has: `model.` may
be a wrapper (NeMo RL's `{"model": ...}`) or the model's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from holdfast.checkpoints.architectures.required import BUFFERS
from holdfast.core.errors import UserError

WRAPPERS = {
    "_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_forward_module", "base_layer",
    "original_module",
}  # fmt: skip
"""torch.compile, FSDP (both spellings), activation checkpointing, Lightning, PEFT around what it changes."""
OTHER_STATE = {
    "optimizer", "optimizers", "optim", "optim_state", "optimizer_state", "lr_scheduler", "lr_schedulers", "scheduler",
    "rng", "rng_state", "rng_states", "dataloader", "train_state", "progress", "step", "epoch", "iteration", "args",
}  # fmt: skip
"""First or second components of names that are not a model's."""


@dataclass(frozen=True)
class Renamed:
    """Which name in the checkpoint is which name of the model."""

    stored: Mapping[str, str]
    """The model's name to the checkpoint's."""
    left_out: Mapping[str, str]
    """The checkpoint's name to the reason why it is not part of the model."""
    prefix: str
    """What stood before all of the model's names, wrappers aside."""


def rename(names: Iterable[str], expected: Collection[str] = ()) -> Renamed:
    """Names as in `expected`; with nothing expected, only the wrappers go.

    Raises:
        UserError: two names become one, or several models are in the checkpoint.
    """
    left_out: dict[str, str] = {}
    stored: dict[str, str] = {}
    for name in sorted(names):
        why = why_not(name)
        if why:
            left_out[name] = why
        else:
            _put(stored, unwrap(name), name)
    prefix = find_prefix(stored, expected)
    return Renamed(_strip(stored, prefix), left_out, prefix)


def unwrap(name: str) -> str:
    """The name without the components that wrappers put in, and without DDP's `module.` at the front."""
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


def why_not(name: str) -> str | None:
    """Why a name is not one of a model's tensors; None if it is."""
    parts = name.split(".")
    if parts[-1] == "_extra_state":
        return "state of a layer that is not a weight"
    if name.endswith(BUFFERS):
        return "follows from the config"
    if OTHER_STATE & set(parts[:2]):
        return "optimizer or trainer state"
    return None


def find_prefix(names: Collection[str], expected: Collection[str]) -> str:
    """What has to go from the front so that the most names are expected ones; the shortest of several equals.

    Raises:
        UserError: two prefixes do equally well: there is more than one model.
    """
    counts = Counter(_prefixes(names, expected))
    if not counts:
        return ""
    most = max(counts.values())
    best = sorted((prefix for prefix, count in counts.items() if count == most), key=lambda each: (len(each), each))
    if len(best) > 1 and not best[-1].endswith(best[0]):
        raise UserError(
            f"the checkpoint holds more than one model: their names begin with {best[0]!r} and {best[1]!r}",
            "convert them apart: give the directory of one",
        )
    return best[0]


def _prefixes(names: Collection[str], expected: Collection[str]) -> Iterable[str]:
    """For every name, each front without which it is an expected one."""
    wanted = set(expected)
    for name in names:
        position = 0
        while True:
            if name[position:] in wanted:
                yield name[:position]
            dot = name.find(".", position)
            if dot < 0:
                break
            position = dot + 1


def _strip(stored: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Names outside of the prefix stay as they are, for the check of the whole to find them left over."""
    stripped: dict[str, str] = {}
    for name, original in stored.items():
        _put(stripped, name.removeprefix(prefix), original)
    return stripped


def _put(into: dict[str, str], name: str, original: str) -> None:
    if name in into:
        raise UserError(
            f"{into[name]} and {original} are both {name} without their wrappers",
            "the checkpoint holds the model twice: keep one of the two",
        )
    into[name] = original
