"""Where something runs: flags over the saved config over our defaults, and never here because SLURM did not answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.slurm.fakes import slurm as fakes
from tests.slurm.fakes.slurm import Fake

from holdfast.core.errors import ConfigError, UserError
from holdfast.execute import choose
from holdfast.execute.choose import ClusterDefaults
from holdfast.execute.local import LocalExecutor


def test_flags_win_over_the_saved_config() -> None:
    defaults = ClusterDefaults(account="saved", partition="saved", setup=("a", "b"), time=90, max_parallel=7)
    placed = choose.place(defaults, "slurm", {"partition": "flag"})
    assert (placed.account, placed.partition, placed.setup, placed.time) == ("saved", "flag", ("a", "b"), "90")
    assert (placed.executor, placed.max_parallel) == ("slurm", 7)


def test_slurm_may_start_as_many_as_it_likes_and_this_machine_one() -> None:
    assert choose.place(ClusterDefaults(), "slurm", {}).max_parallel == 0
    assert choose.place(ClusterDefaults(), "local", {}).max_parallel == 1


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("{acount: me}", "did you mean `account`"),
        ("{nodes: two}", "nodes"),
        ("{setup: module load cuda}", "setup"),
        ("{executor: pbs}", "executor"),
    ],
)
def test_saved_config_that_says_something_impossible_is_refused(
    section: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holdfast.yaml").write_text(f"slurm: {section}\n")
    with pytest.raises(ConfigError) as caught:
        choose.cluster_defaults()
    assert words in f"{caught.value} {caught.value.hint}"


def test_saved_config_with_a_section_that_nothing_reads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holdfast.yaml").write_text("executor: slurm\n")
    with pytest.raises(ConfigError, match="has no `executor`"):
        choose.cluster_defaults()


def test_inside_an_allocation_work_runs_in_it() -> None:
    assert isinstance(choose.choose_executor("auto", {**os.environ, "SLURM_JOB_ID": "12"}), LocalExecutor)


def test_without_slurm_work_runs_here() -> None:
    assert isinstance(choose.choose_executor("auto", {"PATH": "/nonexistent"}), LocalExecutor)


def test_slurm_that_does_not_answer_is_no_reason_to_run_here(tmp_path: Path) -> None:
    environ = fakes.install(tmp_path / "slurm")
    assert choose.settle_name("auto", environ) == "slurm"
    Fake(tmp_path / "slurm").order("scontrol", "always down")
    assert choose.settle_name("auto", environ) == "slurm"


def test_slurm_that_is_asked_for_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match="no `sbatch`"):
        choose.choose_executor("slurm")


def test_unknown_executor_is_named() -> None:
    with pytest.raises(UserError, match="no executor `pbs`"):
        choose.choose_executor("pbs")
