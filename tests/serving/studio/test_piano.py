"""Piano and drums: what is struck is made, kept, recorded; keys of the computer and of the page."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np

from unistep.provenance import read_file

READY = "document.querySelector('#about-cache').dataset.ready === document.querySelector('#about-cache').dataset.of"
PLAYED = "Number(document.querySelector('#latency-key').dataset.count)"


def ready(tab: Any) -> Any:
    page = tab.open("piano.html")
    page.wait_for_selector("body[data-ready]")
    tab.until(
        "document.querySelector('#about-cache').dataset.ready === document.querySelector('#about-cache').dataset.of"
    )
    return page


def test_notes_and_hits_are_played_and_recorded(tab: Any, server: Any) -> None:
    page = ready(tab)
    made = [body["condition"] for body in server.app.state.requests]
    assert {"instrument": "piano", "pitch": "E4", "velocity": 98} in made
    assert {"label": "kick"} in made
    page.get_by_role("button", name="Record").click()
    page.keyboard.press("d")
    page.keyboard.press("6")
    tab.until(f"{PLAYED} === 2")
    page.get_by_role("button", name="C sharp 5").click()
    tab.until(f"{PLAYED} === 3")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Stop and save").click()
    mark = read_file(Path(saved.value.path())).mark
    assert mark is not None
    assert mark.generated
    assert mark.model == "notes, drums"
    with wave.open(str(saved.value.path())) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
    assert len(samples) >= 16000
    assert np.abs(samples).max() > 5000


def test_a_kept_note_is_not_made_again_unless_asked_for(tab: Any, server: Any) -> None:
    page = ready(tab)
    before = len(server.app.state.requests)
    for count in (1, 2):
        page.keyboard.press("a")
        tab.until(f"{PLAYED} === {count}")
    tab.until(READY)
    again = [body["condition"].get("pitch") for body in server.app.state.requests[before:]]
    assert "C4" not in again
    page.get_by_label("Always make new sounds").check()
    for count in (3, 4):
        page.keyboard.press("a")
        tab.until(f"{PLAYED} === {count}")
    new = server.app.state.requests[-2:]
    assert [body["condition"]["pitch"] for body in new] == ["C4", "C4"]
    assert new[0]["seed"] != new[1]["seed"]


def test_a_note_ends_with_its_key_also_in_another_octave_or_with_control(tab: Any) -> None:
    page = ready(tab)
    page.keyboard.down("a")
    tab.until(f"{PLAYED} === 1")
    page.keyboard.press("x")
    page.keyboard.up("a")
    assert page.locator("#piano .struck").count() == 0
    page.keyboard.down("a")
    page.keyboard.down("Control")
    page.keyboard.up("a")
    page.keyboard.up("Control")
    assert page.locator("#piano .struck").count() == 0


def test_letters_play_also_after_an_instrument_or_a_slider_was_touched(tab: Any) -> None:
    page = ready(tab)
    page.get_by_role("radio", name="organ").check()
    page.keyboard.press("a")
    tab.until(f"{PLAYED} === 1")
    page.get_by_role("slider", name="Volume").focus()
    page.keyboard.press("a")
    tab.until(f"{PLAYED} === 2")
    page.get_by_label("Seed", exact=True).focus()
    page.keyboard.press("1")  # a number is typed, no drum is hit
    page.wait_for_timeout(50)
    assert page.evaluate(PLAYED) == 2


def test_arrows_move_along_the_keys_and_octaves_shift(tab: Any, server: Any) -> None:
    page = ready(tab)
    page.locator("#piano button").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "C sharp 3"
    page.keyboard.press("Space")
    tab.until(f"{PLAYED} === 1")
    page.get_by_role("button", name="Octave up").click()
    page.keyboard.press("a")
    tab.until(f"{PLAYED} === 2")
    tab.until("document.querySelector('#piano .near').getAttribute('aria-label') === 'C5'")
    assert any(body["condition"].get("pitch") == "C5" for body in server.app.state.requests)


MIDI = """() => {
  window.keys = { name: 'Keys' };
  navigator.requestMIDIAccess = async () => ({ inputs: new Map([['1', window.keys]]) });
}"""


def test_a_midi_keyboard_plays_with_its_velocity_and_a_finger_too(tab: Any, server: Any) -> None:
    page = ready(tab)
    page.evaluate(MIDI)
    page.get_by_role("button", name="Connect MIDI").click()
    page.wait_for_selector("#midi:has-text('Keys')")
    page.evaluate("window.keys.onmidimessage({ data: [0x90, 64, 60], timeStamp: performance.now() })")
    tab.until(f"{PLAYED} === 1")
    assert page.locator("#piano .struck").get_attribute("aria-label") == "E4"
    page.evaluate("window.keys.onmidimessage({ data: [0x80, 64, 0], timeStamp: performance.now() })")
    assert page.locator("#piano .struck").count() == 0
    asked = [body["condition"] for body in server.app.state.requests]
    assert {"instrument": "piano", "pitch": "E4", "velocity": 62} in asked
    finger = {"bubbles": True, "button": 0, "buttons": 1, "pointerType": "touch", "pointerId": 1}
    page.locator("#pads button").first.dispatch_event("pointerdown", finger)
    tab.until(f"{PLAYED} === 2")
