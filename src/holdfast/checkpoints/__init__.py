"""Checkpoints that others wrote: which formats there are, what tensors they hold, and how they become safetensors.

Nothing here loads torch, and nothing that a checkpoint holds is executed.
"""
