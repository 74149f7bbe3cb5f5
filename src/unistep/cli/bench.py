"""``unistep bench live``: a world that is played in a real browser, whose frames are watched from outside the page."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from unistep.cli.bench_page import check_exported, folder_served, isolated, note_words, watch_notes
from unistep.cli.errors import CommandError
from unistep.cli.extras import require
from unistep.cli.parse import parse
from unistep.generation.pacing import quantile

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
"""Names of browsers that can be driven."""
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
"""Options of the browser: nothing that asks the network."""
FASTER = ("onnxruntime", "openvino")
"""Packages by which a server finds a faster backend after it is ready."""
PATIENCE = 180
"""Seconds in which it finds one."""
HOLD = (0.25, 0.45)
"""Seconds for which a key is held, and seconds between two presses."""
WATCHER = """
() => {
  const canvas = document.getElementById('screen');
  const seen = { frames: [], keys: [] };
  window.unistepSeen = seen;
  let pressed = null, last = -1;
  document.addEventListener('keydown', (event) => {
    if (!event.repeat && last >= 0) pressed = { at: event.timeStamp, before: mark().interaction };
  }, { capture: true });
  function mark() {
    const { width, height } = canvas, cell = Math.max(1, Math.round(width / 128));
    const data = canvas.getContext('2d').getImageData(0, height - 2 * cell, 10 * cell, 2 * cell);
    const bits = (row) => Array.from({ length: 10 }, (_, x) =>
      data.data[4 * (Math.floor((row + 0.5) * cell) * data.width + Math.floor((x + 0.5) * cell))] > 127 ? 1 : 0);
    const number = (all) => all.slice(2).reduce((sum, bit) => 2 * sum + bit, 0);
    const [frame, key] = [bits(0), bits(1)];
    const found = frame[0] === 1 && frame[1] === 0 && key[0] === 0 && key[1] === 1;
    return found ? { sequence: number(frame), interaction: number(key) } : { sequence: -1, interaction: -1 };
  }
  function look(now) {
    const found = mark();
    if (found.sequence >= 0 && found.sequence !== last) {
      seen.frames.push(now);
      last = found.sequence;
      if (pressed && found.interaction !== pressed.before) {
        seen.keys.push(now - pressed.at);
        pressed = null;
      }
    }
    requestAnimationFrame(look);
  }
  requestAnimationFrame(look);
}
"""
"""Reads the mark of each frame from the canvas at each repaint; it knows nothing of what the page knows."""


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Measure how live a model is: frames a second and the time from a key to its picture, in a headless browser."""

    what: Annotated[tyro.conf.Positional[Literal["live"]], tyro.conf.arg(metavar="live")]
    """live: a world that is played in the studio."""
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "racing"
    """A world model."""
    seconds: float = 20.0
    """How long it is played."""
    fps: float | None = None
    """Frames a second that are asked for; the model's own without."""
    backend: str = "auto"
    """What runs the network, as in unistep serve."""
    precision: str = "fp32"
    """Arithmetic of the network, as in unistep serve."""
    threads: int | None = None
    """Threads of the network, as in unistep serve."""
    page: Path | None = None
    """A folder of unistep export --to web, which needs no server: its world is played, and its piano."""
    browser: str | None = None
    """Path of a Chromium; the one that is installed without."""
    json: Path | None = None
    """File for the figures."""


def run(arguments: Sequence[str]) -> int:
    """Serve a world, play it in a browser, and print what was seen."""
    options = parse(BenchOptions, "bench", arguments)
    if not 2 <= options.seconds <= 3600:
        raise ValueError(f"--seconds must be from 2 to 3600, got {options.seconds:g}")
    if options.fps is not None and not 1 <= options.fps <= 120:
        raise ValueError(f"--fps must be from 1 to 120, got {options.fps:g}")
    if options.page is not None:
        return _page(options, options.page)
    require("serve", "a server")
    browser = find_browser(options.browser)
    with served(options) as address, driven(browser) as page:
        seen = watch(page, f"{address}/studio/world.html", options)
    return _say(options, summary(seen, options.model), "encoding, WebSocket, decoding")


def _page(options: BenchOptions, folder: Path) -> int:
    """Measure a page that needs no server."""
    check_exported(folder)
    browser = find_browser(options.browser)
    figures: dict[str, Any] = {}
    with folder_served(folder) as address:
        if (folder / "world.html").is_file():
            with driven(browser) as page:
                isolated(page, f"{address}/world.html")
                seen = watch(page, f"{address}/world.html", options)
                engine = page.locator("#engine").inner_text()
            figures = {**summary(seen, options.model), "engine": engine}
        if (folder / "piano.html").is_file():
            with driven(browser) as page:
                figures["note"] = watch_notes(page, address)
    return _say(options, figures, "decoding")


def _say(options: BenchOptions, figures: dict[str, Any], between: str) -> int:
    from unistep.evaluation.hardware import hardware

    figures["hardware"] = hardware("cpu")
    if "frames" in figures:
        print(table(figures))
    if "note" in figures:
        print(note_words(figures["note"]))
    engines = {part["engine"] for part in (figures, figures.get("note", {})) if "engine" in part}
    print("".join(f"{engine}\n" for engine in sorted(engines)), end="")
    print(f"with the network, {between} and drawing in headless Chromium; {figures['hardware']}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def find_browser(given: str | None) -> str:
    """The browser to drive.

    Raises:
        ValueError: If there is none, or Playwright is missing.
    """
    if importlib.util.find_spec("playwright") is None:
        raise ValueError("bench live drives a browser by Playwright: pip install playwright")
    found = given if given is not None else next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None or not Path(found).is_file():
        raise ValueError(f"there is no browser {given or 'Chromium'} here; install it, or name it with --browser PATH")
    return found


@contextmanager
def served(options: BenchOptions) -> Iterator[str]:
    """A server of the model in a process of its own, ready; its address.

    Raises:
        CommandError: If it ends, or does not become ready.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["serve", options.model, "--port", str(port), "--log", "none", "--backend", options.backend]
    words += ["--precision", options.precision]
    words += [] if options.threads is None else ["--threads", str(options.threads)]
    process = subprocess.Popen([sys.executable, "-m", "unistep", *words], stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        begun = time.monotonic()
        while not _ready(address):
            if process.poll() is not None:
                raise CommandError("the server ended; its error is above")
            if time.monotonic() - begun > 120:
                raise CommandError("the server was not ready within two minutes")
            time.sleep(0.1)
        print(f"ready after {time.monotonic() - begun:.1f} s", flush=True)
        if options.backend == "auto" and any(importlib.util.find_spec(name) for name in FASTER):
            print("waiting for the fastest backend", flush=True)
            while options.model not in (found := _state(address).get("backends", {})):
                if time.monotonic() - begun > PATIENCE or process.poll() is not None:
                    break
                time.sleep(0.2)
            print(f"{options.model} is run in {found.get(options.model, 'fp32 by PyTorch')}", flush=True)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _ready(address: str) -> bool:
    return _state(address).get("status") == "ready"


def _state(address: str) -> dict[str, Any]:
    """What the server says of itself; nothing while it does not answer."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return {}


@contextmanager
def driven(browser: str) -> Iterator[Any]:
    """A tab of a headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=list(FLAGS))
        yield chromium.new_page(viewport={"width": 1000, "height": 800})
        chromium.close()


def watch(page: Any, address: str, options: BenchOptions) -> dict[str, list[float]]:
    """Play a world; the times of frames, and from each key to its frame, in milliseconds."""
    rate = "" if options.fps is None else f"?fps={options.fps:g}"
    page.goto(f"{address}{rate}")
    page.click("#start", timeout=30_000)
    begun = time.monotonic()
    while int(page.get_attribute("#screen", "data-drawn") or 0) < 5:
        if time.monotonic() - begun > 60:
            raise CommandError(f"no frame was drawn within a minute: {page.inner_text('main')[:200]!r}")
        page.wait_for_timeout(100)
    page.evaluate(WATCHER)
    until = time.monotonic() + options.seconds
    keys = ("ArrowUp", "ArrowLeft", "ArrowRight", "ArrowDown")
    number = 0
    while time.monotonic() < until:
        key = keys[number % len(keys)]
        page.keyboard.down(key)
        page.wait_for_timeout(1e3 * HOLD[0])
        page.keyboard.up(key)
        page.wait_for_timeout(1e3 * HOLD[1])
        number += 1
    return page.evaluate("window.unistepSeen")


def summary(seen: dict[str, list[float]], model: str) -> dict[str, Any]:
    """The figures of what was seen.

    Raises:
        CommandError: If nothing was.
    """
    frames, keys = seen["frames"], seen["keys"]
    if len(frames) < 2 or not keys:
        raise CommandError("no frame with a mark was seen; is it a world model?")
    gaps = [b - a for a, b in pairwise(frames)]
    return {
        "model": model,
        "frames": len(frames),
        "fps": 1e3 * (len(frames) - 1) / (frames[-1] - frames[0]),
        "fps_p95": 1e3 / quantile(gaps, 0.95),
        "frame_ms": {f"p{100 * share:.0f}": quantile(gaps, share) for share in (0.5, 0.95, 0.99)},
        "keys": len(keys),
        "key_ms": {f"p{100 * share:.0f}": quantile(keys, share) for share in (0.5, 0.95)},
    }


def table(figures: dict[str, Any]) -> str:
    """The figures in words."""
    frame, key = figures["frame_ms"], figures["key_ms"]
    return (
        f"{figures['model']}: {figures['frames']} frames, {figures['fps']:.1f} fps; from one to the next "
        f"{frame['p50']:.1f} ms (p95 {frame['p95']:.1f}, p99 {frame['p99']:.1f})\n"
        f"key to picture: {key['p50']:.0f} ms (p95 {key['p95']:.0f}) over {figures['keys']} keys"
    )
