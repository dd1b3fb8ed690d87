"""PPO on a toy problem, on a CPU in a second: clipped ratios, and a value for each prompt as the baseline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from toy_trainer import (
    ANSWERS,
    PROMPTS,
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
    config = read_config(Path(__file__).parent / "configs" / "ppo.yaml")
    problem = Problem(config.model.seed)
    rates = {"first": config.optim.lr * config.optim.scale, "last": config.ppo.learning_rate * config.optim.scale}

    def update(weights: Weights, step: int) -> tuple[Weights, dict[str, float]]:
        rng, prompts = batch(config, step)
        features = problem.features[prompts]
        before = probabilities(weights, features)[1]
        answers = sample(rng, before, config.task.responses_per_prompt)
        rewards = problem.rewards(prompts, answers)
        advantages = rewards - weights["values"][prompts][:, None]
        chosen = np.eye(ANSWERS)[answers]
        for _ in range(config.ppo.epochs):
            hidden, chances = probabilities(weights, features)
            ratios = ((chosen * chances[:, None, :]).sum(-1)) / ((chosen * before[:, None, :]).sum(-1))
            beyond = np.where(advantages > 0, ratios > 1 + config.ppo.clip, ratios < 1 - config.ppo.clip)
            force = np.where(beyond, 0.0, ratios * advantages)
            slope = (force[..., None] * (chosen - chances[:, None, :])).mean(1)
            weights = ascend(weights, features, hidden, slope / len(prompts), rates)
        values = weights["values"].copy()
        values[prompts] += config.ppo.value_rate * advantages.mean(1)
        return {**weights, "values": values}, {"reward": float(rewards.mean()), "clipped": float(beyond.mean())}

    fresh = {**new_weights(config.model.model_name, config.model.seed), "values": np.zeros(PROMPTS)}
    Run(config, fresh).train(config.ppo.max_num_steps, update)


if __name__ == "__main__":
    main()
