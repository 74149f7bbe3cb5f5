"""The Brush: strokes by mouse and keyboard, edits with a mask, undo and redo, before and after, live sketches."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from unistep.provenance import COMPOSITE, TRAINED, read_file

MIDDLE = "[...document.querySelector('#picture').getContext('2d').getImageData(32, 32, 1, 1).data].slice(0, 3)"
CORNER = "[...document.querySelector('#picture').getContext('2d').getImageData(1, 1, 1, 1).data].slice(0, 3)"
IDLE = "document.querySelector('#easel').getAttribute('aria-busy') === 'false'"


def ready(tab: Any, address: str = "brush.html") -> Any:
    page = tab.open(address)
    page.wait_for_selector("body[data-ready]")
    tab.until(IDLE)
    return page


def test_covered_parts_are_made_anew_and_undone(tab: Any, server: Any) -> None:
    page = ready(tab)
    middle, corner = page.evaluate(MIDDLE), page.evaluate(CORNER)
    assert page.get_by_role("button", name="Fill in").is_disabled()
    box = page.locator("#touch").bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"])
    finger = {"pointerId": 77, "clientX": box["x"] + 1, "clientY": box["y"] + 1}  # a second one, which paints nothing
    page.locator("#touch").dispatch_event("pointermove", finger)
    page.mouse.up()
    page.get_by_role("button", name="Fill in").click()
    tab.until(f"{IDLE} && {MIDDLE}.join() !== '{','.join(map(str, middle))}'")
    assert page.evaluate(CORNER) == corner, "what was not covered stays"
    filled = page.evaluate(MIDDLE)
    form = server.app.state.requests[-1]
    assert (form["task"], form["model"]) == ("inpaint", "emoji")
    assert form["mask"] > 0
    page.get_by_label("Before and after").fill("100")
    assert "inset(0px 0%" in page.evaluate("getComputedStyle(document.querySelector('#before')).clipPath")
    page.keyboard.press("Control+z")
    assert page.evaluate(MIDDLE) == middle
    page.get_by_role("button", name="Redo").click()
    assert page.evaluate(MIDDLE) == filled
    assert list(Image.open(saved(page)).convert("RGB").getpixel((32, 32))) == filled


def saved(page: Any) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    return Path(download.value.path())


def opened(page: Any, picture: Image.Image) -> None:
    with io.BytesIO() as file:
        picture.save(file, "PNG")
        page.locator("#file").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": file.getvalue()})


def test_saved_pictures_say_what_a_model_had_a_part_in(tab: Any, server: Any) -> None:
    page = ready(tab)
    corner = page.evaluate(CORNER)
    mark = read_file(saved(page)).mark
    assert mark is not None
    assert (mark.source_type, mark.model, mark.condition) == (TRAINED, "emoji", {"guidance": 2.5})
    page.get_by_role("textbox", name="Text").fill("a red cat")
    page.get_by_role("button", name="New picture").click()
    tab.until(f"{IDLE} && {CORNER}.join() !== '{','.join(map(str, corner))}'")
    assert read_file(saved(page)).mark.condition == {"guidance": 2.5, "text": "a red cat"}
    page.get_by_role("radio", name="Paint").check()
    page.locator("#touch").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    assert read_file(saved(page)).mark.source_type == COMPOSITE
    page.keyboard.press("Control+z")
    assert read_file(saved(page)).mark.source_type == TRAINED
    opened(page, Image.new("RGBA", (32, 32), (255, 0, 0, 0)))
    tab.until(f"{MIDDLE}.join() === '255,255,255'")  # transparent, with nothing of the last picture behind it
    assert read_file(saved(page)).mark is None
    page.get_by_role("button", name="Vary").click()
    tab.until(f"{IDLE} && {MIDDLE}.join() !== '255,255,255'")
    assert read_file(saved(page)).mark.source_type == COMPOSITE
    varied = page.evaluate(MIDDLE)
    page.get_by_role("button", name="Upscale").click()  # what is shown, and not the small picture that was opened
    tab.until(f"{IDLE} && {MIDDLE}.join() !== '{','.join(map(str, varied))}'")
    assert server.app.state.requests[-1]["options"] == '{"factor":4}'


def test_a_picture_that_is_opened_is_not_replaced_by_one_that_comes_later(tab: Any, server: Any) -> None:
    page = ready(tab)
    server.app.state.held = True
    try:
        page.get_by_role("button", name="New picture").click()
        opened(page, Image.new("RGB", (64, 64), (1, 2, 3)))
        tab.until(f"{MIDDLE}.join() === '1,2,3'")
    finally:
        server.app.state.held = None
    page.wait_for_timeout(100)
    assert page.evaluate(MIDDLE) == [1, 2, 3]
    assert page.evaluate(IDLE)


def test_the_easel_has_the_shape_of_the_model_and_asks_for_no_more_steps_than_it_may(
    tab: Any, start_server: Any
) -> None:
    server = start_server(models=("wide",))
    page = tab.open("brush.html", server.address)
    page.wait_for_selector("body[data-ready]")
    tab.until(IDLE)
    box = page.locator("#touch").bounding_box()
    assert abs(box["width"] - 2 * box["height"]) < 2
    page.get_by_role("button", name="Vary").click()
    tab.until("!document.querySelector('#undo').disabled")
    assert server.app.state.requests[-1]["num_inference_steps"] == "2"


def test_after_an_edit_that_is_refused_others_can_be_asked_for(tab: Any, server: Any) -> None:
    page = ready(tab)
    server.app.state.failures.append((400, 0))
    page.get_by_role("button", name="Vary").click()
    page.wait_for_selector("#notice:has-text('Try later.')")
    tab.complaints.clear()  # the browser notes the status
    page.get_by_role("button", name="Colour in").click()
    page.wait_for_selector("#notice", state="hidden")
    tab.until(IDLE)
    assert server.app.state.requests[-1]["task"] == "colorize"
    assert page.get_by_role("button", name="Vary").is_enabled()


def test_what_failed_is_read_also_while_a_sketch_is_followed(tab: Any, server: Any) -> None:
    page = ready(tab)
    page.get_by_label("Sketch live").check()
    tab.until("document.querySelector('#live-picture').dataset.count === '1'")
    server.app.state.failures.append((400, 0))
    page.get_by_role("button", name="Vary").click()
    page.wait_for_selector("#notice:has-text('Try later.')")
    tab.complaints.clear()  # the browser notes the status
    page.locator("#touch").focus()
    page.keyboard.press("Space")
    tab.until("document.querySelector('#live-picture').dataset.count > 1")
    assert page.locator("#notice").is_visible()
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#notice", state="hidden")


def test_the_keyboard_paints_and_every_task_is_sent(tab: Any, server: Any) -> None:
    page = ready(tab)
    page.get_by_role("radio", name="Paint").check()
    page.locator("#touch").focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    assert page.evaluate(MIDDLE) == [0xE0, 0x40, 0x2A]
    for name, task in (("Colour in", "colorize"), ("Upscale", "upscale"), ("Vary", "vary")):
        before = page.evaluate(CORNER)
        page.get_by_role("button", name=name).click()
        tab.until(f"{IDLE} && {CORNER}.join() !== '{','.join(map(str, before))}'")
        assert server.app.state.requests[-1]["task"] == task
    assert server.app.state.requests[-1]["strength"] == "0.5"
    assert server.app.state.requests[-2]["options"] == '{"factor":4}'


def test_a_sketch_is_followed_and_taken_over(tab: Any, server: Any) -> None:
    page = ready(tab)
    page.get_by_role("button", name="Blank").click()
    page.get_by_label("Sketch live").check()
    tab.until("document.querySelector('#live-picture').dataset.count === '1'")
    page.locator("#touch").focus()
    page.keyboard.press("Space")
    tab.until("document.querySelector('#live-picture').dataset.count > 1")
    assert server.app.state.requests[-1]["task"] == "sketch"
    page.get_by_role("button", name="Take it over").click()
    assert page.evaluate(CORNER) != [255, 255, 255]


def test_the_wall_hands_a_picture_to_its_own_tab_alone(tab: Any, second_tab: Any) -> None:
    page = tab.open("wall.html")
    page.fill("#prompt", "handed over")
    page.wait_for_selector("#tiles[aria-busy=false]")
    page.get_by_role("button", name="Open picture 2 in the Brush").click()
    page.wait_for_url("**/brush.html")
    page.wait_for_selector("body[data-ready]")
    from mock_signals import colour

    wanted = list(colour('handed over|{"guidance": 2.5} ground'))
    tab.until(f"{CORNER}.join() === '{','.join(map(str, wanted))}'")
    other = ready(second_tab)
    assert other.evaluate(CORNER) != wanted
