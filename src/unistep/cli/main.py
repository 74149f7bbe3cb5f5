"""The command ``unistep``: finds the verb, and turns every mistake into one line.

Nothing heavy is imported before the verb is known, so that ``unistep --help`` appears at once.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from unistep import __version__
from unistep.cli.errors import INTERRUPTED, CommandError
from unistep.cli.extras import extra_of
from unistep.files import DiskError
from unistep.spelling import nearest

VERBS = {
    "demo": "see what Unistep can do, in minutes, on this computer",
    "sample": "draw samples from a model",
    "edit": "fill in, colour, sharpen, clean or vary what is there, without training",
    "stream": "generate audio or video continuously, to a pipe or a file",
    "play": "play a world model, in real time",
    "serve": "serve models over HTTP, with pages to use them",
    "studio": "open pages on which people use models",
    "bench": "measure how live models are on this machine, as a browser sees it",
    "augment": "make synthetic items of your classes, and measure whether they help",
    "train": "train a model by a recipe, on known data or on yours",
    "evaluate": "compare a model with real data",
    "verify": "tell whether a file says that a model made it",
    "export": "write a model as a file for programs without Python",
    "convert": "write a model as a folder of its own, a LoRA merged into its base",
    "models": "list the models that ship with Unistep",
    "recipes": "list the recipes for training",
    "info": "show this installation, or one model",
}
"""What each verb does; each is a module of :mod:`unistep.cli` with a function ``run(arguments) -> exit code``."""

DEBUG = "UNISTEP_DEBUG"
"""Set it to see the traceback behind an error line."""

_NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""What PyTorch says on a CPU, in an error of no kind of its own."""

BROKEN_PIPE = 141
"""Exit code where the reader of the output left before all of it was written; 0 where it left later."""


def overview() -> str:
    """The text of ``unistep --help``."""
    verbs = "\n".join(f"  {name:<10}{what}" for name, what in VERBS.items())
    return f"""usage: unistep VERB [options]

From noise to data in one step: train, try and evaluate one-step generative models.

{verbs}

  unistep demo                                      # start here
  unistep sample fashion -n 64 --seed 0 -o out.png
  unistep train ect --data folder:my_pictures --budget 30m
  unistep VERB --help                               # the options of a verb

MODEL is a name from `unistep models`, a folder, or owner/name on the Hugging Face hub.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: The words after ``unistep``; those of this process without.

    Returns:
        The exit code: 0 for success, 1 where the work failed, 2 for a mistake in the command, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    usual = warnings.formatwarning
    warnings.formatwarning = _in_one_line(usual)
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows each line as it is printed
    try:
        _check_words(arguments)
        code = _dispatch(arguments)
        print(end="", flush=True)  # unlike a flush of its own, no error where it is closed, as by >&-
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _discard_unread()
        return BROKEN_PIPE
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        line, code = describe(error)
        if line is None:
            raise
        try:
            print(f"unistep: error: {line}", file=sys.stderr, flush=True)
        except BrokenPipeError:
            _discard_unread()
        return code
    finally:
        warnings.formatwarning = usual


def _in_one_line(usual: Callable[..., str]) -> Callable[..., str]:
    """What writes warnings: those of Unistep as it writes errors, without a line of code, and others as usual."""

    def written(message: Warning | str, category: type[Warning], filename: str, *where: Any, **more: Any) -> str:
        ours = category is UserWarning and filename.startswith(os.path.dirname(os.path.dirname(__file__)))
        if not ours:
            return usual(message, category, filename, *where, **more)
        return f"unistep: warning: {' '.join(str(message).split())}\n"

    return written


def _discard_unread() -> None:
    """Send what nobody reads any more nowhere, so that the interpreter can end without an error of its own."""
    with open(os.devnull, "wb") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            try:
                print(end="", file=stream, flush=True)
            except BrokenPipeError:
                os.dup2(nowhere.fileno(), stream.fileno())


def _check_words(arguments: list[str]) -> None:
    """Refuse words that no option, model or file can be."""
    for before, word in zip(["", *arguments], arguments, strict=False):
        name, _, value = word.rpartition("=") if word.startswith("--") and "=" in word else (before, "", word)
        if not value.strip():
            raise ValueError(f"the value of {name or 'an option'} is empty; leave it out or give one")
        if "\0" in word:
            raise ValueError(f"the value of {name or 'an option'} has a NUL character, got {word[:40]!r}")


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview(), end="")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb in ("--version", "-V"):
        print(f"unistep {__version__}")
        return 0
    if verb not in VERBS:
        what = "option" if verb.startswith("-") else "verb"
        raise ValueError(f"there is no {what} {verb!r}; {nearest(verb, VERBS)}, --help")
    return importlib.import_module(f"unistep.cli.{verb}").run(rest)


def describe(error: Exception) -> tuple[str | None, int]:
    """One line about an error and the exit code, or no line where it is no mistake of the person's but ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, CommandError | DiskError):
        return text, 1
    if isinstance(error, ValueError):
        return text, 2
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        extra = extra_of(package)
        return (f"this needs the package {package}: pip install 'unistep[{extra}]'" if extra else None), 2
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or text}", 1
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _NO_MEMORY in text:
        return "there is not enough memory; where the command has a --batch-size, use a smaller one", 1
    return None, 1
