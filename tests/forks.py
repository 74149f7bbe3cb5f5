"""Processes that begin with everything imported, from a server that the files of tests share."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["preloaded"])
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


def command(
    words: Sequence[str], environment: Mapping[str, str], folder: str, out: Connection | Path, err: Connection | None
) -> None:
    """What a process does that runs the command line: what it says goes into a pipe or a file."""
    import torch

    from unistep.cli.main import main

    torch.set_num_threads(1)
    # A shell's background job, such as these tests may be, ignores SIGINT, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if isinstance(out, Path) else out.fileno(), 1)
    if isinstance(out, Connection):
        out.close()
    if err is not None:
        os.dup2(err.fileno(), 2)
        err.close()
    code = main(words)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


class Command:
    """``unistep`` with these words in a process of its own, like a ``subprocess.Popen`` with two pipes."""

    def __init__(self, words: Sequence[str]) -> None:
        """Start it in the present folder."""
        (out, theirs_out), (err, theirs_err) = FORKS.Pipe(duplex=False), FORKS.Pipe(duplex=False)
        kept = {name: os.environ[name] for name in ("UNISTEP_CACHE", "COLUMNS") if name in os.environ}
        self.process = process(command, words, kept, os.getcwd(), theirs_out, theirs_err)
        self.process.start()
        for end in (theirs_out, theirs_err):
            end.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(end.fileno()), "rb", 0) for end in (out, err))
        for end in (out, err):
            end.close()

    @property
    def returncode(self) -> int | None:
        """How it ended, ``None`` while it runs."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, timeout: float) -> int | None:
        """How it ended."""
        self.process.join(timeout)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[bytes, bytes]:
        """All that it says; of what goes to stderr a few lines at most."""
        with self.stdout, self.stderr:
            out, err = self.stdout.read(), self.stderr.read()
        self.wait(timeout)
        return out, err
