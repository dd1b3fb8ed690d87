"""One slice of a collection of rollouts: some of its prompts, with an engine of its own. Another stage publishes.

Every slice writes into the one collection, in parts of its own, so it does not matter who collected what: the same
rollouts can be owed to another slicing the next time.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core import files
from holdfast.core.errors import ConfigError
from holdfast.stages import rollout_files
from holdfast.stages.problems import Problems
from holdfast.stages.rollouts import RolloutParams, Rollouts, fill, prepare, refuse_gaps

if TYPE_CHECKING:
    from holdfast.core.output import Output

FILE = "slice.json"
SLICE = re.compile(r"(\d+)of(\d+)")


class SliceParams(RolloutParams):
    """A collection, and which slice of it."""

    slice: str
    """`3of8`: every eighth prompt, from the fourth on."""


class RolloutSlice(Rollouts):
    name = "rollout_slice"
    loose = ("logs/*",)
    Params = SliceParams

    def run(self, params: RolloutParams, inputs: Mapping[str, Path], out: Output) -> None:
        assert isinstance(params, SliceParams)
        problems = Problems(params)
        collection, engines = prepare(params, problems, inputs, out)
        ids = take(problems.ids(), params.slice)
        with contextlib.closing(collection.index(ids, params.repeats)) as index:
            fill(params, problems, index, collection, engines, out)
            refuse_gaps(index, params, collection)
            content: dict[str, Any] = {"prompts": len(ids), "wanted": index.wanted, "done": index.done}
        rollout_files.keep_logs(out.record.parent, out.path / rollout_files.LOGS)
        (out.path / FILE).write_bytes(files.encode(content))

    def published(self, params: RolloutParams, home: Path) -> None:
        """Nothing is shown of a slice."""


def take(ids: Sequence[str], label: str) -> list[str]:
    """The prompts of a slice: taken in turn, so that no slice has all that are hard.

    Raises:
        ConfigError: there is no such slice.
    """
    match = SLICE.fullmatch(label)
    if not match or not int(match[1]) < int(match[2]):
        raise ConfigError(f"there is no slice {label!r}", "write `0of8` to `7of8`")
    return list(ids[int(match[1]) :: int(match[2])])
