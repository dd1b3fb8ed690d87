"""Submits, polls and cancels jobs, and supervises what they run. Knows nothing of ML."""
