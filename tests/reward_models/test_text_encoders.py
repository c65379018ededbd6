"""All text encoders keep one contract; what users wrote is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.reward_models.errors import TextEncoderError
from audience.reward_models.text_encoders import (
    JoinedEncoder,
    NoText,
    TextEncoder,
    TfidfEncoder,
    encode_event_texts,
    text_encoder,
)

TEXTS = ["a horror film in space", "horror in the wood", "a cookery book", "", "horror in space"]


@pytest.fixture(scope="module", params=["bert", "tfidf", "bert+tfidf", "none"])
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    return text_encoder(request.param, device="cpu")


def test_every_encoder_keeps_the_contract(encoder: TextEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.ndim == 2 and len(vectors) == len(TEXTS)
    length = np.linalg.norm(vectors, axis=1)
    assert np.all((np.abs(length - 1) < 1e-5) | (length == 0))
    # The same text has the same vector whatever stands beside it, and when asked again.
    np.testing.assert_allclose(encoder.encode([TEXTS[2], TEXTS[0]]), vectors[[2, 0]], atol=1e-5)
    assert encoder.encode([]).shape == (0, vectors.shape[1])
    assert encoder.name


def test_like_texts_have_like_vectors(encoder: TextEncoder) -> None:
    near = encoder.encode(TEXTS) @ encoder.encode(TEXTS[:1])[0]
    assert near[4] > near[2] + 0.2 or isinstance(encoder, NoText)


def test_few_words_are_their_own_axes() -> None:
    vectors = TfidfEncoder().encode(["comet fern", "comet fern", "", "comet", "fern"])
    assert vectors.shape == (5, 2)
    np.testing.assert_allclose(vectors, [[0.5**0.5] * 2] * 2 + [[0, 0], [1, 0], [0, 1]], atol=1e-6)
    assert not TfidfEncoder().encode(["", " "]).any()


def test_axes_of_tfidf_keep_what_words_share_and_are_the_same_again() -> None:
    topics = [[f"word{t}x{w}" for w in range(8)] for t in range(3)]
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=60)
    texts = [" ".join(rng.choice(topics[k], 4, replace=False)) for k in kind] + ["", "unheard"]
    encoder = TfidfEncoder(dim=3)
    vectors = encoder.encode(texts[:-1])
    assert vectors.shape == (61, 3)
    near = vectors[:60] @ vectors[:60].T
    same = kind[:, None] == kind
    assert near[same].min() > 0.9 and np.abs(near[~same]).max() < 0.1
    assert not vectors[60].any() and not encoder.encode(texts[-1:]).any()
    assert np.array_equal(TfidfEncoder(dim=3).encode(texts[:-1]), vectors)


def test_axes_are_limited_by_texts_that_are_all_alike() -> None:
    vectors = TfidfEncoder(dim=2).encode(["one two three"] * 4)
    np.testing.assert_allclose(vectors @ vectors.T, 1, atol=1e-5)
    assert TfidfEncoder(dim=4).encode(["one two three four five six", "seven"]).shape == (2, 2)
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        TfidfEncoder(0)


def test_unknown_encoders_are_refused_with_the_choices(tmp_path: Path) -> None:
    for name in (tmp_path, str(tmp_path), "./no-such-directory"):
        with pytest.raises(TextEncoderError, match='encoder "tfidf" or "none"'):
            text_encoder(name)
    with pytest.raises(TextEncoderError, match=r"bert, tfidf, bert\+tfidf, none"):
        text_encoder(" ")


def test_both_are_the_default_and_any_bert_may_be_joined() -> None:
    assert text_encoder(device="cpu").name == text_encoder("bert+tfidf", "cpu").name
    assert text_encoder("tfidf+tfidf").name == "tfidf-128+tfidf-128"
    with pytest.raises(TextEncoderError, match="no config.json"):
        text_encoder("./no-such-directory+tfidf")


def test_joined_encoders_weigh_the_same_and_skip_what_one_does_not_know() -> None:
    joined = JoinedEncoder([TfidfEncoder(), Counting()])
    assert joined.name == "tfidf-128+none"
    vectors = joined.encode(["comet", "fern", ""])
    assert vectors.shape == (3, 4)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[0], np.array([1, 0, 5, 1]) / 27**0.5, atol=1e-6)
    assert vectors[2].tolist() == [0, 0, 0, 1]


class Counting(NoText):
    """Vectors [length of the text, 1]; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        return np.array([[len(text), 1] for text in texts], np.float32).reshape(-1, 2)


def test_what_users_wrote_is_encoded_once() -> None:
    encoder = Counting()
    texts = np.array(["good", None, "", "awful", "good", "  "], np.object_)
    vectors, written = encode_event_texts(encoder, texts)
    assert encoder.asked == [["awful", "good"]]
    assert written.tolist() == [True, False, False, True, True, False]
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[4, 1], [0, 0], [0, 0], [5, 1], [4, 1], [0, 0]]


def test_where_nobody_wrote_the_vectors_keep_their_width() -> None:
    vectors, written = encode_event_texts(Counting(), np.array(["", None], np.object_))
    assert vectors.shape == (2, 2) and not vectors.any() and not written.any()
    vectors, written = encode_event_texts(Counting(), np.array([], np.object_))
    assert vectors.shape == (0, 2) and written.shape == (0,)
