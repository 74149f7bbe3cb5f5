"""The Walk: a slider between two seeds, a loop, and its GIF, which others can read."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from mock_signals import colour, picture
from PIL import Image

from unistep.provenance import read_file


def test_the_way_is_walked_played_and_saved(tab: Any, server: Any) -> None:
    page = tab.open("walk.html?model=emoji")
    tab.until("document.querySelector('#picture').dataset.share === '0.5'")
    page.get_by_role("slider", name="Way").fill("0.25")
    tab.until("document.querySelector('#picture').dataset.share === '0.25'")
    asked = [body for body in server.app.state.requests if "toward" in body]
    assert asked[-1]["seed"] == 1
    assert {"seed": 2, "share": 0.25} in [body["toward"] for body in asked]
    page.get_by_role("slider", name="Pictures of the loop").fill("4")
    page.get_by_role("button", name="Play").press("Enter")
    tab.until("document.querySelector('#picture').dataset.frame > 3")
    page.get_by_role("button", name="Pause").press("Space")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as GIF").click()
    assert saved.value.suggested_filename == "emoji-1-to-2.gif"
    mark = read_file(Path(saved.value.path())).mark
    assert mark is not None
    assert mark.generated
    assert (mark.model, mark.seed) == ("emoji", "1, 2")
    with Image.open(saved.value.path()) as file:
        assert (file.n_frames, file.size) == (6, (256, 256))
        assert file.info["loop"] == 0
        assert file.info["duration"] == 80
        # Frame 3 is the other end: pictures of few colours come back nearly as they were.
        file.seek(3)
        seen = np.asarray(file.convert("RGB").resize((64, 64), Image.Resampling.NEAREST)).astype(int)
    text = '|{"guidance": 2.5}'
    with Image.open(io.BytesIO(picture(text, 1, 64, toward=(2, 1.0)))) as file:
        wanted = np.asarray(file.convert("RGB")).astype(int)
    assert np.abs(seen - wanted).max() <= 8
    assert tuple(wanted[1, 1]) == colour(text + " ground")


def test_a_loop_that_is_on_its_way_is_not_played_once_another_length_is_wanted(tab: Any, server: Any) -> None:
    page = tab.open("walk.html?model=emoji")
    tab.until("document.querySelector('#picture').dataset.share === '0.5'")
    page.wait_for_selector("body[data-ready]")
    page.get_by_role("slider", name="Pictures of the loop").fill("5")
    server.app.state.held = True
    try:
        page.get_by_role("button", name="Play").click()
        page.get_by_role("slider", name="Pictures of the loop").fill("4")
    finally:
        server.app.state.held = None
    page.wait_for_timeout(200)
    assert page.get_by_role("button", name="Play").get_attribute("aria-pressed") == "false"


def test_a_loop_is_whole_also_after_a_part_of_it_failed(tab: Any, server: Any) -> None:
    page = tab.open("walk.html?model=emoji")
    tab.until("document.querySelector('#picture').dataset.share === '0.5'")
    page.wait_for_selector("body[data-ready]")
    page.wait_for_timeout(100)
    page.get_by_role("slider", name="Pictures of the loop").fill("6")
    server.app.state.held = True
    try:
        server.app.state.failures.append((400, 0))
        page.get_by_role("button", name="Play").click()
        page.wait_for_selector("#notice:has-text('Try later.')")
        tab.complaints.clear()  # the browser notes the status
        page.get_by_role("button", name="Try again").click()
    finally:
        server.app.state.held = None
    tab.until("document.querySelector('#picture').dataset.frame > 10")
    assert page.locator("#loop").text_content() == "6 of 6"


CODED = """async () => {
  const { gif } = await import('../studio/lib/gif.js');
  const { dataUrl } = await import('../studio/lib/state.js');
  const image = new ImageData(150, 130);
  let state = 7;
  for (let at = 0; at < image.data.length; at += 4) {
    state = (75 * state + 74) % 65537;
    image.data.set([state & 224, (state >> 8) & 192, 128, 255], at);
  }
  return dataUrl(gif([image]));
}"""


def test_noise_that_fills_the_code_table_survives(tab: Any) -> None:
    coded = tab.open("index.html").evaluate(CODED)
    with Image.open(io.BytesIO(base64.b64decode(coded.split(",")[1]))) as file:
        seen = np.asarray(file.convert("RGB")).astype(int)
    states = [7]
    for _ in range(150 * 130):
        states.append((75 * states[-1] + 74) % 65537)
    wanted = [(state & 224, (state >> 8) & 192, 128) for state in states[1:]]
    assert len(set(wanted)) == 32  # fewer than a palette has, so that each has a place of its own
    assert np.abs(seen - np.reshape(wanted, (130, 150, 3))).max() <= 1
