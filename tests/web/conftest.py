"""What a page is looked at with, for every test of this directory."""

from __future__ import annotations

from tests.web.browser import browser, page

__all__ = ["browser", "page"]
