"""Which tensors an architecture is made of: what decides whether a checkpoint is whole, and fits its config."""
