"""Training: the tiny model, its supervised warm-up, and GRPO on TRL."""
