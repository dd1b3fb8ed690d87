"""Collects responses: what is owed, by (prompt id, repeat), and the loop that asks for it."""
