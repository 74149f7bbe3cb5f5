"""The Stream: chunks follow each other without gaps, notes and instruments change while it plays, it is recorded."""

from __future__ import annotations

import wave
from typing import Any

CHUNKS = "Number(document.querySelector('#schedule').dataset.chunks ?? 0)"


def test_it_plays_changes_and_is_recorded(tab: Any, server: Any) -> None:
    page = tab.open("stream.html")
    page.get_by_role("radio", name="harp").check()
    page.get_by_role("button", name="Record").press("Enter")
    page.get_by_role("button", name="Play").press("Enter")
    tab.until(f"{CHUNKS} >= 2")
    page.get_by_role("button", name="E4").press("Space")
    tab.until("document.querySelector('#schedule').dataset.label === 'E4 harp'")
    assert {"condition": {"instrument": "harp", "pitch": "E4"}} in server.app.state.interactions
    assert {"condition": {"instrument": "harp", "pitch": None}} in server.app.state.interactions
    with page.expect_download() as saved:
        page.get_by_role("button", name="Stop and save").click()
    with wave.open(str(saved.value.path())) as file:
        assert file.getframerate() == 16000
        assert file.getnframes() >= 2 * 8192
    page.get_by_role("button", name="Stop", exact=True).click()
    assert page.get_by_role("button", name="Play").is_enabled()


SCHEDULE = """async () => {
  const { Player } = await import('../studio/lib/player.js');
  const { setRate, audio } = await import('../studio/lib/audio.js');
  setRate(16000);
  const player = new Player(), samples = new Float32Array(8192);
  const chunks = [0, 1, 2].map((index) => player.add(samples, 16000, { index }));
  player.next = audio().currentTime - 1;
  const late = player.add(samples, 16000, {});
  const dues = chunks.map(({ due }) => due);
  const result = { dues, gaps: player.gaps, late: late.due > audio().currentTime, rate: audio().sampleRate };
  player.stop();
  return result;
}"""


def test_chunks_follow_sample_by_sample_and_gaps_are_counted(tab: Any) -> None:
    found = tab.open("index.html").evaluate(SCHEDULE)
    first, second, third = found["dues"]
    assert second - first == third - second == 8192 / 16000
    assert (found["gaps"], found["late"], found["rate"]) == (1, True, 16000)


RECORDED = """async () => {
  const { Recorder } = await import('../studio/lib/record.js');
  const recorder = new Recorder(), chunk = new Float32Array(100).fill(1);
  recorder.add(chunk, 100, 0);
  recorder.add(chunk, 100, 1);
  recorder.start(0.5);
  recorder.add(chunk, 100, 2);
  recorder.cut(1.5);
  const file = new Int16Array((await recorder.finish(2.5).arrayBuffer()).slice(44));
  recorder.start(2.5);
  return { heard: [...file].map((value) => value > 30000), after: recorder.finish(3) };
}"""


def test_a_recording_has_what_was_heard_and_nothing_else(tab: Any) -> None:
    """Chunks that came before it began, as far as they sounded in it; of those after a stop none."""
    found = tab.open("index.html").evaluate(RECORDED)
    assert found["heard"] == [index <= 100 for index in range(200)]
    assert found["after"] is None


def test_a_stream_that_was_lost_and_stopped_is_not_begun_by_its_notice(tab: Any, server: Any) -> None:
    page = tab.open("stream.html")
    page.wait_for_selector("body[data-ready]")
    server.app.state.failures.append((503, 0))
    page.get_by_role("button", name="Play").click()
    page.wait_for_selector("#notice:has-text('All places are taken.')")
    page.get_by_role("button", name="Stop", exact=True).click()
    assert page.get_by_role("button", name="Try now").count() == 0


def test_of_two_channels_the_first_is_played(tab: Any) -> None:
    """Not both of them one after the other, an octave too low."""
    found = tab.open("index.html").evaluate(
        """async () => {
          const { floats } = await import('../studio/lib/pcm.js');
          const samples = Int16Array.of(16384, 1, -16384, 2, 8192, 3);
          return [2, 1].map((channels) => [...floats(samples.buffer, channels)]);
        }"""
    )
    assert found[0] == [0.5, -0.5, 0.25]
    assert len(found[1]) == 6
