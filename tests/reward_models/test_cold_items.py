"""Items held out of fitting: nothing of them is seen, and text is what tells them apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from audience.reward_models import cold_items
from audience.reward_models.cold_items import (
    COLD_SHARE,
    cold_histories,
    cold_items_quality,
    without_items,
)
from audience.reward_models.collaborative import explicit_als
from audience.reward_models.feedback_baselines import fold_in
from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.log import InteractionLog
from audience.reward_models.ordinal import OrdinalRegression
from audience.reward_models.quality_data import FIRST_EVENT, EventPredictions
from audience.reward_models.text_prior import with_text_prior

ITEMS = 80


class AlsWithText:
    """Explicit ALS with the text as prior, its fold-in made probabilities of levels."""

    def __init__(self, data: FitData, vectors: NDArray[np.float32]) -> None:
        self.data = data
        histories, values = data.histories["fitting"], data.values["fitting"]
        als = explicit_als(histories, values, len(data.catalogue), factors=2, rounds=6)
        self.als = with_text_prior(als, histories, values, vectors, axes=2)
        known = data.histories["validation"]
        self.ordinal = OrdinalRegression.fit(self.expect(known), known.levels, len(data.scale))

    def expect(self, histories: Histories) -> NDArray[np.float64]:
        return fold_in(self.als, histories, np.array(self.data.scale.values)[histories.levels])

    def predict_events(self, histories: Histories) -> EventPredictions:
        shares = self.ordinal.probabilities(self.expect(histories)).astype(np.float32)
        return EventPredictions(shares, histories.items * 0, np.zeros(len(shares)))

    def rank_items(self, contexts: Histories) -> NDArray[np.floating]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def log() -> InteractionLog:
    """Half of the users love what the text calls a comet, the others what it calls a fern."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(240):
        for time, item in enumerate(rng.permutation(ITEMS)[: 12 + user % 25]):
            loved = item % 2 == user % 2
            feedback = np.clip((4 if loved else 2) + rng.integers(-1, 2), 1, 5)
            rows.append((f"u{user}", f"i{item}", float(feedback), float(time), f"said {item}"))
    names = ["user_id", "item_id", "feedback", "timestamp", "text"]
    items = pl.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(ITEMS)],
            "title": [("comet", "fern")[i % 2] for i in range(ITEMS)],
        }
    )
    interactions = pl.DataFrame(rows, schema=names, orient="row")
    return InteractionLog.from_frames(interactions, items, text="{title}", name="comets")


@pytest.fixture(scope="module")
def data(log: InteractionLog) -> FitData:
    return FitData.of(log, None, 0)


def vectors_of(data: FitData) -> NDArray[np.float32]:
    comet = data.catalogue.texts == "comet"
    return np.where(comet[:, None], [[1.0, 0.0]], [[0.0, 1.0]]).astype(np.float32)


def test_text_tells_cold_items_apart(data: FitData) -> None:
    found = cold_items_quality(data, vectors_of(data), AlsWithText, seed=0)
    assert found is not None
    assert found["text"]["auc"] > 0.85
    assert found["text"]["auc_low"] < found["text"]["auc"] < found["text"]["auc_high"]
    for other in ("no_text", "shuffled_text"):
        assert abs(found[other]["auc"] - 0.5) < 0.12
        assert found[other]["rmse"] > found["text"]["rmse"] + 0.2
    gap = found["difference"]
    best = max(found["no_text"]["auc"], found["shuffled_text"]["auc"])
    assert gap["auc"]["mean"] == pytest.approx(found["text"]["auc"] - best)
    assert gap["auc"]["low"] > 0.2 and gap["rmse"]["high"] < -0.2
    assert found["items"] == round(COLD_SHARE * ITEMS)
    again = cold_items_quality(data, vectors_of(data), AlsWithText, seed=0)
    other = cold_items_quality(data, vectors_of(data), AlsWithText, seed=1)
    assert found == again and found != other


def test_a_fit_meets_no_cold_item_and_all_three_get_the_same_log(data: FitData) -> None:
    given: list[tuple[FitData, NDArray[np.float32]]] = []
    asked: list[Histories] = []

    class Spy(AlsWithText):
        def __init__(self, data: FitData, vectors: NDArray[np.float32]) -> None:
            given.append((data, vectors))
            super().__init__(data, vectors)

        def predict_events(self, histories: Histories) -> EventPredictions:
            asked.append(histories)
            return super().predict_events(histories)

    vectors = np.random.default_rng(0).normal(size=(ITEMS, 3)).astype(np.float32)
    found = cold_items_quality(data, vectors, Spy, seed=3)
    assert found is not None
    text, nothing, shuffled = (v for _, v in given)
    assert np.array_equal(text, vectors) and nothing.shape == vectors.shape and not nothing.any()
    assert not np.array_equal(shuffled, vectors)
    assert np.array_equal(np.sort(shuffled, axis=0), np.sort(vectors, axis=0))
    warm = given[0][0]
    cold = np.flatnonzero(warm.catalogue.counts == 0)
    assert len(cold) == found["items"] == 16 and len(warm.catalogue) == ITEMS
    assert (warm.catalogue.popularity > 0).all()
    for histories in warm.histories.values():
        assert not np.isin(histories.items, cold).any()
    for histories in asked:
        last = histories.offsets[1:] - 1
        assert np.isin(histories.items[last], cold).all()
        assert np.isin(histories.items, cold).sum() == len(last) == found["events"]
    assert len({id(log) for log, _ in given}) == 1


def test_without_items_by_hand(data: FitData) -> None:
    cold = np.zeros(ITEMS, bool)
    cold[:7] = True
    warm = without_items(data, cold)
    before, after = data.histories["fitting"], warm.histories["fitting"]
    values = data.values["fitting"]
    for user in range(len(before)):
        own = slice(before.offsets[user], before.offsets[user + 1])
        keep = before.items[own] >= 7
        new = slice(after.offsets[user], after.offsets[user + 1])
        assert after.items[new].tolist() == before.items[own][keep].tolist()
        assert after.levels[new].tolist() == before.levels[own][keep].tolist()
        assert warm.values["fitting"][new].tolist() == values[own][keep].tolist()
        texts, kept = data.signals["fitting"].texts, warm.signals["fitting"].texts
        assert texts is not None and kept is not None
        assert kept[new].tolist() == texts[own][keep].tolist()
    overall = values[before.items >= 7].mean()
    np.testing.assert_allclose(warm.catalogue.mean_feedback[:7], overall)
    assert (warm.catalogue.counts[7:] == data.catalogue.counts[7:]).all()
    assert data.catalogue.counts[:7].all()  # the log itself is as it was


def test_cold_histories_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    cold = np.arange(12) >= 8
    events = [
        [(8, 1), (0, 0), (1, 1), (2, 0), (9, 1), (3, 1), (4, 0), (10, 0), (5, 1), (11, 1)],
        [(8, 0), (9, 0), (10, 0), (11, 0), (0, 0), (1, 0)],  # too few warm ones
        [],
        [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (8, 1), (9, 0)],
    ]
    histories = Histories.from_lists(events)
    found, event, owner = cold_histories(histories, cold, np.random.default_rng(0))
    assert FIRST_EVENT == 5
    assert event.tolist() == [7, 9, 21, 22] and owner.tolist() == [0, 0, 3, 3]
    rows = [
        found.items[a:b].tolist()
        for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True)
    ]
    assert rows[0] == [0, 1, 2, 3, 4, 10] and rows[1] == [0, 1, 2, 3, 4, 5, 11]
    assert rows[2] == [0, 1, 2, 3, 4, 8] and rows[3] == [0, 1, 2, 3, 4, 9]
    assert found.levels[:6].tolist() == [0, 1, 0, 1, 0, 0]
    monkeypatch.setattr(cold_items, "EVENTS_PER_USER", 1)
    drawn = {tuple(cold_histories(histories, cold, np.random.default_rng(s))[1]) for s in range(20)}
    assert drawn == {(7, 21), (7, 22), (9, 21), (9, 22)}


def test_where_nothing_can_be_measured(data: FitData) -> None:
    vectors: Any = vectors_of(data)
    short = {name: histories.first(4) for name, histories in data.histories.items()}
    values = {
        name: data.values[name][np.arange(len(h.items)) - np.repeat(h.offsets[:-1], h.lengths) < 4]
        for name, h in data.histories.items()
    }
    few = dataclasses.replace(data, histories=short, values=values)
    assert cold_items_quality(few, vectors, AlsWithText, 0) is None
    with pytest.raises(ValueError, match=f"one row for each of the {ITEMS} items"):
        cold_items_quality(data, vectors[1:], AlsWithText, 0)
