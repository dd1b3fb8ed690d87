"""What a person types reaches the script as it is; secrets reach no file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tests.launches import CONFIG, launch, planned, said, write_echo
from tests.runs import REPOSITORY, hold

from holdfast.core import config
from holdfast.sweeps.tokens import override_text

AWKWARD = 'it\'s "$HOME" `id` a,b # c {out} {python} \\ ;|&<>*?[x] =+~ tab\there\nline ü 🎲'
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def test_awkward_values_arrive_unchanged_wherever_they_stand(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    typed = [f"+text={AWKWARD}", "model.name=a b", "~optim.lr", "optim={lr: 1}"]
    launch(
        root,
        typed[0],
        "--script",
        "echo.py",
        typed[1],
        "--config",
        "config.yaml",
        typed[2],
        "--",
        "--flag",
        "x y",
        "--",
    )
    arrived = said(root, "echo")["arguments"]
    assert arrived[:2] == ["--config", "config.yaml"]
    assert arrived[-6:] == [*typed[:3], "--flag", "x y", "--"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(VALUES, min_size=1, max_size=8))
@example(values=[AWKWARD, "", " ", "--dry", "-", "'", '"', "{inputs.x}"])
def test_any_value_arrives_unchanged(values: list[str], tmp_path: Path) -> None:
    directory = Path(tempfile.mkdtemp(dir=tmp_path))
    root = write_echo(directory)
    typed = [f"+key{number}={value}" for number, value in enumerate(values)]
    launch(root, "--script", "echo.py", *typed)
    assert said(root, "echo")["arguments"] == typed


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4, unique=True))
@example(values=["\x85", "\u2028", "\r", "\x7f", "\ufeff", "\ufffe", "\n🎲", "a, b]", 'it\'s "x"\\'])
def test_swept_text_is_read_back_as_that_very_text(values: list[str]) -> None:
    assert config.value_of(override_text(values)) == values
    assert config.value_of(override_text({value: value for value in values})) == {value: value for value in values}
    for value in values:
        text = override_text(value)
        assert config.value_of(text) == value
        if value.isascii() and value.isprintable() and "$" not in value and "#" not in value and "\\" not in value:
            assert OmegaConf.from_dotlist([f"a={text}"])["a"] == value


def test_keys_behind_two_dashes_are_not_checked_and_count(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    script = ["--script", "echo.py", "--config", "config.yaml"]
    hold(root, "launch", "--executor", "local", *script, "data.key=1", code=2)
    keys = [planned(root, *script, *more)[0]["key"] for more in ([], ["--", "data.key=1"], ["--", "data.key=2"])]
    assert len(set(keys)) == 3
    assert planned(root, *script, "--", "data.key=1")[0]["command"][-1] == "data.key=1"


def test_user_values_win_over_injected_ones_and_over_the_sweep(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "sweep.yaml").write_text("optim.lr: [1, 2]\nmodel.layers: [3, 4]\n")
    found = planned(
        root,
        "--script",
        "echo.py",
        "--config",
        "config.yaml",
        "--sweep",
        "sweep.yaml",
        "optim.lr=9",
        "logger.wandb.name=mine",
    )
    assert [each["point"] for each in found] == [{"model.layers": 3}, {"model.layers": 4}]
    for each in found:
        tokens = each["command"]
        assert [token for token in tokens if token.startswith("logger.wandb.name=")] == ["logger.wandb.name=mine"]
        assert [token for token in tokens if token.startswith("optim.lr=")] == ["optim.lr=9"]


def test_config_wins_over_defaults_and_is_inherited(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "child.yaml").write_text("defaults: config.yaml\nmodel: {layers: 5}\n")
    (found,) = planned(root, "--script", "echo.py", "--config", "child.yaml")
    assert "cluster.num_nodes=1" in found["command"], "two nodes are inherited, and this machine is one"


def test_secrets_of_the_environment_are_in_no_file(tmp_path: Path) -> None:
    root = write_echo(tmp_path, {**CONFIG, "hub": {"token": "${oc.env:HF_TOKEN}"}})
    (tmp_path / "quiet.py").write_text("import os; assert os.environ['HF_TOKEN'] and os.environ['MY_KEY']")
    secrets = {"HF_TOKEN": "hf_verysecretvalue", "WANDB_API_KEY": "wb_verysecretvalue", "MY_KEY": "k_verysecretvalue"}
    launch(
        root,
        "--script",
        "quiet.py",
        "--config",
        "config.yaml",
        "--env",
        "HF_TOKEN",
        "--env",
        "MY_KEY",
        code=0,
        executor="local",
        **secrets,
    )
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if b"verysecretvalue" in path.read_bytes()] == []


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "MY_SECRET", "DB_PASSWORD", "AWS_ACCESS_KEY"])
def test_a_secret_cannot_be_stored_by_mistake(name: str, tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    refused = hold(root, "launch", "--executor", "local", "--script", "echo.py", "--env", f"{name}=abcdef", code=2)
    assert f"hint: export it and forward it by name: --env {name}" in refused.stderr
    assert "abcdef" not in refused.stderr and not root.exists()


def test_a_stored_variable_is_part_of_the_work_and_a_forwarded_one_is_not(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    script = ["--script", "echo.py"]
    keys = {
        planned(root, *script, *more, MY_MODE="a", MY_OTHER="b")[0]["key"]
        for more in ([], ["--env", "MY_MODE"], ["--env", "MY_OTHER"])
    }
    assert len(keys) == 1
    assert planned(root, *script, "--env", "MY_MODE=a")[0]["key"] not in keys
    launch(root, *script, "--env", "MY_MODE=a b")
    assert said(root, "echo")["env"]["MY_MODE"] == "a b"


def test_wandb_gets_the_name_of_the_job_unless_it_cannot_report(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    arguments = ["--script", "echo.py", "--config", "config.yaml"]
    off = launch(root, *arguments)
    assert "note: W&B is off:" in off.stderr
    assert said(root, "echo")["env"]["WANDB_MODE"] == "disabled"
    elsewhere = [*arguments, "--interpreter", f"{sys.executable} -u", "--jobname", "named", "model.layers=7"]
    launch(root, *elsewhere, WANDB_API_KEY="x" * 40)
    heard = said(root, "named")
    assert heard["env"]["WANDB_NAME"] == "named" and heard["env"]["WANDB_DIR"] == str(root / "named")
    assert "logger.wandb.name=named" in heard["arguments"] and "logger.wandb_enabled=true" in heard["arguments"]


def test_a_project_with_a_lock_runs_by_uv(tmp_path: Path) -> None:
    root = write_echo(tmp_path)
    (tmp_path / "uv.lock").write_text("")
    (tmp_path / "bin").mkdir()
    uv = tmp_path / "bin" / "uv"
    uv.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} "$@"\n')
    uv.chmod(0o755)
    path = f"{uv.parent}:{os.environ['PATH']}"
    (found,) = planned(root, "--script", "echo.py", "--", "x", PATH=path)
    assert found["command"] == ["uv", "run", "echo.py", "x"]
    launch(root, "--script", "echo.py", "--", "x", PATH=path)
    assert said(root, "echo")["arguments"] == ["x"]


def test_examples_need_nothing_of_holdfast() -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "examples").glob("t*.py"))
    assert "import holdfast" not in sources and "from holdfast" not in sources
    assert json.dumps(CONFIG)
