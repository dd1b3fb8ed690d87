"""Where something runs: flags over the saved config over our defaults, and never here because SLURM did not answer."""

from __future__ import annotations

import pytest

from holdfast.core.errors import ConfigError, UserError
from holdfast.execute import choose
from holdfast.execute.local import LocalExecutor
from holdfast.execute.submit import Placement


def test_flags_win_over_the_saved_config() -> None:
    settings = {"slurm": {"account": "saved", "partition": "saved", "setup": ["a", "b"], "time": 90}}
    placed = choose.place(settings, {"partition": "flag"})
    assert (placed.account, placed.partition, placed.setup, placed.time) == ("saved", "flag", ("a", "b"), "90")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"acount": "me"}, "did you mean `account`"),
        ("me", "expected a mapping"),
        ({"nodes": "two"}, "expected a number"),
        ({"setup": "module load cuda"}, "expected a list of strings"),
    ],
)
def test_saved_config_that_says_something_impossible_is_refused(section: object, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose.place({"slurm": section}, {})
    assert words in f"{caught.value} {caught.value.hint}"


def test_inside_an_allocation_work_runs_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    executor, placed = choose.choose_executor("auto", Placement(max_parallel=0))
    assert isinstance(executor, LocalExecutor)
    assert (placed.executor, placed.max_parallel) == ("local", 1)


def test_without_slurm_work_runs_here_unless_slurm_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert isinstance(choose.choose_executor("auto", Placement())[0], LocalExecutor)
    with pytest.raises(UserError, match="no `sbatch`"):
        choose.choose_executor("slurm", Placement())


def test_unknown_executor_is_named() -> None:
    with pytest.raises(UserError, match="no executor `pbs`"):
        choose.choose_executor("pbs", Placement())
