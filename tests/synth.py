"""A stand-in for FluidSynth that plays sines, so that rendering is tested where it is not installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from synth_player import play
from unistep.data.sources import soundfont

SYNTH = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from synth_player import play
play(sys.argv[1:])
"""


def install_synth(folder: Path, monkeypatch: pytest.MonkeyPatch, *, process: bool = False) -> soundfont.Font:
    """Put ``fluidsynth`` first in the path and give the default font's place to an empty file.

    Args:
        folder: Where both are written.
        monkeypatch: Takes them back.
        process: Whether rendering starts the program, as it does outside tests; else it is a call in this process,
            which takes a hundredth of the time.
    """
    programs = folder / "bin"
    programs.mkdir()
    (programs / "fluidsynth").write_text(SYNTH)
    (programs / "fluidsynth").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    (folder / "tiny.sf2").write_bytes(b"RIFF")
    font = replace(soundfont.FONTS["fluid"], path=folder / "tiny.sf2", gain=2.0)
    monkeypatch.setitem(soundfont.FONTS, "fluid", font)
    if not process:
        monkeypatch.setattr(soundfont, "subprocess", SimpleNamespace(run=_run))
    return font


def _run(command, **_: object) -> subprocess.CompletedProcess:
    assert command[0] == "fluidsynth"
    play([str(argument) for argument in command[1:]])
    return subprocess.CompletedProcess(command, 0, "", "")
