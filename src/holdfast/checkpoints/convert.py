"""Writes what a plan says into a directory: weights, index, config, tokenizer. The same plan gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast.checkpoints import copy, layout, snapshots
from holdfast.checkpoints.layout import OutputFile
from holdfast.checkpoints.parallel import Progress
from holdfast.checkpoints.plan import Plan
from holdfast.checkpoints.recognise import ADAPTER_WEIGHTS
from holdfast.checkpoints.tensors import ITEM_SIZES
from holdfast.core import files
from holdfast.core.errors import DamagedFile


@dataclass(frozen=True)
class Summary:
    """What a conversion did."""

    sentence: str
    """What the checkpoint was."""
    said_by: str
    """Who knew which tensors are needed."""
    tensors: int
    parameters: int
    weight_bytes: int
    dtypes: Mapping[str, int]
    """Tensors of each dtype in the new files."""
    files: tuple[str, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]


def plan_files(plan: Plan, shard_bytes: int = layout.SHARD_BYTES) -> list[OutputFile]:
    """The safetensors files of the new directory, known to the byte; an adapter is one file."""
    sources = plan.tensors.values()
    if plan.is_adapter:
        (single,) = layout.plan(sources, plan.dtype, shard_bytes=max(1, 2 * sum(each.nbytes for each in sources)))
        return [replace(single, name=ADAPTER_WEIGHTS)]
    return layout.plan(sources, plan.dtype, shard_bytes)


def run(
    plan: Plan,
    directory: Path,
    *,
    shard_bytes: int = layout.SHARD_BYTES,
    check: bool = True,
    threads: int | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> Summary:
    """Fill `directory`, which is there and empty. The weights are on their way to the disk when this returns; to wait
    for them is the caller's, who seals and publishes the directory.

    Raises:
        UserError: a file that is read is damaged, or changed or vanished since the plan was made; the disk is full.
        Stopped: `stop` said so.
    """
    planned = plan_files(plan, shard_bytes)
    try:
        copy.write(directory, planned, check=check, threads=threads, progress=progress, stop=stop)
    except DamagedFile:
        snapshots.check(plan.snapshot)  # it may be whole, and another one than before
        raise
    index = None if plan.is_adapter else layout.make_index(planned)
    small: dict[str, bytes | Path] = {**plan.files, **({layout.INDEX: index} if index else {})}
    for name, content in small.items():
        target = directory / name
        target.parent.mkdir(exist_ok=True)
        files.write_durably(target, content if isinstance(content, bytes) else content.read_bytes())
    snapshots.check(plan.snapshot)
    for made in {directory, *((directory / name).parent for name in small)}:
        files.fsync_path(made)
    return _sum_up(plan, planned, [*(file.name for file in planned), *small])


def _sum_up(plan: Plan, planned: list[OutputFile], names: list[str]) -> Summary:
    places = [place for file in planned for place in file.places]
    dtypes: dict[str, int] = {}
    for place in places:
        dtypes[place.dtype] = dtypes.get(place.dtype, 0) + 1
    return Summary(
        sentence=plan.recognised.sentence,
        said_by=plan.said_by,
        tensors=len(places),
        parameters=sum(place.nbytes // ITEM_SIZES[place.dtype] for place in places),
        weight_bytes=sum(place.nbytes for place in places),
        dtypes=dict(sorted(dtypes.items())),
        files=tuple(sorted(names)),
        left_out=plan.left_out,
        notes=plan.notes,
    )
