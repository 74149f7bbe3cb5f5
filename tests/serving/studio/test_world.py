"""The World: frames at the model's rate, keys that reach the server and come back in frames, restarts and refusals."""

from __future__ import annotations

from typing import Any

from running_server import until

NUMBERS = """() => {
  const screen = document.querySelector('#screen'), cell = Math.round(screen.width / 128);
  const pixels = screen.getContext('2d');
  const row = (y) => [...Array(10).keys()].map((x) => pixels.getImageData((x + 0.5) * cell, y, 1, 1).data[0] >> 7);
  const rows = [row(screen.height - 1.5 * cell), row(screen.height - 0.5 * cell)];
  return { rows, sequence: Number(screen.dataset.sequence), interaction: Number(screen.dataset.interaction) };
}"""


def held(keys: str) -> dict[str, Any]:
    return {"condition": {"action": keys}}


def started(tab: Any) -> Any:
    page = tab.open("world.html")
    page.get_by_role("button", name="Start", exact=True).click()
    tab.until("document.querySelector('#screen').dataset.drawn > 1")
    return page


def test_keys_change_the_frames_and_each_frame_carries_its_mark(tab: Any, server: Any) -> None:
    page = started(tab)
    page.keyboard.down("ArrowUp")
    page.keyboard.down("KeyA")
    tab.until("document.querySelector('#screen').dataset.interaction === '2'")
    page.keyboard.up("ArrowUp")
    tab.until("document.querySelector('#screen').dataset.interaction === '3'")
    assert server.app.state.interactions[-3:] == [held("gas"), held("left+gas"), held("left")]
    tab.until("Number(document.querySelector('#latency-key').dataset.count) >= 1")
    shown = page.evaluate(NUMBERS)
    for bits, lead, number in zip(
        shown["rows"], ([1, 0], [0, 1]), (shown["sequence"], shown["interaction"]), strict=True
    ):
        assert bits[:2] == lead
        assert int("".join(map(str, bits[2:])), 2) == number % 256
    page.keyboard.up("KeyA")  # the tab is that of other tests, too


def test_a_key_is_let_go_also_while_control_is_held(tab: Any, server: Any) -> None:
    page = started(tab)
    page.keyboard.down("ArrowUp")
    tab.until("document.querySelector('#screen').dataset.interaction === '1'")
    page.keyboard.down("Control")
    page.keyboard.up("ArrowUp")
    tab.until("document.querySelector('#screen').dataset.interaction === '2'")
    assert server.app.state.interactions[-2:] == [held("gas"), held("none")]
    page.keyboard.up("Control")


def test_a_key_that_is_held_over_a_restart_drives_the_new_world(tab: Any, server: Any) -> None:
    page = started(tab)
    page.keyboard.down("ArrowUp")
    tab.until("document.querySelector('#screen').dataset.interaction === '1'")
    before = len(server.app.state.interactions)
    page.get_by_role("button", name="Restart").click()
    until(lambda: len(server.app.state.interactions) > before)
    tab.until("document.querySelector('#screen').dataset.interaction === '1'")
    assert server.app.state.interactions[before:] == [held("gas")]
    page.keyboard.up("ArrowUp")


def test_buttons_hold_keys_too(tab: Any, server: Any) -> None:
    page = started(tab)
    page.get_by_role("button", name="brake").focus()
    page.keyboard.down("Space")
    tab.until("document.querySelector('#screen').dataset.interaction === '1'")
    assert server.app.state.interactions[-1] == held("brake")
    page.keyboard.up("Space")
    tab.until("document.querySelector('#screen').dataset.interaction === '2'")
    assert server.app.state.interactions[-1] == held("none")


def test_restart_stop_and_two_worlds(tab: Any, second_tab: Any) -> None:
    first, second = started(tab), started(second_tab)
    first.get_by_label("Seed", exact=True).fill("7")
    tab.until("document.querySelector('#screen').dataset.seed === '7'")
    tab.until("document.querySelector('#screen').dataset.drawn > 1")
    assert second.get_attribute("#screen", "data-seed") == "0"
    colour = "[...document.querySelector('#screen').getContext('2d').getImageData(99, 9, 1, 1).data].join()"
    assert first.evaluate(colour) != second.evaluate(colour)
    first.get_by_role("button", name="Stop").click()
    first.wait_for_selector("#start:visible")


SLOW = """() => {
  const [decode, draw] = [createImageBitmap, CanvasRenderingContext2D.prototype.drawImage];
  const held = new Promise((resolve) => (window.release = resolve));
  Object.assign(window, { old: 0, drawnOld: 0, isOld: new Set() });
  window.createImageBitmap = async (blob) => {
    const bitmap = await decode(blob);
    window.isOld.add(bitmap);
    window.old += 1;
    window.createImageBitmap = decode;
    await held;
    return bitmap;
  };
  CanvasRenderingContext2D.prototype.drawImage = function (image, ...place) {
    if (window.isOld.has(image)) window.drawnOld += 1;
    return draw.call(this, image, ...place);
  };
}"""


RESTART = """() => {
  const seed = document.querySelector('input.seed');
  seed.value = '7';
  seed.dispatchEvent(new Event('input'));
  window.release();
}"""


def test_a_frame_of_the_world_before_is_not_drawn_over_the_new_one(tab: Any) -> None:
    page = started(tab)
    page.evaluate(SLOW)
    tab.until("window.old === 1")
    page.evaluate(RESTART)
    tab.until("document.querySelector('#screen').dataset.seed === '7'")
    tab.until("document.querySelector('#screen').dataset.drawn > 1")
    assert page.evaluate("window.drawnOld") == 0


LATER = """() => {
  const now = performance.now.bind(performance);
  performance.now = () => now() + 61_000;
}"""


def test_who_looks_on_without_a_key_is_not_taken_for_gone(tab: Any) -> None:
    sent: list[str] = []
    tab.page.once("websocket", lambda socket: socket.on("framesent", lambda text: sent.append(str(text))))
    page = started(tab)
    assert not any("session.ping" in text for text in sent)
    page.evaluate(LATER)
    until(lambda: page.wait_for_timeout(20) or any("session.ping" in text for text in sent))


def test_a_full_server_is_tried_again(tab: Any, server: Any) -> None:
    page = tab.open("world.html")
    page.wait_for_selector("body[data-ready]")
    server.app.state.failures.append((1013, 0))
    page.get_by_role("button", name="Start", exact=True).press("Enter")
    page.wait_for_selector("#notice:has-text('All places are taken')")
    page.get_by_role("button", name="Try now").click()
    tab.until("document.querySelector('#screen').dataset.drawn > 1")
    assert page.locator("#notice").is_hidden()
