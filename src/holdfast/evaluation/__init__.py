"""Evaluation: what rows say about a model, and how sure that is."""
