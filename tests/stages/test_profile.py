"""Programs that we do not control: exit code 0 is not completion, and each is seen for what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.launches import copy_examples, launch, planned
from tests.runs import claims, hold, is_running, status, wait_until

from holdfast.core.errors import ConfigError
from holdfast.stages import profile

NEMO = {
    "grpo": {"max_num_steps": 10, "max_num_epochs": 3},
    "checkpointing": {"checkpoint_dir": "results", "checkpoint_must_save_by": None},
    "logger": {"log_dir": "logs", "wandb_enabled": True, "wandb": {"name": "n", "project": "p"}},
    "cluster": {"num_nodes": 4, "gpus_per_node": 8},
}
TRAINER = """
import json, os, pathlib, sys, time
where = dict(token.partition("=")[::2] for token in sys.argv[1:])
home = pathlib.Path(where["checkpointing.checkpoint_dir"])
def save(step, epoch=0):
    (home / f"step_{step}").mkdir(parents=True)
    info = {"total_steps": step, "current_epoch": epoch}
    (home / f"step_{step}" / "training_info.json").write_text(json.dumps(info))
"""


def judged(
    name: str, home: Path, *, total: int | None = None, epochs: int | None = None, printed: str = ""
) -> str | None:
    (home / "output.log").write_text(printed)
    return profile.still_owed(profile.load(name), total, epochs, home, home / "output.log")


def write(home: Path, where: str, content: Any) -> None:
    path = home / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_nemo_rl_is_done_when_its_last_step_says_so(tmp_path: Path) -> None:
    assert judged("nemo-rl", tmp_path, total=10) == "exited 0 without a checkpoint checkpoints/step_*"
    write(tmp_path, "checkpoints/tmp_step_10/training_info.json", {"total_steps": 10})
    assert "without a checkpoint" in str(judged("nemo-rl", tmp_path, total=10))
    write(tmp_path, "checkpoints/step_9/training_info.json", {"total_steps": 9, "current_epoch": 0})
    assert judged("nemo-rl", tmp_path, total=10, epochs=3) == "exited 0 at step 9 of 10"
    write(tmp_path, "checkpoints/step_10/training_info.json", {"total_steps": 10, "current_epoch": 0})
    assert judged("nemo-rl", tmp_path, total=10, epochs=3) is None


def test_nemo_rl_is_done_after_its_last_epoch_but_not_when_time_was_up(tmp_path: Path) -> None:
    write(tmp_path, "checkpoints/step_9/training_info.json", {"total_steps": 9, "current_epoch": 2})
    assert judged("nemo-rl", tmp_path, total=1000, epochs=3) is None
    early = "Timeout has been reached, stopping training early\n"
    assert judged("nemo-rl", tmp_path, total=1000, epochs=3, printed=early) == (
        "exited 0 at step 9 of 1000: Timeout has been reached"
    )


def test_a_torn_state_is_no_completion(tmp_path: Path) -> None:
    write(tmp_path, "checkpoints/step_10/training_info.json", '{"total_st')
    assert "no readable training_info.json" in str(judged("nemo-rl", tmp_path, total=10))


def test_trl_knows_its_target_itself(tmp_path: Path) -> None:
    write(tmp_path, "checkpoints/checkpoint-5/trainer_state.json", {"global_step": 5, "max_steps": 8})
    assert judged("trl", tmp_path) == "exited 0 at step 5 of 8"
    write(tmp_path, "checkpoints/checkpoint-8/trainer_state.json", {"global_step": 8, "max_steps": 8})
    assert judged("trl", tmp_path) is None


def test_verl_is_as_far_as_its_tracker_file_says(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "global_step_20").mkdir(parents=True)
    write(tmp_path, "checkpoints/latest_checkpointed_iteration.txt", "10")
    assert judged("verl", tmp_path, total=20) == "exited 0 at step 10 of 20"
    write(tmp_path, "checkpoints/latest_checkpointed_iteration.txt", "20\n")
    assert judged("verl", tmp_path, total=20) is None


@pytest.mark.parametrize("name", profile.shipped())
def test_shipped_profiles_send_no_signal_that_would_end_a_program(name: str) -> None:
    assert profile.load(name).stop_signal == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\ndone_wen: {}\n", "did you mean `done_when`?"),
        ("done_when: {}\n", "needs name"),
        ("name: x\nstop_signal: KILL\n", "expected one of USR1"),
        ("name: x\ncheckpoints: [steps]\n", "must have one star"),
    ],
)
def test_a_profile_of_ones_own_is_checked(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        profile.load(str(tmp_path / "own.yaml"))
    assert told in f"{raised.value} {raised.value.hint}"


def test_a_trainer_that_exits_0_early_stays_owed_and_goes_on(tmp_path: Path) -> None:
    root = copy_examples(tmp_path)
    arguments = ["--script", "examples/train_grpo.py", "--config", "examples/configs/grpo.yaml"]
    launch(root, *arguments, "checkpointing.checkpoint_must_save_by=0:0:0:0", code=1)
    reason = status(root, "train_grpo")["reason"]
    assert reason == "failed once: exited 0 at step 1 of 30: Timeout has been reached"
    done = launch(root, *arguments)
    assert "takes 1 of 1" in done.stderr and status(root, "train_grpo")["state"] == "complete"
    rows = [json.loads(line) for line in (root / "train_grpo" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["name"] == "reward"] == list(range(1, 31))
    assert {row["attempt"] for row in rows} == {1, 2}


def test_a_trainer_that_deletes_its_own_checkpoints_is_not_complete(tmp_path: Path) -> None:
    root = trainer(tmp_path, "save(10); import shutil; shutil.rmtree(home)")
    launch(root, *ARGUMENTS, code=1)
    assert "without a checkpoint" in status(root, "trainer")["reason"]


def test_progress_of_a_foreign_trainer_is_seen_while_it_runs(tmp_path: Path) -> None:
    root = trainer(tmp_path, "save(4)\nwhile not (home / 'go').exists(): time.sleep(0.05)\nsave(10)")
    hold(root, "launch", "--executor", "local", *ARGUMENTS, code=0)
    wait_until(lambda: status(root, "trainer")["progress"] == {"done": 4, "total": 10, "unit": "step"})
    (root / "trainer" / "checkpoints" / "go").touch()
    wait_until(lambda: status(root, "trainer")["state"] == "complete")


def test_a_program_without_a_handler_is_sent_no_usr1(tmp_path: Path) -> None:
    root = trainer(tmp_path, "save(10)\nwhile not (home / 'go').exists(): time.sleep(0.05)")
    hold(root, "launch", "--executor", "local", *ARGUMENTS, code=0)
    wait_until(lambda: status(root, "trainer")["progress"])
    hold(root, "cancel", "trainer", "--wait", code=0)
    assert "SIGUSR1" not in str(claims(root, "trainer")[-1].ending())


def test_a_program_that_saves_on_a_signal_is_sent_it_first(tmp_path: Path) -> None:
    own = {**json.loads(profile.load("nemo-rl").model_dump_json()), "name": "own", "stop_signal": "USR1"}
    (tmp_path / "own.yaml").write_text(json.dumps(own))
    handler = "import signal\ndef ask(*_):\n    save(7); sys.exit(3)\n"
    handler += "signal.signal(signal.SIGUSR1, ask)\nsave(4)\ntime.sleep(60)"
    root = trainer(tmp_path, handler)
    hold(root, "launch", "--executor", "local", "--profile", "own.yaml", *ARGUMENTS, code=0)
    wait_until(lambda: status(root, "trainer")["progress"])
    hold(root, "cancel", "trainer", "--wait", code=0)
    assert (root / "trainer" / "checkpoints" / "step_7").is_dir()


def test_a_trainer_that_daemonises_leaves_nothing_behind(tmp_path: Path) -> None:
    body = "if os.fork() == 0:\n    os.setsid()\n    (home.parent / 'new').write_text(str(os.getpid()))\n"
    body += "    (home.parent / 'new').rename(home.parent / 'pid'); time.sleep(60)\n"
    body += "else:\n    while not (home.parent / 'pid').exists(): time.sleep(0.02)\n"
    root = trainer(tmp_path, body)
    launch(root, *ARGUMENTS, code=1)
    pid = int((root / "trainer" / "pid").read_text())
    assert not is_running(pid)
    assert "left in the background were ended" in status(root, "trainer")["reason"]


ARGUMENTS = ["--script", "trainer.py", "--config", "nemo.yaml", "--gpus", "0"]


def trainer(directory: Path, body: str) -> Path:
    """A trainer in NeMo RL's manner, and its config."""
    (directory / "trainer.py").write_text(TRAINER + body)
    (directory / "nemo.yaml").write_text(json.dumps(NEMO))
    return directory / "root"


def test_directories_and_names_are_injected_where_the_config_has_the_key(tmp_path: Path) -> None:
    root = trainer(tmp_path, "")
    (found,) = planned(root, *ARGUMENTS)
    home = root / "trainer"
    tokens = found["command"]
    assert f"checkpointing.checkpoint_dir={home}/checkpoints" in tokens
    assert f"logger.log_dir={home}/logs" in tokens and "logger.wandb.name=trainer" in tokens
    assert {"cluster.num_nodes=1", "cluster.gpus_per_node=0"} <= set(tokens)
    assert not any(token.startswith("checkpointing.checkpoint_must_save_by") for token in tokens)


def test_a_time_limit_tells_nemo_rl_when_to_save(tmp_path: Path) -> None:
    root = trainer(tmp_path, "")
    flags = ["--executor", "slurm", "--account", "a", "--container", "none", "--time", "4:0:0"]
    done = hold(root, "launch", "--dry", "--json", *flags, *ARGUMENTS[:4], code=0)
    (found,) = json.loads(done.stdout)
    assert "checkpointing.checkpoint_must_save_by=00:03:45:00" in found["command"]
    assert not any(token.startswith("cluster.") for token in found["command"]), "as the config has it: 4 nodes, 8 GPUs"
