"""Texts as conditions, with an encoder of the test's own."""

import numpy as np
import pytest
import torch

from unistep import registry
from unistep.core.condition import TextField, drop, parse_condition
from unistep.serialization import from_plain, to_plain
from unistep.text.encoder import EncodedText, TextEncoder, load_text_encoder


class Letters(TextEncoder):
    """Each word becomes its first letters' codes; digits are unknown."""

    dim, longest, languages, letters = 3, 100, "Latin letters", "LATIN"

    def encode(self, texts, longest):
        found = []
        for text in texts:
            words = text.split()
            vectors = [[float(ord(c)) / 128 for c in f"{word:3.3}"] for word in ["all", *words]]
            known = sum(not word.isdigit() for word in words)
            found.append(EncodedText(vectors=torch.tensor(vectors[:longest]), known=known, total=len(words)))
        return found


@pytest.fixture
def field(monkeypatch):
    monkeypatch.setitem(registry._added["text_encoder"], "letters", Letters)
    load_text_encoder.cache_clear()
    yield TextField(length=4, dim=3, encoder="letters", example="a cat")
    load_text_encoder.cache_clear()


def test_one_text_serves_all_and_several_one_each(field):
    one = field.parse("text", "red car", 2)
    assert one.tokens.shape == (2, 4, 3)
    assert one.mask.tolist() == [[True, True, True, False]] * 2
    several = field.parse("text", ["red", None], 2)
    assert several.has_condition().tolist() == [True, False]
    assert torch.equal(several.tokens[0, :2], one.tokens[0, :2])


def test_vectors_are_taken_as_they_are(field):
    vectors = torch.rand(2, 3)
    assert torch.equal(parse_condition({"text": field}, {"text": vectors}, 1)["text"].tokens[0, :2], vectors)


def test_dropping_leaves_an_empty_sequence(field):
    dropped = drop({"text": field.parse("text", "red car", 3)}, 1.0, torch.Generator().manual_seed(0))
    assert not dropped["text"].has_condition().any()


def test_columns_of_parts_are_those_of_the_whole(field):
    given = [("a cat", "one cat here"), None, "dog", ()]
    whole = field.to_columns("text", given)
    parts = [field.to_columns("text", given[:1]), field.to_columns("text", given[1:])]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in whole}
    assert all(np.array_equal(whole[key], joined[key]) for key in whole)
    read = field.from_columns(joined, np.array([3, 0, 2, 1]))
    assert read.mask.sum(1).tolist() == [0, 3, 2, 0]
    expected = field.parse("text", ["a cat", "dog"], 2)
    assert torch.allclose(read.tokens[[1, 2]], expected.tokens, atol=1e-3)


def test_a_text_is_encoded_once_and_one_without_a_word_counts_as_none(field, monkeypatch, caplog):
    asked = []
    encode = Letters.encode
    monkeypatch.setattr(Letters, "encode", lambda *given: asked.append(list(given[1])) or encode(*given))
    columns = field.to_columns("text", [("a cat", "1 2"), ("a cat",), "3"])
    assert asked == [["a cat", "1 2", "3"]]
    assert columns["counts"].tolist() == [1, 1, 0]
    assert columns["lengths"].tolist() == [3, 3]
    assert "2 of 3 values of text have no word that the encoder letters knows, and count as none: '1 2'" in caplog.text


def test_the_seed_chooses_the_phrasing(field):
    columns = field.to_columns("text", [("a", "a b", "a b c")])
    lengths = {int(field.from_columns(columns, np.array([0]), [seed]).mask.sum()) for seed in range(40)}
    assert lengths == {2, 3, 4}
    again = [field.from_columns(columns, np.array([0, 0]), [7, 7]).mask.sum(1).tolist() for _ in range(2)]
    assert again[0] == again[1]
    assert again[0][0] == again[0][1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "is empty"),
        ("123 456", "no word that the encoder letters knows"),
        (3, "must be a text"),
        ("x" * 1001, "1,001"),
    ],
)
def test_a_wrong_text_gets_one_line(field, given, message):
    with pytest.raises(ValueError, match=message):
        field.parse("text", given, 1)


def test_a_long_text_is_cut_with_a_warning(field, caplog):
    value = field.parse("text", "a b c d e f", 1)
    assert value.mask.sum() == 4
    assert "more than 3 tokens" in caplog.text


def test_letters_that_the_encoder_makes_little_of_are_named(field, caplog):
    columns = field.to_columns("text", ["a café", "эльф", "a cat named Мурка", "精灵 elf"])
    assert columns["counts"].tolist() == [1, 1, 1, 1]
    assert "1 of 4 values of text are not in Latin letters" in caplog.text
    assert "'эльф'; write them in Latin letters" in caplog.text
    caplog.clear()
    field.parse("text", "эльф", 1)
    assert "text is not in Latin letters, and the encoder letters makes little of other ones" in caplog.text
    caplog.clear()
    field.parse("text", "no. 1!", 1)
    assert caplog.text == ""


def test_files_of_earlier_versions_name_the_evaluator_otherwise():
    written = to_plain(TextField(length=4, dim=3, encoder="letters", evaluator="a network"))
    written["judge"] = written.pop("evaluator")
    assert from_plain(TextField, written).evaluator == "a network"
