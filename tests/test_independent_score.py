"""A score is a fact about the model, and not about the program that measured it: a loop that shares nothing with
Holdfast, but the model and the problems, finds one within its interval.

The model is that of the quickstart (`holdfast.training.warm_up`), and the path its path: `transformers serve`, the
collection, the metrics.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runs import ENTRY, environment

pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.timeout(900)]
SMALL = pytest.param(["--steps", "250", "--hidden", "64", "--layers", "2"], 96, 6, id="small")
WHOLE = pytest.param([], 256, 2, id="quickstart", marks=pytest.mark.soak)


@pytest.mark.parametrize(("size", "count", "repeats"), [SMALL, WHOLE])
@pytest.mark.parametrize("temperature", [1.0, pytest.param(0.5, marks=pytest.mark.soak)])
def test_score_is_reproduced_by_a_loop_over_generate(
    size: list[str], count: int, repeats: int, temperature: float, tmp_path: Path
) -> None:
    quiet = environment(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HOLDFAST_GPUS="")
    model, root = tmp_path / "model", tmp_path / "root"
    warm_up = [sys.executable, "-m", "holdfast.training.warm_up", "--out", str(model), *size]
    subprocess.run(warm_up, env=quiet, check=True, capture_output=True)
    words = f"data.dataset_name=addition data.split=held_out data.count={count} eval.num_tests_per_prompt={repeats}"
    tokens = [*words.split(), f"generation.temperature={temperature}", f"generation.model_name={model}"]
    command = ["--root", str(root), "evaluate", "--executor", "local", "--wait", "generation.max_new_tokens=8"]
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, *command, *tokens], env=quiet, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((root / "evals" / "eval" / "metrics.json").read_text())
    accuracy = next(each for each in found["metrics"] if each["name"] == "accuracy")
    lines = (root / "evals" / "eval" / "rows.jsonl").read_text().splitlines()
    prompts = sorted({str(json.loads(line)["prompt"]) for line in lines})
    assert len(prompts) == count and accuracy["k"] == repeats
    own = score(model, prompts, temperature)
    # Twice as far as its 95% interval reaches: that happens by chance once in some thousand runs.
    value, low, high = (float(accuracy[name]) for name in ("value", "low", "high"))
    assert value - 2 * (value - low) <= own <= value + 2 * (high - value), (own, accuracy)
    assert high - low < 0.2, "or anything would be within it"
    assert 0.1 < own < 0.95, "a score at the edge would show nothing"


def score(model: Path, prompts: list[str], temperature: float, samples: int = 24) -> float:
    """The share of right sums, each prompt sampled so often."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(int.from_bytes(os.urandom(4)))
    tokenizer, loaded = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    asked = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    right = 0
    with torch.no_grad():
        for _ in range(samples):
            drawn = loaded.generate(
                **asked, do_sample=True, temperature=temperature, top_k=0, top_p=1.0, max_new_tokens=8
            )
            said = tokenizer.batch_decode(drawn[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
            right += sum(is_right(prompt, each) for prompt, each in zip(prompts, said, strict=True))
    return right / (samples * len(prompts))


def is_right(prompt: str, said: str) -> bool:
    problem = re.fullmatch(r"(\d+)\+(\d+)=", prompt)
    assert problem, prompt
    return said.strip() == str(int(problem[1]) + int(problem[2]))
