"""What holds for every page: it loads cleanly, its controls have names, it fits a phone, no key is trapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

STUDIO = Path(__file__).parents[3] / "src" / "unistep" / "serving" / "studio"
PAGES = sorted(page.name for page in STUDIO.glob("*.html"))

NAMELESS = """() => {
  const name = (each) => each.getAttribute('aria-label') || each.innerText?.trim()
    || each.labels?.[0]?.innerText?.trim() || each.querySelector('img[alt]')?.alt
    || document.getElementById(each.getAttribute('aria-labelledby') ?? '')?.innerText;
  return [...document.querySelectorAll('a, button, input, select, textarea, [tabindex="0"], [role=application]')]
    .filter((each) => each.checkVisibility() && !name(each)).map((each) => each.outerHTML);
}"""
NOTED = """() => {
  const seen = window.focused = [];
  document.addEventListener('focusin', ({ target }) => seen.push(target.innerText?.trim() || target.id));
}"""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_clean_named_and_free_of_traps(tabs: Any, name: str) -> None:
    tab = tabs.get("phone", viewport={"width": 360, "height": 740}, color_scheme="dark", reduced_motion="reduce")
    page = tab.open(name)
    page.wait_for_selector("body[data-ready]")
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("h1").count() == 1
    page.evaluate(NOTED)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("[window.focused[0], document.activeElement.id]") == ["Skip to the page", "main"]
    # Whoever keeps pressing Tab comes past the end of the page and to its beginning again.
    for _ in range(6):
        for _ in range(12):
            page.keyboard.press("Tab")
        if "Skip to the page" in page.evaluate("window.focused.slice(1)"):
            break
    seen = page.evaluate("window.focused.slice(1)")
    assert "Skip to the page" in seen, f"the keyboard does not get past {seen[-1]}"
    assert len(seen) > 2


def test_the_theme_is_chosen_and_kept(tab: Any) -> None:
    page = tab.open("wall.html")
    ground = (
        "getComputedStyle(document.body).backgroundColor, getComputedStyle(document.documentElement).backgroundColor"
    )
    light = page.evaluate(ground)
    page.select_option("#theme", "dark")
    dark = page.evaluate(ground)
    assert dark != light
    page = tab.open("index.html")
    assert page.evaluate(ground) == dark


NAMESPACES = (
    "http://www.w3.org/2000/svg",
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "http://cv.iptc.org/newscodes/digitalsourcetype/",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "http://ns.adobe.com/xap/1.0/",
)
"""Names in the form of addresses, from which nothing is fetched."""


@pytest.mark.parametrize("path", sorted(STUDIO.rglob("*.*")), ids=lambda path: path.name)
def test_nothing_is_inline_or_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    outside = text
    for name in NAMESPACES:
        outside = outside.replace(name, "")
    assert "http://" not in outside
    assert "https://" not in outside
    if path.suffix == ".html":
        assert " style=" not in text
        assert "<style" not in text
        assert all("src=" in tag for tag in text.split("<script")[1:])
