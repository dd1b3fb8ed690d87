"""Runs the life of an RL post-training experiment so that finished work is never lost, repeated or half-believed."""

__version__ = "0.1.0"
