"""Looks at a whole collection as a person would: the list and its counts, a transcript, the board, all repeats of a
prompt. What is on the page must be what the rows say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.web.browser import open_page, shown, until, wait_total

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from tests.web.viewer import Viewer

Row = Mapping[str, Any]


def check_list(page: Page, viewer: Viewer, rows: Sequence[Row]) -> None:
    """Counts, order, and what filters and sorting find, of rows in the order of their file."""
    open_page(page, viewer)
    prompts = len({row["id"] for row in rows})
    wait_total(page, len(rows))
    wait_for_counts(page, len(rows), prompts)
    assert [float(text) for text in shown(page, "reward")[:10]] == [round(row["reward"], 3) for row in rows[:10]]
    assert shown(page, "repeat")[:10] == [str(row["repeat"]) for row in rows[:10]]
    wins = sum(row["success"] for row in rows)
    assert 0 < wins < len(rows)
    page.get_by_label("success", exact=True).select_option("yes")
    wait_total(page, wins)
    page.get_by_role("button", name="Show everything").click()
    wait_total(page, len(rows))
    most = max(row["usage"]["completion_tokens"] for row in rows)
    page.get_by_role("button", name="tokens").click()
    until(page, "most => document.querySelector('.row .tokens').textContent.replaceAll(',', '') === most", str(most))


def wait_for_counts(page: Page, rewards: int, prompts: int) -> None:
    """Until the line of counts says so many."""
    found = "document.querySelector('.counts').innerText.replaceAll(',', '')"
    until(page, f"words => words.every((word) => {found}.includes(word))", [f"{rewards} rewards", f"{prompts} prompts"])


def check_game(page: Page, viewer: Viewer, rows: Sequence[Row], place: int) -> None:
    """The transcript of a game with the reward of each turn, and every board of it."""
    row = rows[place]
    open_page(page, viewer, f"#row={place}")
    page.wait_for_selector(".message")
    said = page.locator(".message[data-role=assistant]")
    assert said.count() == len(row["turns"]) > 0
    worth = [float(text) for text in said.locator(".worth").all_inner_texts()]
    assert worth == [turn["reward"] for turn in row["turns"]]
    board, step = page.get_by_role("img", name="board"), page.get_by_label("step", exact=True)
    for number, lines in enumerate(boards(row)):
        step.fill(str(number))
        assert board.get_attribute("aria-label") == f"board, from the top: {' '.join(lines)}"
        assert board.locator(".settled").count() == "".join(lines).count("#")
    assert board.locator(".line").count() == row["prompt"]["dim_board"][1]


def boards(row: Row) -> Iterator[list[str]]:
    """Every board of a game, from its start."""
    yield row["turns"][0]["info"]["before"].splitlines()
    for turn in row["turns"]:
        for step in turn["info"]["steps"] or [turn["info"]]:
            yield step["board"].splitlines()


def check_repeats(page: Page, viewer: Viewer, rows: Sequence[Row], place: int) -> None:
    """All repeats of the prompt of a row, side by side."""
    same = [row for row in rows if row["id"] == rows[place]["id"]]
    open_page(page, viewer, f"#row={place}")
    page.get_by_role("button", name="Side by side").click()
    page.wait_for_selector(".column .message[data-role=assistant]")
    worth = [float(text) for text in page.locator(".column > header .worth").all_inner_texts()]
    assert worth == [round(row["reward"], 3) for row in same]
