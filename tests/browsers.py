"""One headless browser for all tests of a process that need one: Playwright can be started once at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

CHROMIUM = "/usr/bin/chromium"
_shared: dict[str, Any] = {"users": 0}


@contextmanager
def browser(arguments: Sequence[str]) -> Iterator[Any]:
    """The browser, started for the first who asks, with these arguments, and closed by the last who leaves."""
    if not _shared["users"]:
        from playwright.sync_api import sync_playwright

        _shared["driver"] = sync_playwright().start()
        _shared["browser"] = _shared["driver"].chromium.launch(executable_path=CHROMIUM, args=list(arguments))
    _shared["users"] += 1
    try:
        yield _shared["browser"]
    finally:
        _shared["users"] -= 1
        if not _shared["users"]:
            _shared["browser"].close()
            _shared["driver"].stop()
