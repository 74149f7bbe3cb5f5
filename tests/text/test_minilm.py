"""The sentence encoder against the numbers of the library that it was published with."""

import pytest
import torch

from unistep.core.text_fields import TextField
from unistep.text.encoder import check_texts, load_text_encoder

TOKENS = [
    [0.1753817, -0.0062199, -0.2786058, 0.2619662],
    [0.2007607, 0.8653957, -0.1303623, -0.2922731],
    [0.6112548, -0.0399911, 0.3021904, -0.2603340],
    [-0.0298819, 0.1105016, -0.0673665, 0.1276293],
    [0.6599486, -0.1080134, -0.0798519, 0.5491089],
]
"""First features of the tokens of "a smiling cat with sunglasses", from transformers 5.24."""


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("tokenizers")
    return load_text_encoder("minilm")


def test_tokens_agree_with_the_reference(minilm):
    (encoded,) = minilm.encode(["a smiling cat with sunglasses"], 16)
    assert encoded.vectors.shape == (6, 384)
    # Six layers in float32, each a sum of 384 to 1,536 products of order one.
    assert (encoded.vectors[1:, :4] - torch.tensor(TOKENS)).abs().max() < 1e-4
    assert (encoded.known, encoded.total) == (5, 5)


def test_a_text_is_the_same_in_any_batch(minilm):
    texts = ["a red car", "an emoji of a family with two children and a dog", "x"]
    together = minilm.encode(texts, 32)
    for text, encoded in zip(texts, together, strict=True):
        (alone,) = minilm.encode([text], 32)
        assert (alone.vectors - encoded.vectors).abs().max() < 1e-4


def test_the_first_vector_tells_sentences_apart(minilm):
    cat, kitten, car = (
        e.vectors[0] / e.vectors[0].norm()
        for e in minilm.encode(["a smiling cat with sunglasses", "a grinning kitten wearing shades", "a red car"], 16)
    )
    assert cat @ kitten > 0.6 > 0.3 > cat @ car


def test_what_is_too_long_is_cut_and_unknown_scripts_are_counted(minilm):
    (long,) = minilm.encode(["word " * 100], 16)
    assert len(long.vectors) == 16
    assert long.total == 100
    (one,), (all_of_it,) = minilm.encode(["a red car"], 1), minilm.encode(["a red car"], 9)
    assert torch.equal(one.vectors, all_of_it.vectors[:1])  # the sentence's vector is of the whole text
    (unknown,) = minilm.encode(["微笑猫"], 16)
    assert unknown.known == 0


@pytest.mark.parametrize(("text", "message"), [("  ", "is empty"), ("a" * 1001, "at most 1,000 characters, got 1,001")])
def test_texts_that_say_nothing_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        check_texts("text", [text])


def test_one_encoder_serves_a_process(minilm):
    assert load_text_encoder("minilm") is minilm


def test_an_unknown_encoder_is_named():
    with pytest.raises(ValueError, match="minilm"):
        load_text_encoder("minilmm")


def test_a_text_by_itself_is_encoded_once(minilm, monkeypatch):
    field = TextField(length=8, dim=384, encoder="minilm")
    first = field._read("text", ["a green kite over the sea"], None)
    monkeypatch.setattr(type(minilm), "encode", None)  # it is not asked again
    again = field._read("text", ["a green kite over the sea"], None)
    assert torch.equal(first.tokens, again.tokens)
    assert first.tokens is not again.tokens
    with pytest.raises(TypeError):
        field._read("text", ["a green kite over the lake"], None)
