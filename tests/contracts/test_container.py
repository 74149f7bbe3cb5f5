"""Every kind of file that is written holds the mark, and shows and sounds the same with it."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from unistep import registry
from unistep.modalities.audio import AudioModality
from unistep.modalities.image import ImageModality
from unistep.modalities.video import VideoModality
from unistep.provenance import Container, Mark, Provenance, mark_content, read_content
from unistep.provenance.container import BrokenFileError
from unistep.provenance.xmp import from_xmp, to_xmp

SEEDED = torch.Generator().manual_seed(0)
IMAGES = ImageModality(size=12, channels=3), torch.rand(1, 3, 12, 12, generator=SEEDED) * 2 - 1
SOUNDS = AudioModality(sample_rate=8_000, samples=4_000), torch.rand(1, 1, 4_000, generator=SEEDED) - 0.5
CLIPS = VideoModality(size=16, channels=3, frames=5, fps=8), torch.rand(1, 3, 5, 16, 16, generator=SEEDED) * 2 - 1
BY_SUFFIX = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".npz"), IMAGES),
    **dict.fromkeys((".wav", ".flac", ".ogg"), SOUNDS),
    **dict.fromkeys((".mp4", ".webm", ".mkv", ".gif"), CLIPS),
}
NEEDED = {".wav": "soundfile", ".flac": "soundfile", ".ogg": "soundfile", ".mp4": "av", ".webm": "av", ".mkv": "av"}
PROVENANCE = Provenance(
    model="mine <&>",
    model_hash="ab" * 32,
    seeds=(7, 8, 9),
    conditions=({"label": "cat", "n": 1}, {"label": "cat", "n": 2}, {"label": "cat", "n": 3}),
)


class Lines(Container):
    """A text file with the packet as its last line: a kind of file that the package does not know."""

    suffixes = (".lines",)

    @staticmethod
    def matches(content):
        return content.startswith(b"lines\n")

    @staticmethod
    def embed(content, packet):
        return content + packet.replace(b"\n", b" ") + b"\n"

    @staticmethod
    def extract(content):
        last = content.rstrip(b"\n").rpartition(b"\n")[2]
        return last if last.startswith(b"<?xpacket") else None


@pytest.fixture(autouse=True)
def _outside(monkeypatch):
    monkeypatch.setattr(registry, "_added", {kind: dict(known) for kind, known in registry._added.items()})
    registry.register("container", "lines", Lines)


def written(suffix: str) -> bytes:
    if suffix in NEEDED and find_spec(NEEDED[suffix]) is None:
        pytest.skip(f"{NEEDED[suffix]} is missing")
    if suffix == ".lines":
        return b"lines\n1\n2\n"
    modality, x = BY_SUFFIX[suffix]
    return modality.encode(x, suffix)


def decoded(content: bytes, suffix: str) -> np.ndarray:
    """What is seen or heard."""
    if suffix == ".npz":
        with np.load(BytesIO(content)) as file:
            return file["arr_0"]
    if suffix in (".wav", ".flac", ".ogg"):
        import soundfile

        return soundfile.read(BytesIO(content), dtype="int16")[0]
    if suffix in (".mp4", ".webm", ".mkv"):
        import av

        with av.open(BytesIO(content)) as file:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    if suffix == ".lines":
        return np.asarray([int(line) for line in content.split(b"\n")[1:3]])
    with Image.open(BytesIO(content)) as image:
        frames = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")))
        return np.stack(frames)


SUFFIXES = [suffix for kind in registry.entries("container").values() for suffix in kind.suffixes] + [".lines"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_marked_file_is_the_same_to_see_and_to_hear(suffix: str) -> None:
    plain = written(suffix)
    marked = mark_content(plain, suffix, PROVENANCE)
    assert read_content(plain).mark is None
    found = read_content(marked)
    assert found.mark == PROVENANCE.mark
    assert (found.generated, found.mark.seed, found.mark.condition) == (True, "7-9", {"label": "cat"})
    assert np.array_equal(decoded(plain, suffix), decoded(marked, suffix))
    assert mark_content(plain, suffix, None) == plain


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".lines"])
def test_a_file_that_is_cut_off_never_crashes(suffix: str) -> None:
    marked = mark_content(written(suffix), suffix, PROVENANCE)
    for length in {1, 5, 9, 13, 30, len(marked) // 3, len(marked) // 2, len(marked) - 3}:
        with suppress(BrokenFileError):
            read_content(marked[:length])


@pytest.mark.parametrize("length", [10, 250, 66_000, 130_000])
def test_pages_of_an_ogg_file_move_where_the_mark_is_long(length: int) -> None:
    plain = written(".ogg")
    kind = registry.lookup("container", "ogg")
    packet = b"x" * length
    marked = kind.embed(plain, packet)
    assert kind.extract(marked) == packet
    assert np.array_equal(decoded(plain, ".ogg"), decoded(marked, ".ogg"))
    assert kind.extract(kind.embed(marked, b"other")) == b"other"


def test_other_programs_write_marks_in_other_words() -> None:
    foreign = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        b"<i:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture</i:DigitalSourceType>"
        b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    mark = from_xmp(foreign)
    assert mark is not None
    assert (mark.source_type, mark.generated) == ("digitalCapture", False)
    assert from_xmp(foreign.replace(b"DigitalSourceType", b"Other")) is None
    with pytest.raises(ValueError, match="broken"):
        from_xmp(foreign[:-10])


@pytest.mark.parametrize(
    "text", ['a "quoted" <tag> & more', "new\nline", "\x00\x07 control", "\ud800 half", "日本語 🎈"]
)
def test_any_text_survives_or_loses_only_what_xml_cannot_hold(text: str) -> None:
    mark = Mark(source_type="trainedAlgorithmicMedia", model=text, condition={"text": text})
    found = from_xmp(to_xmp(mark))
    assert found is not None
    kept = "".join(c for c in text if c not in "\x00\x07\ud800")
    assert found.model.split() == kept.split()
    if "\ud800" not in text:
        assert found.condition["text"] == text


def test_a_mark_that_no_file_could_hold_is_one_line() -> None:
    with pytest.raises(ValueError, match="a file holds 60,000"):
        to_xmp(Mark(source_type="trainedAlgorithmicMedia", condition={"text": "x" * 70_000}))
