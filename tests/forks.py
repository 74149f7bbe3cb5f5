"""Processes that begin with everything imported, from a server that the files of tests share."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["worker", "unistep.cli.main", "unistep.cli.sample", "torch._dynamo", "PIL.PngImagePlugin"]
)
WORKERS = str(Path(__file__).parent / "training")


def process(target: Callable[..., object], *args: Any) -> ForkServerProcess:
    """A process that will call ``target``, with the environment that the server was started in."""
    kept = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join((*sys.path, WORKERS))  # where the server looks for what it imports
    try:
        forkserver.ensure_running()
    finally:
        if kept is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = kept
    return FORKS.Process(target=target, args=args)


def command(words: Sequence[str], out: Path, environment: Mapping[str, str]) -> None:
    """What a process does that runs the command line: what it says goes into a file."""
    import torch

    from unistep.cli.main import main

    torch.set_num_threads(1)
    os.environ.update(environment)
    handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.close(handle)
    sys.exit(main(words))
