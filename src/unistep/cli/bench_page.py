"""``unistep bench live --page``: a page that runs its models itself, from its folder and in a real browser."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from unistep.cli.errors import CommandError

NOTES = "adgkfjshawetyu"
"""Keys of a computer that play notes."""
STARTED = 60_000
"""Milliseconds within which a model must be ready."""


class _Handler(SimpleHTTPRequestHandler):
    """Files of a folder, with the types that browsers want of modules."""

    extensions_map = {  # noqa: RUF012 - the base class has it so
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".html": "text/html",
        ".css": "text/css",
        ".svg": "image/svg+xml",
        ".json": "application/json",
    }

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said of requests."""
        del format, args


@contextlib.contextmanager
def folder_served(folder: Path) -> Iterator[str]:
    """A server of static files on a free port of this computer; its address.

    Args:
        folder: The folder.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def check_exported(folder: Path) -> None:
    """Check that a folder is a page.

    Raises:
        ValueError: If it is none, or has neither a world nor notes.
    """
    if not (folder / "models" / "models.json").is_file():
        raise ValueError(f"{folder} is no page: unistep export racing notes --to web -o {folder}")
    if not any((folder / f"{name}.html").is_file() for name in ("world", "piano")):
        raise ValueError(f"{folder} has neither a world nor notes to measure; export one with racing or notes")


def isolated(page: Any, address: str) -> None:
    """Open a page, and wait until it has been loaded once more with what isolates it.

    Args:
        page: A tab of Playwright.
        address: Of the page.

    Raises:
        CommandError: If it does not become ready.
    """
    from playwright.sync_api import Error

    page.goto(address)
    for _ in range(STARTED // 100):
        with contextlib.suppress(Error):  # the page may be about to be loaded once more
            if page.evaluate("window.crossOriginIsolated && 'ready' in document.body.dataset"):
                return
        page.wait_for_timeout(100)
    raise CommandError(f"{address} was not ready within a minute")


def watch_notes(page: Any, address: str, keys: int = 40) -> dict[str, Any]:
    """Strike keys of the piano, each of which makes a new note.

    Args:
        page: A tab of Playwright.
        address: Of the folder.
        keys: How many.

    Returns:
        What the page measured: milliseconds from a key to its sound, and what runs the model.
    """
    isolated(page, f"{address}/piano.html")
    page.wait_for_function("document.documentElement.dataset.engine", timeout=STARTED)
    page.get_by_label("Always make new sounds").set_checked(True)
    for number in range(keys + 2):
        before = page.get_attribute("#latency-new", "data-count")
        page.keyboard.press(NOTES[number % len(NOTES)])
        page.wait_for_function(
            "before => document.getElementById('latency-new').dataset.count !== before", arg=before, timeout=STARTED
        )
    found = page.locator("#latency-new").evaluate("element => ({ ...element.dataset })")
    engine = page.locator("#engine").inner_text()
    return {"keys": int(found["count"]), **{name: float(found[name]) for name in ("p50", "p95")}, "engine": engine}


def note_words(figures: dict[str, Any]) -> str:
    """The figures of notes in words."""
    return (
        f"a new note: {figures['p50']:.0f} ms from key to sound (p95 {figures['p95']:.0f}) over {figures['keys']} keys"
    )
