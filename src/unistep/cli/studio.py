"""``unistep studio``: the server of ``unistep serve``, and a browser that opens its pages."""

from __future__ import annotations

import threading
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from unistep.cli.extras import require
from unistep.cli.parse import parse
from unistep.cli.serve import ServeOptions, check, listen, settings_of


@dataclass(frozen=True, kw_only=True)
class StudioOptions(ServeOptions):
    """Open pages on which people use models: pictures from words, a brush, a piano, a world, a stream of sound."""

    open: Annotated[bool, tyro.conf.arg(name="browser")] = True
    """Open a browser; without, only say where the pages are."""


def run(arguments: Sequence[str]) -> int:
    """Serve, and open the pages."""
    options = parse(StudioOptions, "studio", arguments)
    check(options)
    if options.ray:
        raise ValueError("unistep studio is for this machine; unistep serve --ray serves on others")
    require("serve", "the studio")
    return listen(options, settings_of(options), begun=_open if options.open else None)


def _open(address: str) -> None:
    """Open a browser a moment later, when the server answers."""

    def wait_and_open() -> None:
        time.sleep(0.5)
        webbrowser.open(address)

    threading.Thread(target=wait_and_open, daemon=True).start()
