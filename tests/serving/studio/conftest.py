"""A browser and a server for the tests of the pages; both are skipped with a reason where they are not installed."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browsers import browser as shared_browser

sys.path.insert(0, str(Path(__file__).parent))

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
    "--renderer-process-limit=1",  # starting one takes longer than most tests
)
PACKAGES = ("playwright", "fastapi", "uvicorn", "multipart")
# Firefox and Safari are not driven here: one browser keeps the suite quick.


def missing() -> str:
    """Why the tests cannot run here, or nothing."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return f"the pages' tests need {' and '.join(absent)}"
    return "" if CHROMIUM.exists() else f"the pages' tests need {CHROMIUM}"


class Server:
    """The mock server on a free port, in a thread."""

    def __init__(self, **options: Any) -> None:
        import uvicorn
        from mock_server import create

        self.app = create(**options)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(self.app, log_level="error", ws="websockets-sansio", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(10)


@pytest.fixture(scope="package")
def start_server() -> Iterator[Callable[..., Server]]:
    """Starts a server with options of its own; all are stopped at the end."""
    servers: list[Server] = []

    def start(**options: Any) -> Server:
        servers.append(Server(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="package")
def server(start_server: Callable[..., Server]) -> Server:
    return start_server()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """One browser for all pages; it ends with the package, since its event loop would disturb other tests."""
    if reason := missing():
        pytest.skip(reason)
    with shared_browser(ARGUMENTS) as found:
        yield found


class Tab:
    """A tab of its own, which records what it should not have done."""

    def __init__(self, context: Any, address: str) -> None:
        self.page, self.address = context.new_page(), address
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.complain(message.text))
        self.page.on("pageerror", lambda error: self.complain(str(error)))
        self.page.on("request", lambda request: self.external(request.url) and self.complain(request.url))

    def complain(self, text: str) -> None:
        if "getImageData" not in text:  # the tests read pixels, and are warned that this is slow
            self.complaints.append(text)

    def external(self, url: str) -> bool:
        return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "blob:", "data:"))

    def open(self, name: str, address: str = "") -> Any:
        """Opens a page, also of another server."""
        self.page.goto(f"{address or self.address}/studio/{name}")
        return self.page

    def until(self, expression: str) -> None:
        """Waits until an expression is true; the policy forbids Playwright's own way, to evaluate strings."""
        for _ in range(600):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(30)
        raise AssertionError(f"never true: {expression}")


class Tabs:
    """Tabs that last for all tests, since opening one takes longer than most of them."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser, self.address = browser, address
        self.known: dict[str, Tab] = {}

    def get(self, name: str, beside: str = "", **options: Any) -> Tab:
        """The tab of a name, with options of its context where it is new; ``beside`` shares that of another."""
        if name not in self.known:
            shared = self.known[beside].page.context if beside else None
            self.known[name] = Tab(shared or self.browser.new_context(**options), self.address)
        return self.known[name]

    def leave(self) -> list[str]:
        """Leaves all pages, forgets what they stored, and returns what they complained of."""
        complaints = []
        for tab in self.known.values():
            if tab.page.url != "about:blank":
                tab.page.evaluate("sessionStorage.clear(); localStorage.clear()")
                tab.page.goto("about:blank")
            complaints += tab.complaints
            tab.complaints.clear()
        return complaints


@pytest.fixture(scope="package")
def lasting_tabs(browser: Any, server: Server) -> Tabs:
    return Tabs(browser, server.address)


@pytest.fixture
def tabs(lasting_tabs: Tabs) -> Iterator[Tabs]:
    """Tabs that are as new, and may not complain of anything."""
    yield lasting_tabs
    assert not lasting_tabs.leave()


@pytest.fixture
def tab(tabs: Tabs) -> Tab:
    first = tabs.get("first", viewport={"width": 900, "height": 640})
    first.page.bring_to_front()
    return first


@pytest.fixture
def second_tab(tab: Tab, tabs: Tabs) -> Tab:
    """Another tab of the same browser window, which shares tastes and nothing else with the first."""
    del tab
    return tabs.get("second", beside="first")
