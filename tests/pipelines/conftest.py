"""What evaluations are typed against, and what pages are looked at with, for every test of this directory."""

from __future__ import annotations

from tests.evaluations import materials
from tests.web.browser import browser, page

__all__ = ["browser", "materials", "page"]
