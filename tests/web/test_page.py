"""The page in a real browser: everything by mouse and by keyboard, at any size, live; pictures of it are kept."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.runs import wait_until
from tests.web import rows
from tests.web.browser import open_page, shown, until, wait_total
from tests.web.viewer import Viewer, viewing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

GAMES = [rows.game(prompt, repeat) for prompt in range(40) for repeat in range(16)]
FAILED = [rows.failure(40, n, kind) for n, kind in enumerate(["timeout", "timeout", "context_length"])]
IMAGES = Path(__file__).parents[2] / "docs" / "images"


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    place = tmp_path_factory.mktemp("page")
    path = rows.write(place / "qwen3_4b_eval" / "rollouts.jsonl", [*GAMES, *FAILED])
    with viewing(path, root=place / "root") as found:
        found.wait_for_rows(643)
        yield found


def test_the_list_says_what_the_rows_say(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer)
    assert page.title().startswith("qwen3_4b_eval/rollouts.jsonl")
    assert [float(text) for text in shown(page, "reward")[:20]] == [row["reward"] for row in GAMES[:20]]
    counts = page.locator(".counts").inner_text()
    assert "640 rewards" in counts and "3 failed" in counts and "41 prompts" in counts


def test_the_list_is_sorted_by_a_click_and_by_another_the_other_way(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer)
    most = sorted((row["usage"]["completion_tokens"] for row in GAMES), reverse=True)
    page.get_by_role("button", name="tokens").click()
    page.wait_for_selector(".head .tokens[aria-sort=descending]")
    until(page, "most => Number(document.querySelector('.row .tokens').textContent) === most", most[0])
    assert [int(text) for text in shown(page, "tokens")[:20]] == most[:20]
    page.get_by_role("button", name="tokens").click()
    until(page, "least => Number(document.querySelector('.row .tokens').textContent) === least", most[-1])
    assert "sort=tokens" in page.url and "dir=asc" in page.url


def test_a_bar_of_the_histogram_filters_and_lets_go(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer)
    bars = page.locator(".bin")
    assert bars.count() == 2
    bars.nth(1).click()
    wins = sum(row["reward"] > 5 for row in GAMES)
    wait_total(page, wins)
    assert set(shown(page, "status")) <= {"success", "success, cut"} and bars.count() == 2
    wait_until(lambda: bars.nth(1).get_attribute("aria-pressed") == "true")
    bars.nth(1).click()
    wait_total(page, 643)


def test_search_and_filters_work_together_and_travel_in_the_url(page: Page, viewer: Viewer, browser: Browser) -> None:
    open_page(page, viewer)
    page.keyboard.press("/")
    page.keyboard.type("PUZZLE-3")
    wait_total(page, 11 * 16)
    page.get_by_label("success", exact=True).select_option("yes")
    expected = sum(row["success"] and "puzzle-3" in row["id"] for row in GAMES)
    wait_total(page, expected)
    url = page.url
    page.get_by_role("button", name="Show everything").click()
    wait_total(page, 643)
    assert page.get_by_label("search prompts").input_value() == ""
    page.goto(url)
    page.reload()
    wait_total(page, expected)
    assert page.get_by_label("search prompts").input_value() == "PUZZLE-3"


def test_failures_are_found_by_their_reason(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer)
    page.get_by_label("failure", exact=True).select_option("timeout")
    wait_total(page, 2)
    page.locator(".row").first.click()
    assert "no answer within 600 s" in page.locator(".detail .trouble").inner_text()


def test_everything_is_reached_by_the_keyboard(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer)
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_selector(".message")
    assert (
        page.locator(".detail h2").inner_text() == "puzzle-0"
        and "repeat 2" in page.locator(".detail .bar").inner_text()
    )
    page.keyboard.press("ArrowDown")
    until(page, "document.querySelector('.detail .bar')?.textContent.includes('repeat 3')")
    page.keyboard.press("End")
    until(page, "document.querySelector('.detail h2')?.textContent === 'puzzle-40'")
    page.keyboard.press("Home")
    until(page, "document.querySelector('.detail .bar')?.textContent.includes('repeat 0')")
    page.keyboard.press("?")
    assert page.locator("dialog.help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog.help").is_visible() and page.locator(".detail").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_selector(".detail", state="hidden")


def test_a_transcript_has_calls_and_the_reward_of_each_turn(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer, "#row=17")
    page.wait_for_selector(".message")
    row = GAMES[17]
    said = page.locator(".message[data-role=assistant]")
    assert said.locator(".worth").all_inner_texts() == [
        f"{turn['reward']:+}".replace("+-", "-") for turn in row["turns"]
    ]
    assert "actions:" in said.first.locator(".call").inner_text()
    tool = page.locator(".message[data-role=tool]").first
    lines = [line.strip() for line in tool.inner_text().splitlines()]
    assert row["turns"][0]["info"]["board"].splitlines() == lines[lines.index("observation:") + 1 :][:5]
    tool.hover()
    tool.get_by_role("button", name="as sent").click()
    assert json.loads(tool.locator("pre").inner_text())["done"] is False


def test_the_list_shows_which_rollout_is_beside_it(page: Page, viewer: Viewer) -> None:
    """After a link to another one, and after the back button."""
    open_page(page, viewer, "#row=17")
    selected = page.locator(".row[aria-selected=true] .id")
    page.goto(f"{viewer.url}#row=40")
    wait_until(lambda: selected.count() == 1 and selected.inner_text() == GAMES[40]["id"])
    page.go_back()
    wait_until(lambda: selected.count() == 1 and selected.inner_text() == GAMES[17]["id"])
    wait_until(lambda: page.locator(".detail h2").inner_text() == GAMES[17]["id"])


def test_a_board_follows_the_slider(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer, "#row=17")
    board = page.get_by_role("img", name="board")
    boards = [GAMES[17]["turns"][0]["info"]["before"], *(turn["info"]["board"] for turn in GAMES[17]["turns"])]

    def label(number: int) -> str:
        return f"board, from the top: {' '.join(boards[number].splitlines())}"

    board.wait_for()
    assert page.locator(".row[aria-selected=true]").get_attribute("data-place") == "17"
    assert board.get_attribute("aria-label") == label(0)
    page.get_by_label("step", exact=True).fill("3")
    assert board.get_attribute("aria-label") == label(3) and board.locator(".active").count() == boards[3].count("X")
    page.keyboard.press("Escape")
    page.locator(".row").nth(17).click()
    board.wait_for()
    page.keyboard.press("ArrowRight")
    assert board.get_attribute("aria-label") == label(1)
    page.get_by_role("button", name="play").click()
    until(page, "label => document.querySelector('.tetris').getAttribute('aria-label') === label", label(4))


def test_the_repeats_of_a_prompt_stand_side_by_side(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer)
    page.keyboard.press("j")
    page.keyboard.press("g")
    page.wait_for_selector(".column .message[data-role=assistant]")
    assert page.locator(".column").count() == 16
    worth = [float(text) for text in page.locator(".column > header .worth").all_inner_texts()]
    assert worth == [row["reward"] for row in GAMES[:16]]
    last = page.locator(".column").last
    assert last.locator(".message").count() == 0  # not before it is seen
    last.scroll_into_view_if_needed()
    last.locator(".message[data-role=assistant]").first.wait_for()
    page.get_by_role("button", name="Only these in the list").click()
    wait_total(page, 16)
    page.get_by_role("button", name="all prompts").click()
    wait_total(page, 643)


def test_going_back_goes_back(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer)
    page.locator(".row").nth(2).click()
    page.wait_for_selector(".message")
    page.get_by_role("button", name="Side by side").click()
    page.wait_for_selector(".column")
    page.go_back()
    page.wait_for_selector(".detail .ladder")
    page.go_back()
    page.wait_for_selector(".detail", state="hidden")


def test_a_renderer_of_ones_own_draws(page: Page, tmp_path: Path) -> None:
    own = tmp_path / "guess.js"
    own.write_text(
        "export default { name: 'guess', environments: [], matches: (row) => row.given?.seed === 93811,\n"
        "  render: (row, { h }) => h('p', { class: 'guess' }, `<b>${row.given.seed}</b>`) };\n"
    )
    path = rows.write(tmp_path / "rollouts.jsonl", GAMES[:32])
    with viewing(path, "--renderer", str(own), root=tmp_path / "root") as viewer:
        open_page(page, viewer, "#row=16")
        page.wait_for_selector(".guess")
        assert page.locator(".guess").inner_text() == "<b>93811</b>"
        page.goto(f"{viewer.url}#row=0")
        page.get_by_role("img", name="board").wait_for()


def test_new_rows_appear_while_one_looks(page: Page, tmp_path: Path) -> None:
    parts = tmp_path / "c0ffee" / "parts"
    rows.write(parts / "001-aa.jsonl", GAMES[:5])
    with viewing(parts.parent, root=tmp_path / "root") as viewer:
        open_page(page, viewer)
        wait_total(page, 5)
        page.locator(".row").nth(4).click()
        page.wait_for_selector(".message")
        with open(parts / "001-aa.jsonl", "ab") as file:
            file.write(rows.lines(GAMES[5:9]))
        wait_total(page, 9)
        assert (
            page.locator(".row[aria-selected=true] .repeat").inner_text() == "4"
            and page.locator(".detail").is_visible()
        )
        rows.write(parts / "002-bb.jsonl", [*GAMES[9:12], *FAILED])
        wait_total(page, 15)
        until(page, "document.querySelector('.counts').textContent.includes('3 failed')")
        assert page.locator("select[name=failure] option").count() == 3


def test_the_page_says_that_its_server_is_gone(page: Page, tmp_path: Path) -> None:
    path = rows.write(tmp_path / "rollouts.jsonl", GAMES[:5])
    page.expected_complaint = "net::ERR"  # type: ignore[attr-defined]
    with viewing(path, root=tmp_path / "root") as viewer:
        open_page(page, viewer)
        until(page, "document.querySelector('.light').textContent === 'live'")
    until(page, "document.querySelector('.light').textContent === 'not connected'")


def test_a_list_taller_than_any_element_reaches_its_last_row(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    with open(path, "w") as file:
        file.writelines(f'{{"id":"p{n}","repeat":0,"reward":{n % 7}}}\n' for n in range(300_000))
    with viewing(path, root=tmp_path / "root") as viewer:
        viewer.wait_for_rows(300_000)
        open_page(page, viewer)
        wait_total(page, 300_000)
        page.keyboard.press("End")
        until(
            page,
            "[...document.querySelectorAll('.row:not([hidden]) .id')].some((each) => each.textContent === 'p299999')",
        )
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('.detail h2')?.textContent === 'p299998'")
        page.locator(".scroller").evaluate("scroller => scroller.scrollTop = scroller.scrollHeight / 2")
        until(page, "Math.abs(Number(document.querySelector('.row .id').textContent.slice(1)) - 150000) < 300")
        before = int(shown(page, "id")[0][1:])
        page.locator(".scroller").hover()
        page.mouse.wheel(0, 300)
        until(page, "before => document.querySelector('.row .id').textContent === `p${before + 10}`", before)
        assert page.locator(".row").count() < 60


def test_what_can_be_pressed_has_a_name(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer, "#row=17")
    page.wait_for_selector(".tetris")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a, [role=grid], [role=img]")]
        .filter((each) => !(each.getAttribute("aria-label") || each.labels?.length || each.textContent.trim()))
        .map((each) => each.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_can_be_read(browser: Browser, viewer: Viewer, theme: Any) -> None:
    """Contrast as WCAG 2.1 measures it: at least 4.5 for text."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=theme)
    page = context.new_page()
    open_page(page, viewer, "#row=17")
    page.wait_for_selector(".tetris")
    poor = page.evaluate((Path(__file__).parent / "contrast.js").read_text())
    context.close()
    assert poor == []


@pytest.mark.skipif("HOLDFAST_PICTURES" not in os.environ, reason="writes docs/images: HOLDFAST_PICTURES=1")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_for_the_guide(browser: Browser, viewer: Viewer, theme: Any) -> None:
    context = browser.new_context(viewport={"width": 1180, "height": 720}, color_scheme=theme)
    page = context.new_page()
    open_page(page, viewer)
    page.screenshot(path=IMAGES / f"rollouts-list-{theme}.png")
    open_page(page, viewer, "#row=17&sort=tokens&dir=desc")
    page.wait_for_selector(".tetris")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.screenshot(path=IMAGES / f"rollouts-board-{theme}.png")
    page.locator(".message[data-role=assistant]").first.scroll_into_view_if_needed()
    page.locator(".detail .body").evaluate("body => body.scrollTop = 560")
    page.screenshot(path=IMAGES / f"rollouts-transcript-{theme}.png")
    page.goto(f"{viewer.url}#group=1")
    page.wait_for_selector(".column .message[data-role=assistant]")
    page.screenshot(path=IMAGES / f"rollouts-group-{theme}.png")
    context.close()
    assert re.match("light|dark", theme)
