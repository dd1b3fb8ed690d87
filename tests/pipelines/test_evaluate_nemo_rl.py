"""`--runner nemo-rl`: the checkpoint is converted, and NeMo RL's own `examples/run_eval.py` gets the result.

NeMo RL itself needs GPUs and a Ray. Its script is a stand-in here that reads its config, prints its score and writes
its files as that one does (NVIDIA-NeMo/RL of August 2026: examples/run_eval.py, nemo_rl/evals/eval.py), and opens the
model that it is given.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from tests.evaluations import DCP, Desk, Materials

pytestmark = pytest.mark.train
RUN_EVAL = """
import argparse, json, os
from omegaconf import OmegaConf
parser = argparse.ArgumentParser()
parser.add_argument("--config", default="examples/configs/eval.yaml")
options, _ = parser.parse_known_args()
config = OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(options.config), OmegaConf.from_cli()), resolve=True)
model, evaluation, generation = config["generation"]["model_name"], config["eval"], config["generation"]
size = json.load(open(os.path.join(model, "config.json")))["hidden_size"]
with open(os.path.join(model, "model.safetensors"), "rb") as file:
    first = file.read(8)
if os.environ.get("BREAKS"):
    print("ran out of luck", flush=True)
    raise SystemExit(0)
said = {name: evaluation[name] for name in ("metric", "k_value", "num_tests_per_prompt")}
said |= {name: generation[name] for name in ("temperature", "top_p", "top_k")}
said |= {"model_name": model, "dataset_name": config["data"]["dataset_name"]}
if evaluation["save_path"]:
    os.makedirs(evaluation["save_path"], exist_ok=True)
    for name, content in {"config": said, "evaluation_data": {"evaluation_data": []}}.items():
        json.dump(content, open(os.path.join(evaluation["save_path"], name + ".json"), "w"))
print("=" * 60)
print(f"model_name={os.path.basename(model)!r} dataset_name={said['dataset_name']!r}")
print(f"max_new_tokens={generation['max_new_tokens']} temperature={said['temperature']} seed={evaluation['seed']}")
print(f"metric={said['metric'][:-1]}{said['k_value']} num_tests_per_prompt={said['num_tests_per_prompt']}\\n")
print("score=0.1000 (3.0/30)")
print("=" * 60)
"""
NEMO = ("--runner", "nemo-rl", "--executor", "local", "--gpus", "0")
"""NeMo RL's config asks for a GPU."""


@pytest.fixture
def desk(tmp_path: Path, materials: Materials) -> Desk:
    made = Desk(tmp_path, materials)
    (tmp_path / "examples" / "run_eval.py").write_text(RUN_EVAL)
    return made


def saved(desk: Desk, home: str) -> dict[str, object]:
    return dict(json.loads((desk.root / home / "evaluation" / "config.json").read_text()))


def test_the_script_gets_the_converted_checkpoint_and_what_was_typed(desk: Desk) -> None:
    desk.type(f"evaluate {DCP} generation.temperature=0.6 eval.num_tests_per_prompt=16", *NEMO, "--wait")
    (made,) = desk.converted()
    (evaluation,) = [each for each in desk.standings() if each["kind"] == "command"]
    assert evaluation["state"] == "complete"
    said = saved(desk, evaluation["home"])
    assert said["model_name"] == str(made)
    assert (said["temperature"], said["num_tests_per_prompt"], said["dataset_name"]) == (0.6, 16, "AIME2024")
    assert "score=0.1000 (3.0/30)" in desk.type(f"logs {evaluation['name']}").stdout

    told = desk.type(f"evaluate {DCP} generation.temperature=0.8", *NEMO, "--wait").stderr
    assert "`evals/eval` holds other work: this is `evals/eval-" in told and desk.converted() == [made]
    assert [each["state"] for each in desk.standings()] == ["complete"] * 3


def test_a_dry_run_shows_conversion_and_command_and_writes_nothing(desk: Desk) -> None:
    said = desk.type(f"evaluate {DCP} data.dataset_name=math500", *NEMO, "--dry").stdout
    assert "convert" in said and "examples/run_eval.py" in said
    assert "generation.model_name=" in said and "hf_eval_checkpoints/step_170_" in said
    assert "data.dataset_name=math500" in said and not desk.root.exists()


@pytest.mark.parametrize(
    ("typed", "saved", "limit"),
    [("", "", "2:0:0"), ("", "time: '1:0:0'", "1:0:0"), ("--time 3:0:0", "time: '1:0:0'", "3:0:0")],
)
def test_time_limit_is_what_was_typed_then_what_is_saved(typed: str, saved: str, limit: str, desk: Desk) -> None:
    (desk.directory / "holdfast.yaml").write_text(f"slurm: {{account: me, container: none, {saved}}}\n")
    line = f"evaluate --runner nemo-rl --executor slurm --dry generation.model_name=model_path {typed}"
    assert f"--time={limit}" in desk.type(line).stdout


def test_a_sweep_converts_once_and_hands_each_point_on(desk: Desk) -> None:
    sweep = {"config_path": "examples/configs/eval.yaml", "generation.temperature": [0.6, 0.8]}
    (desk.directory / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    desk.type(f"evaluate {DCP} --sweep sweep.yaml --script examples/run_eval.py", *NEMO, "--wait")
    found = desk.standings()
    assert [each["state"] for each in found] == ["complete"] * 3 and len(desk.converted()) == 1
    homes = [each["home"] for each in found if each["kind"] == "command"]
    assert {saved(desk, home)["temperature"] for home in homes} == {0.6, 0.8}


def test_a_run_that_ends_well_without_a_score_is_owed(desk: Desk) -> None:
    desk.type("evaluate generation.model_name=model_path --env BREAKS", *NEMO, "--wait", code=1, BREAKS="1")
    (found,) = desk.standings()
    assert found["state"] == "owed" and "exited 0 and never said score=" in found["reason"]
    desk.type("evaluate generation.model_name=model_path", *NEMO, "--wait")
    assert [each["state"] for each in desk.standings()] == ["complete"]


def test_a_script_that_is_not_there_is_said_before_anything_is_converted(desk: Desk) -> None:
    (desk.directory / "examples" / "run_eval.py").unlink()
    told = desk.type(f"evaluate {DCP}", *NEMO, code=2).stderr
    assert "examples/run_eval.py" in told and "hint: " in told and not desk.root.exists()
