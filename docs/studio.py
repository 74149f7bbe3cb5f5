"""Draw `docs/images/studio/`, the studio's pages: `python docs/studio.py http://127.0.0.1:8000`.

A server must run there, as by `unistep serve emoji notes drums racing phrases`. Pages are shown as they answer, with
seeds from 0, none selected. With a folder of `unistep export emoji racing --to web` in place of the address, those
pages are shown, as `offline.webp`.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from unistep.cli.bench_page import folder_served, isolated

BROWSER = "/usr/bin/chromium"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required")
IMAGES = Path(__file__).parent / "images" / "studio"
CAT = "a smiling cat with heart-eyes"
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 760}


def wall(page: Any) -> None:
    page.fill("#prompt", CAT)
    page.wait_for_selector("#tiles[aria-busy=false]")


def brush(page: Any) -> None:
    page.get_by_label("Text").fill(CAT)
    page.get_by_role("button", name="New picture").click()
    page.wait_for_selector("#easel[aria-busy=false]")
    page.wait_for_timeout(500)
    box = page.locator("#touch").bounding_box()
    for number, share in enumerate((0.3, 0.7, 0.3, 0.7)):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + (0.5 + 0.06 * number) * box["height"], steps=4)
        page.mouse.down()
    page.mouse.up()


def walk(page: Any) -> None:
    page.get_by_label("Text").fill(CAT)
    page.wait_for_timeout(3000)


def piano(page: Any) -> None:
    page.wait_for_selector("#about-cache")
    page.wait_for_timeout(6000)
    for key in "adgdg":
        page.keyboard.press(key)
        page.wait_for_timeout(200)
    for key in "adg":
        page.keyboard.down(key)
    page.keyboard.down("6")
    page.wait_for_timeout(500)


def world(page: Any) -> None:
    page.get_by_role("button", name="Start", exact=True).click()
    for key, seconds in (("ArrowUp", 2), ("ArrowRight", 0.4), ("ArrowUp", 1)):
        page.keyboard.down(key)
        page.wait_for_timeout(1000 * seconds)
        page.keyboard.up(key)


def stream(page: Any) -> None:
    page.get_by_role("radio", name="harp").check()
    for name in ("C4", "E4", "G4", "C5"):
        page.get_by_role("button", name=name, exact=True).click()
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(6000)


SHOWN = (
    ("wall", wall, WIDE, "light"),
    ("brush", brush, WIDE, "light"),
    ("walk", walk, WIDE, "light"),
    ("piano", piano, WIDE, "dark"),
    ("world", world, WIDE, "dark"),
    ("stream", stream, WIDE, "dark"),
)
PHONES = (("wall", wall, "light"), ("piano", piano, "dark"), ("world", world, "light"), ("stream", stream, "dark"))


def offline(folder: Path) -> None:
    """Show two pages that need no server, one below the other, down to the line that says what runs the models."""
    from playwright.sync_api import sync_playwright

    with folder_served(folder) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(ARGUMENTS))
        pictures = []
        for name, act, scheme in (("wall", wall, "light"), ("world", world, "dark")):
            page = browser.new_page(viewport={"width": 1180, "height": 640}, color_scheme=scheme)
            isolated(page, f"{address}/{name}.html")
            act(page)
            page.wait_for_function("document.documentElement.dataset.engine && document.querySelector('footer')")
            page.wait_for_timeout(5000)
            pictures.append(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB"))
        browser.close()
    sheet = Image.new("RGB", (pictures[0].width, sum(one.height + 16 for one in pictures) - 16), "white")
    for number, one in enumerate(pictures):
        sheet.paste(one, (0, sum(each.height + 16 for each in pictures[:number])))
    sheet.save(IMAGES / "offline.webp", quality=82)


def main() -> None:
    """Show each page at a desk, and some on a phone."""
    from playwright.sync_api import sync_playwright

    address = sys.argv[1]
    if Path(address).is_dir():
        offline(Path(address))
        return
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(ARGUMENTS))

        def shown(name: str, act: Any, **options: Any) -> Image.Image:
            with browser.new_context(**options) as context:
                page = context.new_page()
                page.goto(f"{address}/studio/{name}.html")
                page.wait_for_selector("body[data-ready]")
                act(page)
                return Image.open(io.BytesIO(page.screenshot())).convert("RGB")

        for name, act, size, scheme in SHOWN:
            shown(name, act, viewport=size, color_scheme=scheme).save(IMAGES / f"{name}.webp", quality=82)
        phone = {"viewport": PHONE, "is_mobile": True, "has_touch": True, "device_scale_factor": 1}
        pictures = [shown(name, act, color_scheme=scheme, **phone) for name, act, scheme in PHONES]
        sheet = Image.new("RGB", (sum(one.width + 16 for one in pictures) - 16, PHONE["height"]), "white")
        for number, one in enumerate(pictures):
            sheet.paste(one, (number * (one.width + 16), 0))
        sheet.save(IMAGES / "phones.webp", quality=82)
        browser.close()


if __name__ == "__main__":
    main()
