"""The quickstart's experiment is the same one whenever it is asked for."""

from pathlib import Path

import pytest

from holdfast.core.errors import ConfigError
from holdfast.core.store import Store
from holdfast.pipelines import quickstart
from holdfast.pipelines.quickstart import Seeds


def test_seeds_are_drawn_once_and_kept(tmp_path: Path) -> None:
    first = quickstart.seeds(tmp_path)
    assert len(set(first.runs)) == 2
    assert all(quickstart.seeds(tmp_path) == first for _ in range(3))


def test_other_seeds_for_a_root_that_has_some_are_refused(tmp_path: Path) -> None:
    quickstart.seeds(tmp_path, [3, 4])
    with pytest.raises(ConfigError, match=r"has the seeds \[3, 4\], given \[5, 6\]"):
        quickstart.seeds(tmp_path, [5, 6])


def test_damaged_seed_file_is_named(tmp_path: Path) -> None:
    (tmp_path / quickstart.FILE).write_text("model: 1\nruns: [2]\n")
    with pytest.raises(ConfigError, match=r"quickstart\.yaml does not hold"):
        quickstart.seeds(tmp_path)


def test_six_checkpoints_of_two_runs_and_their_start_are_evaluated(tmp_path: Path) -> None:
    experiment = quickstart.experiment(Seeds(7, (3, 4)))
    assert [each.step for each in experiment.evaluated if each.run] == [40, 120, 240] * 2
    assert [record.key for record in experiment.records] == [
        record.key for record in quickstart.experiment(Seeds(7, (3, 4))).records
    ]
    assert len(experiment.plan()) == 16


def test_first_half_needs_nothing_that_comes_after_it(tmp_path: Path) -> None:
    experiment = quickstart.experiment(Seeds(7, (3, 4)))
    names = [record.name for record in experiment.until(quickstart.HALF, Store(tmp_path))]
    assert "quickstart-seed-3" in names and not any("step-240" in name for name in names)
