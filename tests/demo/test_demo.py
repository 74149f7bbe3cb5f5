"""The demo from beginning to end on stand-ins, and its page as a browser reads it."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console

from cli.standins import save_standin, save_writer
from unistep.demo.compare import Shot, labels_for, shoot, walk
from unistep.demo.page import duration, mosaic, times_faster
from unistep.demo.show import DemoConfig, _written, run_demo
from unistep.demo.tune import clear, native
from unistep.hub.load import load
from unistep.modalities.image import ImageModality
from unistep.provenance import read_content, read_file

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects pictures and words, and checks that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[Image.Image] = []
        self.makers: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.links += [values[name] or "" for name in ("src", "href") if name in values]
        if tag == "img":
            assert values["alt"]
            data = (values["src"] or "").removeprefix("data:image/png;base64,")
            content = base64.b64decode(data, validate=True)
            mark = read_content(content).mark
            self.makers.append("" if mark is None else mark.model)
            picture = Image.open(io.BytesIO(content))
            picture.load()
            assert (str(picture.width), str(picture.height)) == (values["width"], values["height"])
            self.pictures.append(picture)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Shapes of the drawing close themselves."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return str(save_standin(folder / "one", "consistency")), str(save_standin(folder / "many", "denoiser"))


@pytest.fixture(scope="module")
def writer(tmp_path_factory) -> str:
    return str(save_writer(tmp_path_factory.mktemp("writer") / "writer"))


@pytest.fixture(scope="module")
def demo(models, writer, tmp_path_factory):
    """One whole demo, run twice in the same folder."""
    out = tmp_path_factory.mktemp("demo") / "made" / "here"
    patch = pytest.MonkeyPatch()
    patch.setenv("UNISTEP_CACHE", str(tmp_path_factory.mktemp("cache")))
    said = []
    try:
        for seed, num in ((3, 0), (4, 200)):
            words = io.StringIO()
            config = DemoConfig(
                out=out, seconds=1, seed=seed, student=models[0], teacher=models[1], teacher_steps=3, evaluated=num,
                writer=writer,
            )  # fmt: skip
            assert run_demo(config, Console(file=words, width=200)) == out / "index.html"
            said.append(words.getvalue())
    finally:
        patch.undo()
    return out, said


def test_the_demo_makes_a_page_pictures_and_a_model(demo):
    out, said = demo
    for name in ("written.png", "one-step.png", "side-by-side.png", "walk.png", "tuning.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 200
        assert read_file(out / name).generated
    assert load(out / "run").sample(2).shape == (2, 1, 28, 28)
    for part in ("times faster in one step", "5 network calls each", "images/s", "index.html", "24 images of 6 texts"):
        assert part in said[0]
    assert "quick Fréchet distance, 200 one-step samples" in said[1]
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]


def test_the_page_stands_alone_and_tells_the_measured_figures(demo):
    out, _ = demo
    text = (out / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"https?://|url\(|@import|<script|\$\w", text)
    assert len(page.pictures) >= 6 + 1 + 2 + 4 + 2 + 1
    unmarked = [number for number, maker in enumerate(page.makers) if not maker]
    assert len(unmarked) == 1  # the noise; no model made it
    assert {"writer", "one", "many"} <= set(page.makers)
    words = " ".join(page.words.split())
    for part in (
        "Santa Claus, light skin tone",
        "5 network calls",
        "200 one-step samples each, on the features fashion-vicreg",  # on which nothing was trained or selected
        "T-shirt, trouser",
        "seed 4",
        f"{out}/run",
    ):
        assert part in words
    assert "prefers-color-scheme: dark" in text
    assert "max-width: 46rem" in text


def test_without_what_reads_texts_the_demo_goes_on(models, tmp_path, monkeypatch):
    words = io.StringIO()
    config = DemoConfig(out=tmp_path, writer=models[0])
    assert _written(config, tmp_path, Console(file=words, width=200)) is None  # a model that takes no text
    assert "without images of texts" in words.getvalue()
    assert not list(tmp_path.iterdir())
    assert _written(replace(config, writer=""), tmp_path, Console(file=words)) is None


def test_what_is_not_of_a_demo_is_never_deleted(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"holds thesis.txt, which is not of a demo"):
        clear(folder)
    (folder / "thesis.txt").rename(folder / "config.json")
    with pytest.raises(ValueError, match="not of a demo"):
        clear(folder)
    (folder / "config.json").write_text('{"recipe": "fashion/ect"}')
    with pytest.raises(ValueError, match="a run of 'fashion/ect'"):
        clear(folder)
    assert (folder / "config.json").exists()
    (folder / "config.json").write_text('{"recipe": "demo"}')
    clear(folder)
    assert not folder.exists()
    clear(folder)


def test_another_run_is_found_before_any_work(models, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"recipe": "mine"}')
    config = DemoConfig(out=tmp_path, student=models[0], teacher=models[1])
    with pytest.raises(ValueError, match="a run of 'mine'"):
        run_demo(config, Console(file=io.StringIO()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_student_and_teacher_get_the_same_noise_and_labels(models):
    student, teacher = map(load, models)
    assert labels_for(student, 12) == labels_for(teacher, 12) == {"label": [*range(10), 0, 1]}
    shot = shoot(student, 4, 1, seed=7, repeats=1)
    assert isinstance(shot, Shot)
    assert shot.calls == 1
    torch.testing.assert_close(shot.pictures, student.sample(4, steps=1, seed=7, label=[0, 1, 2, 3]))
    noise, shots = walk(student, 3, seed=7, steps=(1, 2))
    assert noise.shape == (3, 1, 28, 28)
    assert [s.calls for s in shots] == [1, 2]
    torch.testing.assert_close(shots[0].pictures, shot.pictures[:3])


def test_a_sheet_is_taken_apart_and_put_together():
    pictures = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 1.9 - 1  # no pure white
    sheet = ImageModality(size=28, channels=1).grid(pictures, columns=3)
    assert native(sheet, (28, 28)).tobytes() == mosaic(pictures, 3).tobytes()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0084, "8.4 ms"), (0.0314, "31 ms"), (0.25, "250 ms"), (1.94, "1.9 s"), (23.4, "23 s"), (123, "2 min 3 s")],
)
def test_times_are_said_as_people_do(seconds, text):
    assert duration(seconds) == text


def test_a_ratio_has_no_more_digits_than_it_deserves():
    assert (times_faster(3.14159), times_faster(34.8)) == ("3.1", "35")


@pytest.mark.parametrize(("field", "value"), [("seconds", 0), ("seconds", float("nan")), ("seed", -1)])
def test_bad_numbers_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        DemoConfig(**{field: value})


def test_the_page_and_its_style_ship_with_the_package():
    import unistep.demo

    room = Path(unistep.demo.__file__).parent
    assert {"page.html", "page.css"} <= {path.name for path in room.iterdir()}
