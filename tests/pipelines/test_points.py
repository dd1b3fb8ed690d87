"""A name is settled the same for all who submit the same work at the same moment."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from holdfast.core.errors import NameTaken
from holdfast.core.record import Record
from holdfast.core.stage import Stage
from holdfast.core.store import Store
from holdfast.pipelines import points


def test_a_name_that_is_bound_to_the_same_work_and_not_written_yet_is_its_own(tmp_path: Path) -> None:
    store, mine, other = Store(tmp_path), Stage("command", 1, {"n": 1}), Stage("command", 1, {"n": 2})
    store.write([Record(mine, "work", "work")])
    shutil.rmtree(store.stage(mine.key))  # as it is between the two steps of whoever writes it
    assert points.settle_home(store, mine, "work", [], asked=True) == "work"
    assert points.settle_home(store, mine, "work", [], asked=False) == "work"
    with pytest.raises(NameTaken):
        points.settle_home(store, other, "work", [], asked=True)
