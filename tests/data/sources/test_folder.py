from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from image_files import make_bad, make_good, make_others, noisy
from unistep.data import data_config, prepare


def folder_of(path, **options):
    return prepare(data_config(f"folder:{path}", **options), progress=False)


def snapshot(folder):
    return {
        str(path): (os.lstat(path).st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def mixed(tmp_path):
    """Pictures of every kind, two thirds of them usable."""
    folder = tmp_path / "mixed"
    return folder, make_good(folder), make_bad(folder), make_others(folder)


def test_every_kind_of_file_is_used_or_skipped_by_name(mixed):
    folder, good, bad, others = mixed
    before = snapshot(folder)
    dataset = folder_of(folder, max_bad=0.5)
    summary = dataset.summary
    assert summary.good == len(good) == len(dataset)
    assert dataset.values.shape == (len(good), 3, 32, 32)
    skipped = {item.name: item.reason for item in summary.skipped if item.bad}
    assert skipped.keys() == bad.keys()
    for name, part in bad.items():
        assert part in skipped[name], name
    assert {item.name for item in summary.skipped if not item.bad} == others
    assert (summary.bad, summary.other) == (len(bad), len(others))
    notes = dict(summary.notes)
    for part in ("animated", "CMYK", "8 bits", "transparent", "upright", "enlarged"):
        wanted = sum(part == note for note in good.values())
        got = sum(count for note, count in notes.items() if part in note)
        assert got >= wanted > 0, part
    assert snapshot(folder) == before  # source files are never touched


def test_a_printed_summary_names_files_and_never_reads_them_as_markup(mixed):
    from rich.console import Console

    folder, *_ = mixed
    summary = folder_of(folder, max_bad=0.5).summary
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(summary)
    text = console.export_text()
    console.file.close()
    assert "bomb.png" in text
    assert text.strip() == str(summary).strip()


def test_too_many_bad_pictures_stop_it_with_reasons(mixed):
    with pytest.raises(ValueError, match="max_bad") as caught:
        folder_of(mixed[0], max_bad=0.05)
    assert "\n" not in str(caught.value)
    assert "too many unusable images" in str(caught.value)


def test_a_cache_made_with_a_larger_share_is_judged_anew(mixed):
    folder_of(mixed[0], max_bad=0.5)
    with pytest.raises(ValueError, match="too many unusable images"):
        folder_of(mixed[0], max_bad=0.1)


def test_no_good_picture_is_an_error_whatever_is_allowed(tmp_path):
    make_bad(tmp_path / "bad")
    with pytest.raises(ValueError, match="no usable image"):
        folder_of(tmp_path / "bad", max_bad=1)


def test_other_files_do_not_count_against_the_pictures(tmp_path):
    make_others(tmp_path / "in")
    noisy(8, 8).save(tmp_path / "in" / "a.png")
    assert folder_of(tmp_path / "in", max_bad=0).summary.bad == 0


@pytest.mark.parametrize("make", ["missing", "empty", "file"])
def test_a_folder_that_is_not_one(tmp_path, make):
    (tmp_path / "pictures").mkdir()
    target = {"missing": tmp_path / "pictuers", "empty": tmp_path / "pictures", "file": tmp_path / "file"}[make]
    (tmp_path / "file").touch()
    words = {"missing": "did you mean 'pictures'", "empty": "no files", "file": "not a folder"}[make]
    with pytest.raises(ValueError, match=words):
        folder_of(target)


def test_subfolders_are_labels_in_the_order_of_their_names(tmp_path):
    for name, count in (("dogs", 2), ("cats", 3), ("birds/small", 1)):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(count):
            noisy(8, 8, i).save(tmp_path / "in" / name / f"{i}.png")
    noisy(8, 8).save(tmp_path / "in" / "loose.png")
    (tmp_path / "in" / "texts").mkdir()
    (tmp_path / "in" / "texts" / "a.txt").write_text("no class of pictures")
    dataset = folder_of(tmp_path / "in")
    assert dataset.label_names == ("birds", "cats", "dogs")
    assert dataset.labels.tolist() == [0, 1, 1, 1, 2, 2, -1]
    assert dataset.summary.classes == (("birds", 1), ("cats", 3), ("dogs", 2), ("no label", 1))


def test_one_subfolder_is_no_label(tmp_path):
    (tmp_path / "in" / "all").mkdir(parents=True)
    noisy(8, 8).save(tmp_path / "in" / "all" / "a.png")
    dataset = folder_of(tmp_path / "in")
    assert dataset.labels is None
    assert dataset.label_names == ()


def test_a_class_with_no_good_picture_is_none(tmp_path):
    for name in ("cats", "dogs", "none"):
        (tmp_path / "in" / name).mkdir(parents=True)
        noisy(8, 8).save(tmp_path / "in" / name / "a.png")
    (tmp_path / "in" / "none" / "a.png").write_bytes(b"")
    dataset = folder_of(tmp_path / "in", max_bad=0.5)
    assert dataset.label_names == ("cats", "dogs")


def write_metadata(folder, *records):
    folder.mkdir(exist_ok=True)
    (folder / "metadata.jsonl").write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records))


def test_metadata_names_files_and_labels(tmp_path):
    folder = tmp_path / "in"
    write_metadata(
        folder,
        {"file_name": "b.png", "label": "yes"},
        {"file_name": "sub/a.png", "label": "no"},
        "",
        {"file_name": "c.png"},
        {"file_name": "gone.png"},
    )
    (folder / "sub").mkdir()
    for name in ("b.png", "sub/a.png", "c.png", "unlisted.png"):
        noisy(8, 8).save(folder / name)
    dataset = folder_of(folder, max_bad=0.3)
    assert dataset.label_names == ("no", "yes")
    assert dataset.labels.tolist() == [1, -1, 0]
    assert [item.name for item in dataset.summary.skipped] == ["gone.png"]


def test_numbers_as_labels_stay_numbers(tmp_path):
    folder = tmp_path / "in"
    write_metadata(folder, {"file_name": "a.png", "label": 7}, {"file_name": "b.png", "label": 2})
    for name in ("a.png", "b.png"):
        noisy(8, 8).save(folder / name)
    dataset = folder_of(folder)
    assert dataset.labels.tolist() == [7, 2]
    assert dataset.label_names == tuple("01234567")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "must be like"),
        ('{"label": 1}', "must be like"),
        ('{"file_name": "../a.png"}', "inside the folder"),
        ('{"file_name": "a.png", "label": [1]}', "a name or a number"),
        ('{"file_name": "a.png", "label": 5000000}', "labels must be numbers"),
        ('{"file_name": "a.png"}\n{"file_name": "a.png"}', "listed before"),
    ],
)
def test_wrong_metadata_names_the_line(tmp_path, line, words):
    write_metadata(tmp_path / "in", line)
    noisy(8, 8).save(tmp_path / "in" / "a.png")
    with pytest.raises(ValueError, match=words):
        folder_of(tmp_path / "in")


def test_a_folder_of_grey_pictures_has_one_channel_and_one_colour_changes_that(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(30):
        noisy(32, 32, i).convert("L").convert("RGB").save(tmp_path / "in" / f"{i:02d}.png")
    grey = folder_of(tmp_path / "in")
    assert grey.values.shape == (30, 1, 32, 32)
    noisy(32, 32).save(tmp_path / "in" / "20a.png")
    both = folder_of(tmp_path / "in")
    assert both.values.shape == (31, 3, 32, 32)
    for channel in range(3):
        assert np.array_equal(both.values[:21, channel], grey.values[:21, 0])
        assert np.array_equal(both.values[22:, channel], grey.values[21:, 0])
    assert np.array_equal(both.values[21].transpose(1, 2, 0), np.asarray(noisy(32, 32)))
    assert folder_of(tmp_path / "in", channels=1).values.shape == (31, 1, 32, 32)


def test_links_are_followed_once_and_hidden_files_are_not_seen(tmp_path):
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    noisy(8, 8).save(elsewhere / "a.png")
    noisy(8, 8).save(folder / ".hidden.png")
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    dataset = folder_of(folder)
    assert len(dataset) == 1
    assert dataset.summary.skipped == ()


def test_a_limit_is_spread_over_the_classes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for i in range(10):
            noisy(8, 8, i).save(tmp_path / "in" / name / f"{i}.png")
    assert folder_of(tmp_path / "in", limit=6).labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_names_that_are_not_text_are_printed_all_the_same(tmp_path):
    (tmp_path / "in").mkdir()
    noisy(8, 8).save(tmp_path / "in" / "a.png")
    with open(os.fsencode(tmp_path / "in") + b"/\xff\x1b[31m.png", "wb"):
        pass
    summary = folder_of(tmp_path / "in", max_bad=0.5).summary
    assert summary.skipped[0].name == r"\udcff\x1b[31m.png"
    str(summary).encode("utf-8")


def test_a_file_that_cannot_be_opened_is_skipped_by_name(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        noisy(8, 8).save(tmp_path / "in" / name)
    opened = Image.open

    def refuse(file, **options):
        if str(file).endswith("b.png"):
            raise PermissionError(13, "Permission denied")
        return opened(file, **options)

    monkeypatch.setattr(Image, "open", refuse)
    (skipped,) = folder_of(tmp_path / "in", max_bad=0.5).summary.skipped
    assert (skipped.name, skipped.reason) == ("b.png", "cannot be read: Permission denied")


def test_a_folder_that_cannot_be_listed_is_skipped_by_name(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        noisy(8, 8).save(tmp_path / "in" / name / "x.png")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    dataset = folder_of(tmp_path / "in", max_bad=0.5)
    (skipped,) = dataset.summary.skipped
    assert skipped.name == "b/"
    assert dataset.fields == {}  # one class is none
    assert skipped.bad


def test_folders_have_no_splits(tmp_path):
    with pytest.raises(ValueError, match="no splits"):
        folder_of(tmp_path, split="test")


@pytest.mark.parametrize(("link", "real"), [("a", "dogs"), ("z", "dogs")])
def test_a_link_to_another_class_is_none_itself(tmp_path, link, real):
    """The folder itself has the pictures, whichever name comes first."""
    for name in ("cats", "dogs"):
        (tmp_path / "in" / name).mkdir(parents=True)
        noisy(8, 8).save(tmp_path / "in" / name / "x.png")
    (tmp_path / "in" / link).symlink_to(real)
    assert folder_of(tmp_path / "in").summary.classes == (("cats", 1), ("dogs", 1))


def test_a_link_into_another_class_leaves_it_its_pictures(tmp_path):
    for name in ("cats", "dogs/small"):
        (tmp_path / "in" / name).mkdir(parents=True)
        noisy(8, 8).save(tmp_path / "in" / name / "x.png")
    (tmp_path / "in" / "best").symlink_to("dogs/small")
    assert folder_of(tmp_path / "in").summary.classes == (("cats", 1), ("dogs", 1))


def test_a_link_to_a_folder_elsewhere_is_a_class(tmp_path):
    for name in ("in/cats", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        noisy(8, 8).save(tmp_path / name / "x.png")
    for name in ("birds", "zebras"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "elsewhere")
    assert folder_of(tmp_path / "in").summary.classes == (("birds", 1), ("cats", 1))


def test_every_skipped_file_is_named_beside_the_cache(tmp_path, cache):
    (tmp_path / "in").mkdir()
    noisy(8, 8).save(tmp_path / "in" / "a.png")
    for i in range(20):
        (tmp_path / "in" / f"bad{i:02d}.png").touch()
    (tmp_path / "in" / "note\n.txt").write_text("no picture")
    for _ in range(2):  # made, and found in the cache
        summary = folder_of(tmp_path / "in", max_bad=1).summary
        (listing,) = (cache / "data").glob("*/skipped.txt")
        assert summary.lines()[-2:] == ["  and 9 more (empty file 8, not an image 1)", f"all of them: {listing}"]
        assert listing.read_text().splitlines() == [
            *(f"bad{i:02d}.png: empty file" for i in range(20)),
            r"note\n.txt: not an image",
        ]
    listing.unlink()
    assert "all of them" not in str(folder_of(tmp_path / "in", max_bad=1).summary)


def test_one_is_not_several(tmp_path):
    (tmp_path / "in").mkdir()
    noisy(32, 32).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").touch()
    (tmp_path / "in" / "c.txt").touch()
    first, *_, skipped, _, _ = folder_of(tmp_path / "in", max_bad=1).summary.lines()
    assert first.endswith(": 1 image of 32 x 32 pixels, RGB")
    assert skipped == "skipped: 1 bad image (50.0%), 1 other file"
