"""The mechanism: what is owed, and who is doing it. Knows nothing of ML and nothing of schedulers."""
