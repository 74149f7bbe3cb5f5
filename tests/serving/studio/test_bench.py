"""`unistep bench live`: what its watcher sees on the page of a world, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from unistep.cli.bench import BenchOptions, summary, table, watch
from unistep.cli.errors import CommandError


def test_a_world_is_watched_from_outside(tab: Any, server: Any) -> None:
    seen = watch(tab.page, f"{server.address}/studio/world.html", BenchOptions(what="live", seconds=2.5))
    figures = summary(seen, "racing")
    drawn = int(tab.page.get_attribute("#screen", "data-drawn"))
    assert 5 <= figures["frames"] <= drawn
    assert figures["keys"] >= 1
    assert figures["frame_ms"]["p50"] <= figures["frame_ms"]["p95"]
    tab.page.click("#stop")


def test_figures_are_those_of_what_was_seen() -> None:
    figures = summary({"frames": [0.0, 40.0, 80.0, 160.0], "keys": [30.0, 50.0, 70.0]}, "racing")
    assert figures["fps"] == pytest.approx(18.75)
    assert figures["frame_ms"]["p50"] == 40.0
    assert figures["key_ms"]["p50"] == 50.0
    assert table(figures).splitlines() == [
        "racing: 4 frames, 18.8 fps; from one to the next 40.0 ms (p95 80.0, p99 80.0)",
        "key to picture: 50 ms (p95 70) over 3 keys",
    ]
    with pytest.raises(CommandError, match="no frame with a mark was seen"):
        summary({"frames": [], "keys": []}, "racing")
