"""Teach the tiny model two-digit addition until it is mediocre: `python -m holdfast.training.warm_up --out DIR`.

A share of the labels is wrong on purpose (off by 1 or by 10), so that the model ends well above chance and well below
perfect: reinforcement learning then has something to win, whatever the seed.

The loop is plain PyTorch: TRL's SFT trainer spends several times longer on sequences of nine tokens. It is also an
example of a program that Holdfast does not control: it knows only its flags and `$HOLDFAST_METRICS`, and may be
killed at any moment. State is saved every `--save-every` steps by rename, and the batch of a step depends on seed and
step alone, so a run that goes on ends with the weights of one that was never killed. The state file is removed last:
while it is there, work is left.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core import files
from holdfast.environments import load_environment
from holdfast.environments.addition import answer
from holdfast.training.model_directory import write_model
from holdfast.training.tiny_model import make_model, make_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

STATE = "state.pt"
LENGTH = 10
"""Tokens of the longest sequence: `99+99=198` and the end of the text."""
PROMPT = 6
"""Tokens of every prompt: `37+58=`."""
RAMP = 50
"""Steps until the learning rate is reached."""


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if (options.out / "model.safetensors").exists() and not (options.out / STATE).exists():
        return
    warm_up(options)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of the model; run again with it to go on")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=128, help="sequences per step")
    parser.add_argument("--wrong-labels", type=float, default=0.4, help="share of wrong labels, 0 to 1")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=100, help="steps between saved states")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    return parser.parse_args(arguments)


def warm_up(options: argparse.Namespace) -> None:
    """Train from the last saved state, or from the start, and leave the model in `options.out`."""
    import torch

    torch.set_num_threads(1)  # as fast as two on a model of this size, and ten times faster where others use the cores
    tokenizer = make_tokenizer()
    model = make_model(options.seed, hidden=options.hidden, layers=options.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=0.0)
    problems = [prompt.id for prompt in load_environment("addition", {"split": "train"}).prompts()]
    for step in range(_restore(options.out / STATE, model, optimizer), options.steps):
        labelled = draw_batch(problems, options.batch, options.wrong_labels, random.Random(f"{options.seed}:{step}"))
        _set_rate(optimizer, options.lr * _rate(step, options.steps))
        loss = _train_step(model, optimizer, encode(labelled, tokenizer))
        if (step + 1) % 10 == 0:
            _report(step + 1, "loss", loss)
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            _save(options.out / STATE, step + 1, model, optimizer)
    _report(options.steps, "accuracy", sample_accuracy(model, tokenizer, options.seed))
    _finish(options.out, model, tokenizer)


def draw_batch(problems: list[str], size: int, wrong_labels: float, rng: random.Random) -> list[str]:
    """`size` solved problems such as `37+58=95`; a share `wrong_labels` is off by 1 or by 10."""
    drawn = []
    for _ in range(size):
        problem = rng.choice(problems)
        error = rng.choice((-10, -1, 1, 10)) if rng.random() < wrong_labels else 0
        drawn.append(f"{problem}={int(answer(problem)) + error}")
    return drawn


def encode(solved: list[str], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Token ids, shape (len(solved), LENGTH): text, end of text, padding on the right."""
    import torch

    rows = tokenizer([f"{text}{tokenizer.eos_token}" for text in solved], add_special_tokens=False)["input_ids"]
    return torch.tensor([row + [tokenizer.pad_token_id] * (LENGTH - len(row)) for row in rows])


def _train_step(model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer, tokens_B_T: torch.Tensor) -> float:
    """One step on the tokens after the prompt; returns the loss in nats per token."""
    import torch

    targets = tokens_B_T[:, PROMPT:]
    logits = model(input_ids=tokens_B_T[:, :-1]).logits[:, PROMPT - 1 :]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: a short ramp, then a half cosine down to zero."""
    return min(1.0, (step + 1) / RAMP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _restore(path: Path, model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer) -> int:
    """Load the saved state if there is one; returns the steps that are done."""
    import torch

    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(path: Path, step: int, model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer) -> None:
    import torch

    temporary = path.with_name(f"{path.name}.tmp")
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, temporary)
    files.fsync_path(temporary)
    os.replace(temporary, path)
    files.fsync_path(path.parent)


def sample_accuracy(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int, count: int = 256) -> float:
    """Share of right answers to held-out problems, sampled once each at temperature 1."""
    import torch

    environment = load_environment("addition", {"split": "held_out", "count": count})
    prompts = environment.prompts()
    inputs = tokenizer([prompt.text for prompt in prompts], return_tensors="pt", return_token_type_ids=False)
    torch.manual_seed(seed)
    model.eval()
    tokens = model.generate(**inputs, max_new_tokens=environment.max_tokens)[:, PROMPT:]
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    rewards = [environment.reward(prompt.id, text) for prompt, text in zip(prompts, texts, strict=True)]
    return sum(rewards) / len(rewards)


def _finish(out: Path, model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    write_model(out, model, tokenizer)
    for path in out.iterdir():
        if path.is_file():
            files.fsync_path(path)
    files.fsync_path(out)
    (out / STATE).unlink(missing_ok=True)
    (out / f"{STATE}.tmp").unlink(missing_ok=True)


def _report(step: int, name: str, value: float) -> None:
    """One line to `$HOLDFAST_METRICS`, if somebody asks for it."""
    path = os.environ.get("HOLDFAST_METRICS")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "name": name, "value": value}) + "\n")


if __name__ == "__main__":
    main()
