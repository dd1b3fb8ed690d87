"""Programs that we do not control: exit code 0 is not completion, and each is seen for what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.launches import copy_examples, launch, planned
from tests.runs import claims, hold, is_running, status, wait_until

from holdfast.core.errors import ConfigError
from holdfast.core.job import Task
from holdfast.execute import outsiders
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
    # nemo_rl/utils/checkpoint.py: init_tmp_checkpoint, and _rename_checkpoint at the end
    print(f"Saving checkpoint for step {step}...", flush=True)
    built = home / f"tmp_step_{step}"
    (built / "policy" / "weights").mkdir(parents=True)
    info = {"consumed_samples": 32 * step, "current_step": step, "current_epoch": epoch, "total_steps": step}
    info |= {"total_valid_tokens": 900 * step, "val_reward": -99999999.0, "sampler_name": None}
    (built / "training_info.json").write_text(json.dumps(info))
    (built / "config.yaml").write_text("{}")
    (built / "train_dataloader.pt").touch()
    built.rename(home / f"step_{step}")
    if step == 10:
        print("Max number of steps has been reached, stopping training early", flush=True)
"""
LAST = "Max number of steps has been reached, stopping training early\n"
EARLY = "Timeout has been reached, stopping training early\n"
SAVED = {"consumed_samples": 320, "total_steps": 10, "total_valid_tokens": 9000}


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
    assert judged("nemo-rl", tmp_path, total=10, epochs=3, printed=LAST) is None


@pytest.mark.parametrize(
    "state", [{"current_epoch": 2, "current_step": 3}, {"epoch": 2, "step": 0}], ids=["grpo", "sft, dpo and rm"]
)
def test_nemo_rl_is_done_after_its_last_epoch_but_not_when_time_was_up(state: dict[str, int], tmp_path: Path) -> None:
    write(tmp_path, "checkpoints/step_10/training_info.json", {**SAVED, **state})
    assert judged("nemo-rl", tmp_path, total=1000, epochs=3) is None
    assert judged("nemo-rl", tmp_path, total=1000, epochs=4) == "exited 0 at step 10 of 1000"
    assert judged("nemo-rl", tmp_path, total=1000, epochs=3, printed=EARLY) == (
        "exited 0 at step 10 of 1000: Timeout has been reached"
    )


def test_nemo_rl_is_done_when_its_validation_is_good_enough(tmp_path: Path) -> None:
    words = "Initial validation accuracy reached the early-stop threshold (0.9100 >= 0.9); stopping training\n"
    assert judged("nemo-rl", tmp_path, total=1000, epochs=3, printed=words) is None
    write(tmp_path, "checkpoints/step_10/training_info.json", {**SAVED, "current_epoch": 0})
    assert judged("nemo-rl", tmp_path, total=1000, epochs=3, printed=words) is None


def test_an_error_that_nemo_rl_swallows_is_no_end(tmp_path: Path) -> None:
    write(tmp_path, "checkpoints/step_10/training_info.json", {**SAVED, "current_epoch": 0})
    words = "Error in async loop: actor died\n"
    assert judged("nemo-rl", tmp_path, total=1000, epochs=1, printed=words) == (
        "exited 0 at step 10 of 1000: Error in async loop"
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


def test_verl_says_how_many_steps_its_data_makes(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "global_step_20").mkdir(parents=True)
    write(tmp_path, "checkpoints/latest_checkpointed_iteration.txt", "20")
    printed = "(TaskRunner pid=71) Total training steps: 29\n" + "x" * (2 << 20)
    assert judged("verl", tmp_path, printed=printed) == "exited 0 at step 20 of 29"
    assert judged("verl", tmp_path, printed=printed.replace("29", "20")) is None


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("nemo-rl", {"checkpointing": {"enabled": False}}),
        ("trl", {"save_strategy": "no"}),
        ("trl", {"save_strategy": "best"}),
        ("verl", {"trainer": {"save_freq": -1}}),
        ("verl", {}),
    ],
)
def test_where_checkpoints_say_nothing_of_the_end_exit_code_0_is_enough(
    name: str, config: dict[str, Any], tmp_path: Path
) -> None:
    known = profile.for_config(profile.load(name), config)
    (tmp_path / "output.log").write_text("")
    assert profile.still_owed(known, 10, 1, tmp_path, tmp_path / "output.log") is None
    saves = {"checkpointing": {"enabled": True}, "save_strategy": "steps", "trainer": {"save_freq": 5}}
    known = profile.for_config(profile.load(name), saves)
    assert "without a checkpoint" in str(profile.still_owed(known, 10, 1, tmp_path, tmp_path / "output.log"))


def test_time_that_was_up_is_no_end_where_nothing_is_saved_either(tmp_path: Path) -> None:
    known = profile.for_config(profile.load("nemo-rl"), {"checkpointing": {"enabled": False}})
    (tmp_path / "output.log").write_text(EARLY)
    told = profile.still_owed(known, 10, 1, tmp_path, tmp_path / "output.log")
    assert told == "exited 0, and said: Timeout has been reached"


def test_a_run_goes_on_from_the_newest_checkpoint_that_is_whole(tmp_path: Path) -> None:
    task = Task("k", "n", "n", True, progress=profile.progress(profile.load("trl"), None))
    assert outsiders.resume_token(task, tmp_path, ["python"]) == ""
    for step in (2, 10):
        write(tmp_path, f"checkpoints/checkpoint-{step}/trainer_state.json", {"global_step": step, "max_steps": 20})
    (tmp_path / "checkpoints" / "checkpoint-12").mkdir()
    write(tmp_path, "checkpoints/checkpoint-14/trainer_state.json", {"global_step": 14, "max_steps": 20})
    write(tmp_path, "checkpoints/checkpoint-14/checkpoint-is-incomplete.txt", "in progress")
    told = f"--resume_from_checkpoint={tmp_path}/checkpoints/checkpoint-10"
    assert outsiders.resume_token(task, tmp_path, ["python", "train.py"]) == told
    for typed in (["--resume_from_checkpoint=mine"], ["--resume_from_checkpoint", "mine"]):
        assert outsiders.resume_token(task, tmp_path, typed) == "", "what the user typed wins"


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
        ("name: x\ndone_when: {total_printed: '(a)(b)'}\n", "2 groups, expected one"),
        ("name: x\ndone_when: {total_printed: '('}\n", "no regular expression"),
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


def test_a_program_that_dies_of_the_signal_to_save_is_seen_to_have_saved_nothing(tmp_path: Path) -> None:
    own = {**json.loads(profile.load("nemo-rl").model_dump_json()), "name": "own", "stop_signal": "USR1"}
    (tmp_path / "own.yaml").write_text(json.dumps(own))
    root = trainer(tmp_path, "save(4)\ntime.sleep(60)")
    hold(root, "launch", "--executor", "local", "--profile", "own.yaml", *ARGUMENTS, code=0)
    wait_until(lambda: status(root, "trainer")["progress"])
    hold(root, "cancel", "trainer", "--wait", code=0)
    assert "; SIGUSR1, on which its profile says that it saves, ended it at once" in status(root, "trainer")["reason"]


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


def test_a_named_profile_tells_a_program_without_a_config_where_to_write(tmp_path: Path) -> None:
    (tmp_path / "main_ppo.py").write_text("")
    root = tmp_path / "root"
    arguments = ["--script", "main_ppo.py", "--profile", "verl", "--gpus", "0", "trainer.total_training_steps=20"]
    (found,) = planned(root, *arguments, "trainer.n_gpus_per_node=4")
    tokens = found["command"]
    assert f"trainer.default_local_dir={root}/main_ppo/checkpoints" in tokens
    assert "trainer.experiment_name=main_ppo" in tokens and "--config" not in tokens
    assert [token for token in tokens if "n_gpus" in token] == ["trainer.n_gpus_per_node=4"], "what the user typed wins"


def test_verl_is_given_its_config_in_the_words_of_hydra_and_no_wandb_that_is_off(tmp_path: Path) -> None:
    (tmp_path / "main_ppo.py").write_text("")
    (tmp_path / "conf").mkdir()
    trainer = {"default_local_dir": "x", "nnodes": 1, "n_gpus_per_node": 8, "logger": ["console", "wandb"]}
    write(tmp_path, "conf/mine.yaml", {"trainer": trainer})
    (found,) = planned(
        tmp_path / "root",
        "--script",
        "main_ppo.py",
        "--config",
        "conf/mine.yaml",
        WANDB_MODE="disabled",
        HOLDFAST_GPUS="0,1,2,3,4,5,6,7",
    )
    tokens = found["command"]
    assert {"--config-dir=conf", "--config-name=mine", "trainer.logger=console"} <= set(tokens)


def test_values_reach_a_trl_script_in_the_form_that_it_reads(tmp_path: Path) -> None:
    (tmp_path / "sft.py").write_text("")
    write(tmp_path, "sft.yaml", {"output_dir": "x", "learning_rate": 1e-4, "max_steps": -1, "report_to": "wandb"})
    arguments = ["--script", "sft.py", "--config", "sft.yaml", "max_steps=8", "+save_total_limit=2"]
    root = tmp_path / "root"
    (found,) = planned(root, *arguments, "--", "--bf16", "false", WANDB_MODE="disabled")
    told = [f"--output_dir={root}/sft/checkpoints", "--run_name=sft", "--report_to=none"]
    assert found["command"][-7:] == [*told, "--max_steps=8", "--save_total_limit=2", "--bf16", "false"]
    done = hold(root, "launch", "--dry", *arguments, "~max_steps", code=2)
    assert "`~max_steps` cannot be said to a program of profile trl" in done.stderr
