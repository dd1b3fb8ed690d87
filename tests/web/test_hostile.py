"""What a model wrote is text, whatever it is: it runs nothing, hides nothing, and does not choke the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.web import rows
from tests.web.browser import open_page, until, wait_total
from tests.web.viewer import Viewer, viewing

if TYPE_CHECKING:
    from playwright.sync_api import Page

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>{{7*7}}javascript:alert(4)"
HIDDEN = "a\u202eb\x00c\x1b[31md\x07e\u2066f\ufeffg\u2028h"


def everywhere(text: str) -> dict[str, Any]:
    """A row that has it in every field that may hold a text."""
    call = {"id": text, "type": text, "function": {"name": text, "arguments": text}}
    messages = [
        {"role": text, "content": text, "name": text},
        {
            "role": "assistant",
            "content": [{"type": text, "text": text}, {text: text}],
            "tool_calls": [call],
            "reasoning": text,
        },
        {"role": "tool", "content": json.dumps({text: text, "reward": text}), "tool_call_id": text, "name": text},
    ]
    turn = {
        "reward": text,
        "info": {"board": text, text: [text], "steps": [{"board": text, "action": text}]},
        "finish": text,
    }
    row = {
        "id": text,
        "repeat": 0,
        "reward": 1,
        "prompt": {"game_id": text, text: text},
        "response": text,
        "finish": text,
    }
    more = {"messages": messages, "turns": [turn, turn], "info": {text: text}, text: text, "environment": text}
    return {**row, **more, "timing": {"finished": 1}}


def huge() -> dict[str, Any]:
    messages = [
        {"role": "user", "content": "x" * 5_000_000 + "THE END"},
        *({"role": "assistant", "content": str(n)} for n in range(1200)),
    ]
    return {"id": "huge", "repeat": 0, "reward": 0, "messages": messages, "info": {"much": list(range(300_000))}}


def deep() -> dict[str, Any]:
    inside: Any = "bottom"
    for _ in range(200):
        inside = {"in": [inside]}
    return {
        "id": "deep",
        "repeat": 0,
        "reward": 0,
        "messages": inside,
        "turns": [inside, None, 7],
        "info": inside,
        "prompt": inside,
    }


ODD: list[Any] = [
    everywhere(EVIL),
    everywhere(HIDDEN),
    {**rows.failure(1, 0), "error": {"type": EVIL, "message": EVIL}},
    huge(),
    deep(),
    {"id": "half", "reward": 1, "prompt": "\ud83d", "response": "half of a character: \udc00"},
    {
        "id": "odd",
        "reward": 1,
        "messages": [None, 7, "text", [], {"role": None}, {"role": "assistant", "content": None, "tool_calls": "x"}],
        "turns": "x",
    },
    {
        "id": "numbers",
        "reward": 1,
        "messages": [],
        "turns": [{"reward": float("nan")}],
        "info": {"a": float("inf"), "b": 10**400, "c": -(2**60)},
    },
    {
        "id": "rtl",
        "reward": 1,
        "prompt": "\u0634\u0644\u0648\u0645 \u05e9\u05dc\u05d5\u05dd",
        "response": "\u05e2\u05d1\u05e8\u05d9\u05ea",
    },
    {"id": "../../etc/passwd", "reward": 1, "prompt": "p", "response": "r"},
    {"id": "", "reward": 1, "response": {"output": "x"}},
    {"reward": 1, "response": {"output": [None, 3, {"type": 7}, {"type": "function_call", "arguments": {"a": 1}}]}},
    {
        "id": "constructor",
        "reward": 1,
        "prompt": {"__proto__": {"x": 1}, "constructor": "c"},
        "response": "r",
        "error": None,
    },
]


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    place = tmp_path_factory.mktemp("hostile")
    path = place / f"{EVIL.replace('/', '')[:100]}.jsonl"
    with viewing(rows.write(path, ODD), root=place / "root") as found:
        found.wait_for_rows(len(ODD))
        yield found


@pytest.mark.parametrize("number", range(len(ODD)))
def test_every_odd_row_is_answered_and_its_answer_is_bounded(viewer: Viewer, number: int) -> None:
    found = viewer.send(f"/api/row/{number}")
    assert found.status == 200 and len(found.body) < 3_000_000, found.body[:500]
    assert (
        found.content["n"] == number and b"NaN" not in found.body and b"Infinity" not in found.body.replace(b'"', b"x")
    )
    assert repr(viewer.send(f"/api/row/{number}/raw").content) == repr(ODD[number])


@pytest.mark.parametrize("number", range(len(ODD)))
def test_every_odd_row_is_shown_and_runs_nothing(page: Page, viewer: Viewer, number: int) -> None:
    open_page(page, viewer, f"#state=all&row={number}")
    page.wait_for_selector(".detail .facts")
    wait_total(page, len(ODD))
    assert page.evaluate("document.querySelectorAll('script, img, svg, iframe, object, style').length") == 1  # ours
    assert "Not shown" not in page.locator(".detail").inner_text()
    page.keyboard.press("g")
    # A row may have nothing to show: its transcript is there, and has no height.
    page.wait_for_selector(".column .transcript", state="attached")
    assert page.evaluate("document.querySelectorAll('img, svg, iframe, object, style').length") == 0


def test_markup_is_read_as_it_was_written(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer, "#row=0")
    page.wait_for_selector(".message")
    first = page.locator(".message").first
    assert first.locator("pre").inner_text() == EVIL
    assert page.locator(".detail h2").inner_text().startswith("</pre><script>alert(1)")
    assert "<script>" in page.locator("h1").inner_text()


def test_what_would_be_invisible_or_reorder_text_is_spelled_out(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer, "#row=1")
    page.wait_for_selector(".message")
    said = page.locator(".message").first.locator("pre").inner_text()
    assert (
        said == "a\u27e8U+202E\u27e9b\u2400c\u241b[31md\u2407e\u27e8U+2066\u27e9f\u27e8U+FEFF\u27e9g\u27e8U+2028\u27e9h"
    )
    assert "\u202e" not in page.locator("body").inner_text()


def test_writing_from_right_to_left_reads_from_right_to_left(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer, "#row=8")
    page.wait_for_selector(".message")
    blocks = page.locator(".message pre")
    assert [blocks.nth(n).evaluate("each => getComputedStyle(each).direction") for n in range(2)] == ["rtl", "rtl"]
    assert page.locator("body").evaluate("each => getComputedStyle(each).direction") == "ltr"


def test_a_huge_text_is_cut_and_loaded_when_asked_for(page: Page, viewer: Viewer) -> None:
    open_page(page, viewer, "#row=3")
    first = page.locator(".message").first
    first.wait_for()
    assert len(first.locator("pre").text_content() or "") == 64 * 1024 and page.locator(".message").count() == 500
    first.get_by_role("button", name="Load full: 5,000,007 characters").click()
    until(page, "document.querySelector('.message pre').textContent.endsWith('THE END')")
    page.get_by_role("button", name="Load more: 701 messages").click()
    until(page, "document.querySelectorAll('.message').length === 1000")
    page.get_by_role("button", name="Load more: 201 messages").click()
    until(page, "document.querySelectorAll('.message').length === 1201")


def test_a_row_that_is_changed_behind_the_page_is_said(page: Page, tmp_path: Path) -> None:
    page.expected_complaint = "409"  # type: ignore[attr-defined]
    path = rows.write(tmp_path / "rollouts.jsonl", [rows.game(0, n) for n in range(9)])
    with viewing(path, root=tmp_path / "root") as viewer:
        open_page(page, viewer)
        wait_total(page, 9)
        page.route(
            "**/api/row/8", lambda route: (rows.write(path, [rows.game(1, n) for n in range(3)]), route.continue_())
        )
        page.locator(".row").nth(8).click()
        page.wait_for_selector(".detail .trouble, .detail .facts")
        wait_total(page, 3)
