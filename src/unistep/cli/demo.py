"""``unistep demo``: what Unistep can do, in minutes, on this computer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from unistep.cli.console import make_console
from unistep.cli.errors import INTERRUPTED
from unistep.cli.extras import require
from unistep.cli.outputs import check_file, check_folder
from unistep.cli.parse import parse

AUDIO, VIDEO = "audio", "video"
"""The words after which the demo is one of sounds or of videos."""


@dataclass(frozen=True, kw_only=True)
class AudioDemoOptions:
    """Play a scale and a beat on a one-step instrument, each note in one network call, into one file."""

    model: str = "notes"
    """The instrument: a name from `unistep models`, the folder of a run or of a model, or owner/name on the hub."""
    drums: str | None = None
    """A one-step model of drums for the beat; the shipped one without."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("unistep-demo.wav")
    """Sound file to write, .wav or .flac; its spectrogram goes beside it, as .png."""
    tempo: float = 112
    """Quarter notes a minute."""
    seed: int = 0
    """Seed of the first note."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class VideoDemoOptions:
    """Let a driver that sees the picture alone drive in a world model; with a model of clips, draw some of them too."""

    world: str = "racing"
    """The world model, of a race track seen from above: a name from `unistep models`, the folder of a run or a model,
    or owner/name on the hub."""
    clips: str | None = None
    """A model of clips, such as one of `unistep train moving-fashion/ect`; without, there are none."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("unistep-demo-video")
    """Folder for drive.mp4, and clips.mp4."""
    seconds: float = 12
    """Length of the drive."""
    seed: int = 0
    """Seed of the first clip and of the drive."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Images of texts, a one-step model beside its teacher, a student trained in two minutes, all on one page.

    unistep demo audio plays a one-step instrument instead, and unistep demo video drives on a race track that a model
    makes; --help after either says how.
    """

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
    if arguments and arguments[0] == AUDIO:
        return _play(parse(AudioDemoOptions, f"demo {AUDIO}", arguments[1:]))
    if arguments and arguments[0] == VIDEO:
        return _film(parse(VideoDemoOptions, f"demo {VIDEO}", arguments[1:]))
    words = [word for word in arguments if word != "--no-open"]  # the default, spelled out
    options = parse(DemoOptions, "demo", words)
    check_folder(options.out)
    from unistep.demo.show import DemoConfig, run_demo

    console = make_console()
    page = run_demo(DemoConfig(out=options.out, seconds=options.seconds, seed=options.seed), console)
    if page is None:
        console.print(f"interrupted: no page was made; start again with unistep demo --out {options.out}", markup=False)
        return INTERRUPTED
    if options.open:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())
    return 0


def _play(options: AudioDemoOptions) -> int:
    """The demo of sounds."""
    if not 20 <= options.tempo <= 400:
        raise ValueError(f"--tempo must be from 20 to 400, got {options.tempo:g}")
    out = check_file(options.out, (".wav", ".flac"))
    require("audio", "unistep demo audio", ("soundfile", "soxr"))
    from unistep.cli.devices import choose_device
    from unistep.core.condition import LabelField
    from unistep.demo.music import KIT, check_instrument, perform, plays_beside, scale_and_beat
    from unistep.evaluation.hardware import hardware
    from unistep.generation.saving import provenance_of
    from unistep.hub.load import load, models
    from unistep.provenance.mark import together

    generator = load(options.model, device=choose_device(options.device))
    audio, _ = check_instrument(generator)
    instruments = generator.config.fields["instrument"]
    assert isinstance(instruments, LabelField)
    kit = options.drums or ("drums" if "drums" in models() else None)
    drums = None if kit is None else load(kit, device=choose_device(options.device))
    if options.drums is None and drums is not None and not plays_beside(drums, audio):
        drums = None  # the shipped ones have one rate
    label = None if drums is None else drums.config.fields.get("label")
    classes = label.names if isinstance(label, LabelField) else ()
    if options.drums is not None and not set(classes) >= KIT:
        raise ValueError(f"--drums takes a model with the classes {', '.join(sorted(KIT))}; {options.drums} does not")
    names = instruments.names or tuple(map(str, instruments.written))
    piece = scale_and_beat(names, classes, tempo=options.tempo)
    performance = perform(generator, piece, drums=drums, seed=options.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    played_by = [generator] if drums is None or not any(note.drum for note in piece) else [generator, drums]
    made_by = together([provenance_of(model) for model in played_by])
    for path in (out, out.with_suffix(".png")):
        generator.save(performance.sound, path, provenance=made_by)
    played = dict.fromkeys(note.instrument for note in piece)
    calls = f"{generator.network_calls()} network call each, on {hardware(generator.device)}"
    print(f"{len(performance.latencies)} notes of {', '.join(played)}, {calls}")
    usual, slow = (1e3 * performance.latency(share) for share in (0.5, 0.95))
    factor = performance.latency(0.5) / performance.note_seconds
    print(
        f"a note of {performance.note_seconds:g} s takes {usual:.0f} ms, 95 % of them at most {slow:.0f} ms: real-time "
        f"factor {factor:.3f}"
    )
    print(f"written to {options.out} and {options.out.with_suffix('.png')}")
    return 0


def _film(options: VideoDemoOptions) -> int:
    """The demo of videos."""
    if not 0 < options.seconds <= 3600:
        raise ValueError(f"--seconds must be above 0, at most 3600, got {options.seconds:g}")
    check_folder(options.out)
    require("video", "unistep demo video", ("av",))
    from unistep.cli.devices import choose_device
    from unistep.data.sources.racing_sight import drive_by_sight
    from unistep.demo.moving import draw_clips, drive
    from unistep.evaluation.hardware import hardware
    from unistep.hub.load import load

    device = choose_device(options.device)
    world = load(options.world, device=device)
    clips = None if options.clips is None else load(options.clips, device=device)
    frame = world.config.chunk.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    if clips is not None:
        drawn = draw_clips(clips, 9, options.seed)
        clips.save(drawn.frames, options.out / "clips.mp4")
        calls = clips.network_calls()
        print(
            f"9 clips of {clips.modality.described}: {1e3 * drawn.latency(0.5):.0f} ms each, in {calls} network "
            f"call{'' if calls == 1 else 's'}"
        )
    driven = drive(world, drive_by_sight, max(1, round(options.seconds / (frame or 1))), options.seed)
    world.save(driven.frames, options.out / "drive.mp4")
    usual, slow = (1e3 * driven.latency(share) for share in (0.5, 0.95))
    print(
        f"{driven.frames.shape[2]} frames of a drive: {usual:.0f} ms each, 95 % of them at most {slow:.0f} ms, on "
        f"{hardware(world.device)}"
    )
    films = ["drive.mp4"] if clips is None else ["drive.mp4", "clips.mp4"]
    print(f"written to {' and '.join(str(options.out / film) for film in films)}")
    print(f"to drive yourself: unistep play {options.world}")
    return 0
