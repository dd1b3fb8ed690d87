"""A real browser, and how pages are waited for. Where there is none the tests of pages are skipped, but never in CI."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page
    from tests.web.viewer import Viewer


def give_up(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the system: `make system-packages` installs it. Not for a whole session: Playwright keeps an event
    loop running in this thread, and tests of other modules run loops of their own.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        give_up("playwright is not installed: make install")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        give_up("there is no Chromium: make system-packages")
    with sync_playwright() as playwright:
        # Without its sandbox: containers do not let it have one, and the pages are our own.
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page. What it complains of, and whatever it asks of anybody but its own server, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light")
    found = context.new_page()
    wrong: list[str] = []
    asked: set[str] = set()

    def refuse(dialog: Dialog) -> None:
        wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    found.on("dialog", refuse)
    found.on("request", lambda request: asked.add("/".join(request.url.split("/", 3)[:3])))
    yield found
    expected: Any = getattr(found, "expected_complaint", None)
    context.close()
    complaints = [each for each in wrong if not (expected and expected in each)]
    assert not complaints, complaints
    assert all(origin.startswith("http://127.0.0.1:") for origin in asked) and len(asked) <= 1, asked


def until(page: Page, expression: str, given: Any = None, seconds: float = 30.0) -> None:
    """Wait until it holds. Playwright's own waiting calls eval in the page, which the page forbids."""
    ends = time.monotonic() + seconds
    while not page.evaluate(expression, given):
        assert time.monotonic() < ends, expression
        page.wait_for_timeout(20)


def open_page(page: Page, viewer: Viewer, state: str = "") -> None:
    page.goto(f"{viewer.url}{state}")
    page.wait_for_selector("html[data-ready]")
    until(
        page,
        "document.querySelector('.row:not([hidden])')?.textContent || document.querySelector('.empty').textContent",
    )


def shown(page: Page, column: str) -> list[str]:
    """A column of what is on the screen, once every row is there."""
    until(page, "![...document.querySelectorAll('.row:not([hidden])')].some((row) => row.dataset.kind === 'waiting')")
    found: list[str] = page.locator(f".row:not([hidden]) .{column}").all_inner_texts()
    return found


def wait_total(page: Page, count: int) -> None:
    until(page, "count => document.querySelector('.found').textContent.replaceAll(',', '') === `${count} shown`", count)
