"""The Wall: pictures of what was typed last, kept and handed over."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

# The first canvas shows the mock's picture of a text, whose ground has a colour of its own.
GROUND = "[...document.querySelector('#tiles canvas').getContext('2d').getImageData(1, 1, 1, 1).data].join()"


def ground(text: str) -> list[int]:
    from mock_signals import colour

    return list(colour(f'{text}|{{"guidance": 2.5}} ground'))


def wait_for_ground(tab: Any, text: str) -> None:
    tab.until(f"{GROUND} === '{','.join(map(str, [*ground(text), 255]))}'")


def test_the_newest_text_wins(tab: Any, server: Any) -> None:
    page = tab.open("wall.html")
    page.locator("#prompt").press_sequentially("a fox")
    wait_for_ground(tab, "a fox")
    page.wait_for_selector("#tiles[aria-busy=false]")
    assert page.locator("#tiles figure").count() == 6
    tab.until("Number(document.querySelector('#latency-all').dataset.count) >= 1")
    assert server.app.state.requests[-1]["prompt"] == "a fox"
    assert {"model", "prompt", "seed", "n"} <= set(server.app.state.requests[-1])


def test_a_picture_is_kept_saved_and_sent_to_the_brush(tab: Any) -> None:
    page = tab.open("wall.html")
    page.fill("#prompt", "a cat")
    wait_for_ground(tab, "a cat")
    page.wait_for_selector("#tiles[aria-busy=false]")
    page.get_by_role("button", name="Keep picture 1: a cat, seed 0").press("Enter")
    page.wait_for_selector("#shelf li")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save picture 2").click()
    assert saved.value.suggested_filename == "emoji-a-cat-1.png"
    with open(saved.value.path(), "rb") as file:
        assert Image.open(io.BytesIO(file.read())).size == (64, 64)
    page.reload()
    page.wait_for_selector("#shelf li")
    page.get_by_role("button", name="Remove a cat").click()
    assert page.locator("#shelf").is_hidden()


def test_classes_and_steps_are_sent(tab: Any, server: Any) -> None:
    page = tab.open("wall.html?model=fashion")
    page.get_by_role("radio", name="Bag").check()
    page.get_by_label("Steps").fill("2")
    page.wait_for_selector("#tiles[aria-busy=false]")
    page.get_by_role("slider", name="Pictures").fill("1")
    tab.until("document.querySelectorAll('#tiles figure').length === 1")
    page.wait_for_selector("#tiles[aria-busy=false]")
    last = server.app.state.requests[-1]
    assert last["condition"] == {"label": "Bag"}
    assert last["num_inference_steps"] == 2


def test_two_tabs_have_pictures_of_their_own(tab: Any, second_tab: Any) -> None:
    first, second = tab, second_tab
    one, two = first.open("wall.html"), second.open("wall.html")
    for text in ("red", "red fox"):
        one.fill("#prompt", text)
        two.fill("#prompt", text[::-1])
    wait_for_ground(first, "red fox")
    wait_for_ground(second, "xof der")
    one.wait_for_selector("#tiles[aria-busy=false]")
    one.click("#tiles button.bare")
    one.wait_for_selector("#shelf li")
    two.reload()
    two.wait_for_selector("#tiles[aria-busy=false]")
    assert two.locator("#shelf").is_hidden()


@pytest.mark.parametrize(("status", "wait", "words"), [(429, 600, "busy"), (503, 1, "")])
def test_a_busy_server_is_tried_again(tab: Any, server: Any, status: int, wait: int, words: str) -> None:
    page = tab.open("wall.html")
    page.wait_for_selector("#tiles[aria-busy=false]")
    server.app.state.failures.append((status, wait))
    page.fill("#prompt", f"again {status}")
    if wait > 1:  # else it is tried again by itself
        page.wait_for_selector(f"#notice:has-text('{words}')")
        page.get_by_role("button", name="Try now").click()
    wait_for_ground(tab, f"again {status}")
    assert not server.app.state.failures
    assert page.locator("#notice").is_hidden()
    assert all("Failed to load resource" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


def test_newer_text_does_not_wait_for_what_failed(tab: Any, server: Any) -> None:
    page = tab.open("wall.html")
    page.wait_for_selector("#tiles[aria-busy=false]")
    server.app.state.failures.append((429, 600))
    page.fill("#prompt", "too early")
    page.wait_for_selector("#notice:has-text('busy')")
    page.fill("#prompt", "newer")
    wait_for_ground(tab, "newer")
    assert page.locator("#notice").is_hidden()
    tab.complaints.clear()


def test_the_key_comes_from_the_address_or_is_asked_for(tab: Any, second_tab: Any, start_server: Any) -> None:
    locked = start_server(key="secret").address
    page = tab.open("wall.html#key=secret", locked)
    page.wait_for_selector("#tiles[aria-busy=false]")
    assert "secret" not in page.url
    page = second_tab.open("wall.html", locked)
    page.get_by_label("Key", exact=True).fill("secret")
    page.get_by_label("Key", exact=True).press("Enter")
    page.wait_for_selector("#tiles[aria-busy=false]")
    assert all("401" in complaint for complaint in second_tab.complaints)
    second_tab.complaints.clear()


def test_a_missing_model_is_named(tab: Any, start_server: Any) -> None:
    page = tab.open("wall.html", start_server(models=("racing",)).address)
    page.wait_for_selector("#notice:has-text('unistep serve emoji')")


def test_a_tab_without_room_says_so_where_it_is_seen(tab: Any) -> None:
    page = tab.open("wall.html")
    page.wait_for_selector("#tiles[aria-busy=false]")
    page.evaluate("void (Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); })")
    page.get_by_role("button", name="Open picture 1 in the Brush").click()
    page.wait_for_selector("#notice:has-text('There is no room for more pictures')")
