"""Plans evaluations: a config with NeMo RL's keys, a sweep over it, and the conversion that its checkpoint needs."""
