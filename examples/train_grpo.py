"""GRPO on a toy problem, on a CPU in a second: the advantage of an answer is relative to the others to its prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from toy_trainer import (
    ANSWERS,
    Problem,
    Run,
    Weights,
    ascend,
    batch,
    new_weights,
    probabilities,
    read_config,
    sample,
)


def main() -> None:
    config = read_config(Path(__file__).parent / "configs" / "grpo.yaml")
    problem = Problem(config.model.seed)
    rates = {"first": config.optim.lr * config.optim.scale, "last": config.grpo.learning_rate * config.optim.scale}

    def update(weights: Weights, step: int) -> tuple[Weights, dict[str, float]]:
        rng, prompts = batch(config, step)
        features = problem.features[prompts]
        for _ in range(config.grpo.num_episodes):
            hidden, chances = probabilities(weights, features)
            answers = sample(rng, chances, config.task.responses_per_prompt)
            rewards = problem.rewards(prompts, answers)
            advantages = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, keepdims=True) + 1e-6)
            gain = advantages[..., None] * (np.eye(ANSWERS)[answers] - chances[:, None, :])
            surprise = np.log(chances * ANSWERS)
            kl = (chances * surprise).sum(1, keepdims=True)
            slope = gain.mean(1) - config.grpo.kl_penalty * chances * (surprise - kl)
            weights = ascend(weights, features, hidden, slope / len(prompts), rates)
        return weights, {"reward": float(rewards.mean()), "kl": float(kl.mean())}

    run = Run(config, new_weights(config.model.model_name, config.model.seed))
    run.train(config.grpo.max_num_steps, update)


if __name__ == "__main__":
    main()
