"""``unistep demo``: what Unistep can do, in minutes, on this computer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unistep.commands.outputs import check_folder
from unistep.commands.parse import parse

INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Sample the shipped one-step model and its teacher, train a student for two minutes, and tell it on one page."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("unistep-demo")
    """Folder for the page, the pictures and the trained model; what an earlier demo left there is replaced."""
    seconds: float = 120
    """Time for training, in seconds; everything else takes about a minute."""
    seed: int = 0
    """Seed of the first sample and of the training."""
    open: bool = False
    """Open the page in a browser at the end."""


def run(arguments: Sequence[str]) -> int:
    """Run the demo; the exit code is 130 where it was interrupted."""
    words = [word for word in arguments if word != "--no-open"]  # the default, spelled out
    options = parse(DemoOptions, "demo", words)
    check_folder(options.out)
    from rich.console import Console

    from unistep.demo.run import DemoConfig, run_demo

    console = Console()
    page = run_demo(DemoConfig(out=options.out, seconds=options.seconds, seed=options.seed), console)
    if page is None:
        console.print(f"interrupted: no page was made; start again with unistep demo --out {options.out}", markup=False)
        return INTERRUPTED
    if options.open:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())
    return 0
