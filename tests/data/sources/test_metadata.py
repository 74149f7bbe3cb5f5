"""``metadata.jsonl`` and ``metadata.csv``: what they list, and a line for every mistake in them."""

from __future__ import annotations

import json

import pytest

from unistep.data.sources.metadata import metadata_of, read_metadata


@pytest.fixture
def read(tmp_path):
    """Read a file with this content."""

    def call(content: str | bytes):
        path = tmp_path / "metadata.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return {name: line.label for name, line in read_metadata(path).items()}

    return call


def test_lines_end_with_a_line_feed_and_nothing_else(read):
    wanted = {"a\u2028b.png": "one\u2028", "c\u0085d.png": "\u2029two", "e.png": "three"}
    lines = [json.dumps({"file_name": name, "label": wanted[name]}, ensure_ascii=False) for name in wanted]
    assert read("\n".join(lines)) == read("\r\n".join(lines) + "\r\n") == wanted


def test_a_byte_order_mark_is_no_part_of_the_first_line(read):
    assert read(b'\xef\xbb\xbf{"file_name": "a.png"}\n') == {"a.png": None}


def test_a_name_that_is_no_text_is_one_that_the_system_has(read):
    assert read(rb'{"file_name": "\udcff.png"}') == {"\udcff.png": None}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (r'{"file_name": "a\u0000.png"}', r"line 2: file_name must be a name that a file can have, got 'a\\x00.png'"),
        (r'{"file_name": "a\ud800.png"}', r"line 2: file_name must be a name that a file can have, got 'a\\ud800.png'"),
        (r'{"file_name": "a.png", "label": "a\u0000"}', r"line 2: label must be text without NUL .*, got 'a\\x00'"),
        (r'{"file_name": "a.png", "label": "\udfff"}', r"line 2: label must be text without NUL .*, got '\\udfff'"),
        ('{"file_name": "a.png", "label": -3}', "line 2: label must be 0 or more, got -3; leave it out"),
        ('{"file_name": "a.png", "label": -1}', "line 2: label must be 0 or more, got -1; leave it out"),
        (b'{"file_name": "\xff.png"}', "line 2 is not UTF-8: byte 0xff"),
        ("[" * 100_000, "line 2 is not JSON"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_line(read, line, message):
    content = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(ValueError, match=rf"metadata\.jsonl, {message}") as caught:
        read(b'{"file_name": "first.png"}\n' + content)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_named(read, content):
    with pytest.raises(ValueError, match=r"metadata\.jsonl is empty; list the files in it"):
        read(content)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "metadata.jsonl").mkdir()
    with pytest.raises(ValueError, match=r"metadata\.jsonl cannot be read: Is a directory"):
        read_metadata(tmp_path / "metadata.jsonl")


@pytest.fixture
def table(tmp_path):
    """Read a table with this content."""

    def call(content: str):
        path = tmp_path / "metadata.csv"
        path.write_text(content, encoding="utf-8-sig", newline="")
        return read_metadata(path, frozenset({".png"}))

    return call


def test_a_table_says_what_objects_say(table):
    found = table('file_name,label,text,source\r\na.png,cat,"a cat, asleep",grey/a.png\r\nb.png,,,\r\n')
    assert list(found) == ["a.png", "b.png"]
    assert (found["a.png"].label, found["b.png"].label) == ("cat", None)
    assert (found["a.png"].texts, found["b.png"].texts) == (("a cat, asleep",), ())
    assert found["a.png"].references == {"source": "grey/a.png"}


def test_labels_of_a_table_are_numbers_if_all_are(table):
    assert [line.label for line in table("file_name,label\na.png,3\nb.png,0\n").values()] == [3, 0]
    assert [line.label for line in table("file_name,label\na.png,3\nb.png,cat\n").values()] == ["3", "cat"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,label\na.png,cat\n", "must begin with the names of its columns, file_name among them, got name, label"),
        ("", "must begin with the names of its columns, file_name among them, got nothing"),
        ("file_name,label\n", "is empty; list the files in it"),
        ("file_name,text\na.png,a cat, asleep\n", "line 2 has more cells than there are columns"),
        ("file_name,label\n,cat\n", "line 2 names no file in the column file_name"),
        ("file_name,label\na.png,cat\na.png,dog\n", "line 3: 'a.png' was listed before"),
        ('file_name,text\na.png,"a cat\n', "line 2 is no row of a table: unexpected end of data"),
        ("file_name,label\n../a.png,cat\n", "line 2: file_name must lie inside the folder, got '../a.png'"),
    ],
)
def test_a_mistake_in_a_table_is_one_line(table, content, message):
    with pytest.raises(ValueError, match=rf"metadata\.csv,? {message}") as caught:
        table(content)
    assert "\n" not in str(caught.value)


def test_objects_are_used_where_there_is_a_table_too(tmp_path):
    assert metadata_of(tmp_path) is None
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / name).write_text("", encoding="utf-8")
        found = metadata_of(tmp_path)
        assert found is not None
        assert found.name == name
