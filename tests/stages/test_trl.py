"""Real TRL on a model of a few thousand weights: launched, killed, stopped, ended too early, and gone on with."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.runs import claims, hold, key_of, processes_of, status, wait_until
from tests.tiny import one_thread, write_tiny
from tests.trackers.reading import offline_runs

from holdfast.stages import profile
from holdfast.trackers.wandb_run import script_run_id

pytestmark = [pytest.mark.train, pytest.mark.slow]
STEPS = 60
SHARED = {
    "learning_rate": 1e-4,
    "output_dir": "results",
    "max_steps": STEPS,
    "logging_steps": 1,
    "use_cpu": True,
    "bf16": False,
    "model_name_or_path": "model",
}
SFT = {**SHARED, "dataset_name": "data", "per_device_train_batch_size": 2, "max_length": 16, "save_steps": 2}
GRPO = {
    **SHARED,
    "per_device_train_batch_size": 4,
    "num_generations": 2,
    "max_completion_length": 2,
    "save_steps": 3,
    "enable_jit_checkpoint": True,
}
SCRIPT = """
import os, time
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, ModelConfig, TrlParser

class Pace(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        time.sleep(float(os.environ["MY_PAUSE"]))
        if state.global_step == int(os.environ["MY_LAST"]):
            control.should_training_stop = True

def reward(completions, **_):
    return [float(len(set(words))) for words in completions]

training, model = TrlParser((GRPOConfig, ModelConfig)).parse_args_and_config()
prompts = Dataset.from_list([{"prompt": f"{n}+{n}="} for n in range(32)])
trainer = GRPOTrainer(model.model_name_or_path, reward, training, prompts, callbacks=[Pace()])
trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
trainer.save_model(training.output_dir)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with a model, data and configs, from which everything is launched; returns the root to use."""
    write_tiny(tmp_path / "model")
    (tmp_path / "data").mkdir()
    sums = [json.dumps({"text": f"{a}+{b}={a + b}"}) for a in range(8) for b in range(8)]
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(sums))
    (tmp_path / "sft.yaml").write_text(json.dumps(SFT))
    (tmp_path / "grpo.yaml").write_text(json.dumps(GRPO))
    (tmp_path / "mine.py").write_text(SCRIPT)
    return tmp_path / "root"


def surroundings(root: Path, **more: str) -> dict[str, str]:
    quiet = {name: one_thread()[name] for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM")}
    here = {"HF_HOME": str(root.parent / "hub"), "HOLDFAST_GPUS": "", "WANDB__DISABLE_STATS": "true"}
    return {**quiet, **here, "WANDB_MODE": "disabled", **more}


def launch(root: Path, env: dict[str, str], *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return hold(root, "launch", "--executor", "local", *arguments, code=code, env=env)


def trl_script(name: str) -> str:
    """One of TRL's own: what `trl sft` starts."""
    found = importlib.util.find_spec("trl")
    assert found and found.submodule_search_locations
    return f"{found.submodule_search_locations[0]}/scripts/{name}.py"


def newest(home: Path) -> int:
    steps = [int(path.name.removeprefix("checkpoint-")) for path in (home / "checkpoints").glob("checkpoint-*")]
    return max((step for step in steps if trainer_state(home, step)), default=0)


def trainer_state(home: Path, step: int) -> dict[str, Any]:
    try:
        return dict(json.loads((home / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json").read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def kill_script(root: Path, name: str) -> None:
    (pid,) = [pid for pid, command in processes_of(root).items() if any(name in word for word in command[1:2])]
    os.kill(pid, signal.SIGKILL)


def logged_steps(root: Path, name: str, attempt: int) -> int:
    return claims(root, name)[attempt - 1].output.read_text().count("'loss'")


def test_trls_own_script_goes_on_from_the_checkpoint_at_which_it_was_killed(root: Path) -> None:
    home = root / "sft"
    arguments = ["--script", trl_script("sft"), "--config", "sft.yaml", "+save_total_limit=3"]
    env = surroundings(root, WANDB_MODE="offline")
    (found,) = json.loads(launch(root, env, "--dry", "--json", *arguments).stdout)
    told = {f"--output_dir={home}/checkpoints", "--run_name=sft", "--report_to=wandb", "--save_total_limit=3"}
    assert told <= set(found["command"])

    launch(root, env, *arguments)
    wait_until(lambda: newest(home) >= 4, 120)
    kill_script(root, "sft.py")
    wait_until(lambda: status(root, "sft")["state"] == "owed")
    step, reason = newest(home), status(root, "sft")["reason"]
    assert "killed by SIGKILL" in reason and reason.endswith(f", stopped at checkpoint-{step}, step {step} of {STEPS}")
    assert "%|" not in reason, "a progress bar says nothing of why it ended"
    # What a kill while it saves leaves behind: no state in it, so nobody goes on from there.
    (home / "checkpoints" / f"checkpoint-{STEPS - 1}").mkdir()

    launch(root, env, "--wait", *arguments)
    assert status(root, "sft")["state"] == "complete" and len(claims(root, "sft")) == 2
    assert logged_steps(root, "sft", 2) == STEPS - step
    assert (home / "checkpoints" / "model.safetensors").exists()
    launch(root, env, "--wait", *arguments)
    assert len(claims(root, "sft")) == 2, "what is done is not done again"
    runs = offline_runs(home)
    assert list(runs) == [script_run_id(root, key_of(root, "sft"))], "one W&B run across restarts"
    assert len(list((home / "wandb").glob("offline-run-*"))) == 2


def test_a_script_of_ones_own_that_ends_early_is_owed_saves_on_sigterm_and_goes_on(root: Path) -> None:
    home = root / "mine"
    arguments = ["--script", "mine.py", "--config", "grpo.yaml"]
    launch(root, surroundings(root, MY_PAUSE="0", MY_LAST="3"), "--wait", *arguments, code=1)
    assert status(root, "mine")["reason"] == f"failed once: exited 0 at step 3 of {STEPS}"

    slowly = surroundings(root, MY_PAUSE="0.4", MY_LAST="0")
    launch(root, slowly, *arguments)
    wait_until(lambda: newest(home) >= 6, 120)
    hold(root, "cancel", "mine", "--wait", code=0)
    step, reason = newest(home), status(root, "mine")["reason"]
    assert reason.endswith(f", stopped at checkpoint-{step}, step {step} of {STEPS}") and 6 < step < STEPS
    words = claims(root, "mine")[-1].ending() or {}
    assert words["outcome"] == "cancelled" and words["code"] == 0, "it saved, and left by itself"

    launch(root, surroundings(root, MY_PAUSE="0", MY_LAST="0"), "--wait", *arguments)
    assert status(root, "mine")["state"] == "complete"
    history = trainer_state(home, STEPS)["log_history"]
    assert [row["step"] for row in history if "loss" in row] == list(range(1, STEPS + 1))
    assert logged_steps(root, "mine", 3) == STEPS - step


def test_a_config_of_trl_is_recognised() -> None:
    assert profile.recognise(SFT).name == profile.recognise(GRPO).name == "trl"
