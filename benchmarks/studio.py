"""How fast the studio's pages answer, from a key to what is seen and heard, on a server that runs.

    unistep serve emoji notes racing phrases --port 8000
    python benchmarks/studio.py http://127.0.0.1:8000 [--keys 60] [--every 150] [--json FILE]

A Chromium without a window (``--disable-gpu``) presses keys, and reads from the pages what they measured themselves:

- wall: from a key in the text to the first picture, which is decoded, drawn, and past the frame that shows it; with one
  picture and with six. What a newer key overtook is not counted;
- piano: from a key to the start of its sound in the audio graph, where sounds that were made before are used again and
  where each is made anew. What the device adds is a figure of its own;
- world: from a key to the frame that shows it, painted, and from one frame to the next.

Nothing else should run; the load of the machine is printed beside the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required")
TEXT = "a smiling cat with heart-eyes on a red bicycle in the rain "
NOTES = "adgkfjshawetyu"


def figures(page: Any, name: str) -> dict[str, float]:
    """What a page measured."""
    found = page.locator(f"#{name}").evaluate("element => ({ ...element.dataset })")
    return {key: float(found[key]) for key in ("p50", "p95", "count") if found.get(key)}


def wall(page: Any, keys: int, every: int) -> dict[str, dict[str, float]]:
    """Typing, with one picture and with six."""
    found = {}
    for number in (1, 6):
        page.get_by_role("slider", name="Pictures").fill(str(number))
        page.fill("#prompt", "")
        page.wait_for_timeout(1000)
        page.reload()  # so that nothing but the typing is in the figures, except what the page begins with
        page.wait_for_selector("#tiles[aria-busy=false]")
        text = (TEXT * keys)[:keys]
        page.locator("#prompt").press_sequentially(text, delay=every)
        page.wait_for_timeout(2000)
        found[f"wall, {number} at a time"] = figures(page, "latency-first")
    return found


def piano(page: Any, keys: int, every: int) -> dict[str, dict[str, float]]:
    """Playing, with kept notes and with new ones."""
    found = {}
    for name, new in (("piano, kept notes", False), ("piano, new notes", True)):
        page.reload()
        page.wait_for_selector("body[data-ready]")
        page.get_by_label("Always make new sounds").set_checked(new)
        for _ in range(600):
            about = page.locator("#about-cache").evaluate("element => ({ ...element.dataset })")
            if new or about.get("ready") == about.get("of"):
                break
            page.wait_for_timeout(100)
        for number in range(keys):
            page.keyboard.press(NOTES[number % len(NOTES)])
            page.wait_for_timeout(every)
        found[name] = figures(page, "latency-key")
    found["piano, the device adds"] = {"p50": float(page.inner_text("#latency-device").split()[0])}
    return found


def world(page: Any, keys: int, every: int) -> dict[str, dict[str, float]]:
    """Driving."""
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_timeout(3000)
    for number in range(keys):
        key = ("ArrowUp", "ArrowLeft", "ArrowUp", "ArrowRight")[number % 4]
        page.keyboard.down(key)
        page.wait_for_timeout(every + 7 * (number % 9))
        page.keyboard.up(key)
        page.wait_for_timeout(every)
    return {
        "world, key to frame": figures(page, "latency-key"),
        "world, between frames": figures(page, "latency-frame"),
    }


def main() -> None:
    """Measure all pages that the server has models for, and print a table."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="of the server, without a path")
    parser.add_argument("--keys", type=int, default=60, help="keys on each page")
    parser.add_argument("--every", type=int, default=150, help="milliseconds between them")
    parser.add_argument("--browser", default="/usr/bin/chromium", help="a Chromium")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.browser, args=list(ARGUMENTS))
        for name, measure in (("wall", wall), ("piano", piano), ("world", world)):
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            page.goto(f"{options.address}/studio/{name}.html")
            page.wait_for_selector("body[data-ready]")
            if page.locator("#notice").is_hidden():
                found |= measure(page, options.keys, options.every)
            page.close()
        browser.close()
    load = os.getloadavg()[0]
    print(f"{'':24} {'p50':>7} {'p95':>7}   of")
    for name, row in found.items():
        print(f"{name:24} {row.get('p50', 0):7.1f} {row.get('p95', 0):7.1f}   {row.get('count', 1):.0f}")
    print(f"milliseconds; load {load:.1f} of {os.cpu_count()} cores; {time.strftime('%Y-%m-%d')}")
    if options.json:
        options.json.write_text(json.dumps({"load": load, "cores": os.cpu_count(), "milliseconds": found}, indent=1))


if __name__ == "__main__":
    main()
