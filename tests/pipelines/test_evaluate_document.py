"""Every command of the evaluation launcher's document, typed as it stands there (`python xp/eval_launcher.py` is
`holdfast evaluate`), on this machine, against real checkpoints.

The hub is a stand-in: its names are in a cache that the test makes. So are GPUs: commands that ask for some run with
`tests.evaluations.HERE` behind them, which says `--gpus 0 --engine transformers` and keeps responses short; what they
would be with GPUs is read off dry runs and rendered scripts.
"""

from __future__ import annotations

import filecmp
import json
import re
from pathlib import Path

import pytest
import yaml
from tests.evaluations import ANSWER, COMMANDS, DCP, HERE, OTHER, SHIPPED_FAKE, Command, Desk, Materials
from tests.runs import REPOSITORY

from holdfast.pipelines.evaluate import settings

pytestmark = pytest.mark.train
AT_ONCE = {"checkpoint", "example 1"}
"""What each `make test` runs with the real server; the others take minutes together."""
STEP = "results/grpo/step_170"


@pytest.fixture
def desk(tmp_path: Path, materials: Materials) -> Desk:
    return Desk(tmp_path, materials)


def named(name: str) -> Command:
    return next(command for command in COMMANDS if command.name == name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "command",
    [pytest.param(each, id=each.name, marks=[] if each.name in AT_ONCE else pytest.mark.soak) for each in COMMANDS],
)
def test_command_of_the_document_runs_to_its_end(command: Command, desk: Desk) -> None:
    """With a real `transformers serve` for each point."""
    desk.type(f"evaluate {command.line}", *HERE)
    check(desk, command)


@pytest.mark.slow
def test_sweep_converts_once_for_all_its_points(desk: Desk) -> None:
    """The smaller sweep of the document, with the shipped engine that solves sums; the one of 24 points is above."""
    desk.type(f"evaluate {named('example 3').line}", *SHIPPED_FAKE, "--max-parallel", "2")
    check(desk, named("example 3")._replace(scores=1.0))


def check(desk: Desk, command: Command) -> None:
    """Complete, from one conversion at most, with the score that the weights in question have."""
    found = desk.standings()
    assert {each["state"] for each in found} == {"complete"}
    assert sum(each["kind"] == "convert" for each in found) == ("--dcp-ckpt-path" in command.line)
    homes = [each["home"] for each in found if each["kind"] == "evaluate"]
    assert len(homes) == command.points
    for home in homes:
        metrics = desk.metrics(home)
        done = metrics["coverage"]["done"]
        assert done == len(desk.rows(home)) and done in command.asks
        # Sampled at temperature 1, some responses go wrong.
        assert desk.accuracy(home) == pytest.approx(command.scores, abs=0.15)
        if metrics["identity"]["temperature"] == 0:
            assert desk.accuracy(home) == command.scores
        asks = [row["prompt"] for row in desk.rows(home)]
        assert all("Add them up: " in ask and "Reason step by step" in ask for ask in asks)
    if "hf-ckpt-path" in command.line:
        assert (desk.directory / "custom/path/to/hf_checkpoint/model.safetensors").is_file()


@pytest.mark.parametrize("name", ["example 3", "checkpoint", "custom path", "multi-node", "sweep"])
def test_dry_run_says_what_is_owed_and_writes_nothing(name: str, desk: Desk) -> None:
    """Examples 3 and 4 of the document are dry runs, and 4 is that of the first checkpoint."""
    command = named(name)
    found = desk.planned(f"evaluate {command.line}", *HERE[:-2])
    assert {each["state"] for each in found} == {"owed"}
    evaluations = [each for each in found if each["kind"] == "evaluate"]
    assert len(evaluations) == command.points
    assert len(found) - len(evaluations) == ("--dcp-ckpt-path" in command.line)
    assert not desk.root.exists() and not (desk.directory / "custom").exists()


def test_dry_run_prints_the_conversion_and_the_command_of_the_engine(desk: Desk) -> None:
    said = desk.type(f"evaluate --dry {DCP}", "--executor", "local").stdout
    assert re.search(r"^step_170_[0-9a-f]{16} +convert +owed +never started$", said, re.MULTILINE)
    assert "holdfast.engines.transformers_serve" in said and "# eval: the engine" in said


def test_converted_checkpoint_is_the_trained_model_and_lies_where_the_document_says(desk: Desk) -> None:
    """`$LOG/nemo-rl/hf_eval_checkpoints/<identifier>_<hash>/`, for each number of ranks and each layout."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens = torch.arange(6, 46).reshape(2, 20)
    places = {
        f"{STEP}/policy/weights": (4, "step_170"),
        "results/grpo/step_20/policy/weights": (2, "step_20"),
        "results/grpo/final/policy/weights": (1, "final"),
        "path/to/grpo/checkpoint/weights": (3, "checkpoint"),
        "results/checkpoint/weights": (4, "checkpoint"),
    }
    desk.materials.write_all()
    desk.put_step("results/grpo/step_20", 2, "fsdp")
    for place, (_, identifier) in places.items():
        config = str(Path(place).parent).removesuffix("/policy") + "/config.yaml"
        home = Path(desk.type(f"convert {place} --dcp-config {config} --executor local").stdout.strip())
        assert re.fullmatch(rf"{identifier}_[0-9a-f]{{16}}", home.name)
        assert home.parent == desk.root / "hf_eval_checkpoints"
        names = {path.name for path in home.iterdir()}
        assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
        assert json.loads((home / "config.json").read_text())["max_position_embeddings"] == 2048
        trained = desk.materials.trained[OTHER if "final" in place else ANSWER]
        with torch.no_grad():
            found = AutoModelForCausalLM.from_pretrained(home)(input_ids=tokens).logits
            assert torch.equal(found, trained(input_ids=tokens).logits)
        chat = [{"role": "user", "content": "1+1"}]
        asked = AutoTokenizer.from_pretrained(home).apply_chat_template(
            chat, add_generation_prompt=True, tokenize=False
        )
        assert asked == "<user>1+1<assistant>"
    # Whole on four ranks, in parts on others: the same weights are the same bytes.
    assert len(desk.converted()) == 5
    assert len({(path / "model.safetensors").read_bytes() for path in desk.converted()}) == 2


def test_force_makes_the_conversion_anew_and_leaves_readers_what_they_have(desk: Desk) -> None:
    first = Path(desk.type(f"convert {STEP} --executor local").stdout.strip())
    before = first.resolve()
    with open(first / "model.safetensors", "rb") as reader:
        again = Path(desk.type(f"convert {STEP} --force-conversion --executor local").stdout.strip())
        assert again == first and again.resolve() != before
        assert reader.read() == (again / "model.safetensors").read_bytes()
    assert filecmp.cmp(before / "model.safetensors", again / "model.safetensors", shallow=False)
    assert [each["state"] for each in desk.standings()] == ["complete"]


def test_conversion_of_before_is_used_and_skip_wants_one(desk: Desk) -> None:
    told = desk.type(f"evaluate {DCP} --skip-conversion", *SHIPPED_FAKE, code=2).stderr
    assert "--skip-conversion, and" in told and "is owed: never started" in told and "hint: " in told
    desk.type(f"convert {STEP} --executor local --hf-ckpt-path mine/model")
    (made,) = desk.converted()
    before = made.resolve(), made.stat().st_mtime_ns
    told = desk.type(f"evaluate {DCP} --skip-conversion", *SHIPPED_FAKE).stderr
    assert "takes 1 of 2 stages; 1 complete already" in told
    assert (made.resolve(), made.stat().st_mtime_ns) == before
    found = desk.planned("evaluate --skip-conversion --hf-ckpt-path mine/model", *SHIPPED_FAKE)
    assert [each["kind"] for each in found] == ["evaluate"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--dcp-config results/grpo/step_170/config.yaml", "--dcp-config without --dcp-ckpt-path"),
        ("--force-conversion", "--force-conversion without --dcp-ckpt-path"),
        ("--hf-ckpt-path somewhere", "--hf-ckpt-path without --dcp-ckpt-path"),
        (f"{DCP} --skip-conversion --force-conversion", "contradict each other"),
        (f"{DCP} generation.model_name=model_path", "two models: generation.model_name=model_path"),
        (f"--dcp-ckpt-path {STEP}/policy/weight", "there is no checkpoint at"),
    ],
)
def test_flags_that_make_no_sense_together_are_refused(line: str, says: str, desk: Desk) -> None:
    told = desk.type(f"evaluate {line}", "--executor", "local", code=2).stderr
    assert says in told and "hint: " in told and "Traceback" not in told
    assert not desk.root.exists()


def test_conflict_of_configs_has_the_message_and_the_three_solutions_of_the_document(desk: Desk) -> None:
    """Its paths are `configs/...`, from within `examples/`."""
    (desk.directory / "configs").symlink_to(desk.directory / "examples" / "configs")
    sweep = {"config_path": "configs/eval.yaml", "generation.temperature": [0.6, 0.8]}
    (desk.directory / "my_sweep.yaml").write_text(yaml.safe_dump(sweep))
    model = ("generation.model_name=model_path", "--executor", "local")
    told = desk.type("evaluate --config configs/eval_custom.yaml --sweep my_sweep.yaml", *model, code=2).stderr
    words = "Command line config 'configs/eval_custom.yaml' does not match sweep config config_path 'configs/eval.yaml'"
    assert words in " ".join(told.split())
    assert "hint: " in told and "Traceback" not in told
    one = desk.planned("evaluate --sweep my_sweep.yaml", *model)
    three = desk.planned("evaluate --config configs/eval.yaml --sweep my_sweep.yaml", *model)
    assert [each["key"] for each in one] == [each["key"] for each in three] and len(one) == 2
    (desk.directory / "my_sweep.yaml").write_text("generation.temperature: [0.6, 0.8]\n")
    two = desk.planned("evaluate --config configs/eval_custom.yaml --sweep my_sweep.yaml", *model)
    assert [each["params"]["temperature"] for each in two] == [0.6, 0.8]
    assert {each["params"]["repeats"] for each in two} == {4}, "of eval_custom.yaml"


def test_config_that_ships_is_the_default_and_changes_nothing(desk: Desk) -> None:
    assert yaml.safe_load((REPOSITORY / "examples/configs/eval.yaml").read_text()) == yaml.safe_load(
        (REPOSITORY / "src/holdfast/pipelines/evaluate/eval.yaml").read_text()
    )
    assert settings.settle("examples/configs/eval.yaml", []) == settings.settle(None, [])
    line = "evaluate generation.model_name=model_path"
    (with_it,) = desk.planned(f"{line} --config examples/configs/eval.yaml", "--executor", "local")
    (without,) = desk.planned(line, "--executor", "local")
    assert with_it == without


def test_config_that_inherits_changes_what_it_says_and_the_checkpoint_goes_before_its_model(desk: Desk) -> None:
    custom = desk.directory / "examples" / "configs" / "mine.yaml"
    custom.write_text("defaults: eval_custom.yaml\ngeneration: {model_name: nobody/has-this, top_k: 20}\n")
    (_, found) = desk.planned(f"evaluate --config {custom} {DCP}", "--executor", "local")
    params = found["params"]
    assert (params["temperature"], params["top_p"], params["top_k"], params["repeats"]) == (0.6, 0.95, 20, 4)
    assert params["settings"]["name"] == "HuggingFaceH4/MATH-500" and params["step"] == 170
