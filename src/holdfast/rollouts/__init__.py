"""Collects responses: what is owed, by (prompt id, repeat), and the loop that asks for it.

collection    the rows of one identity, in parts; `row_index` reads them, `writer` makes them durable in groups
collect       the loop: bounded admission, stop and drain, failures as rows; knows nothing of what a rollout is
calls         one call to the engine, with deadline, tries, and the `breaker` that waits for an engine that is gone
deadlines     many deadlines of one length, by one timer
columns       the rows as columns, for pages: `columns_follow` keeps them up to date, `columns_keep` does so
              while rows are collected, `columns_query` asks them
single_turn   what a rollout is for an evaluation: one prompt, one response, one grade
"""
