"""Item-KNN as a baseline of choice: weights and ranks worked by hand, and its tuning."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.reward_models import choice_baselines, quality_choice
from audience.reward_models.choice_baselines import KNN_NEIGHBOURS, KNN_SHRINKAGES, ItemScorer
from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.log import InteractionLog
from audience.reward_models.metrics import UserBootstrap
from audience.reward_models.quality_choice import choice_quality
from audience.reward_models.quality_data import EventPredictions, QualityData

ALL = 100
"""More neighbours than there are items: nothing is cut."""


def met(*users: list[int]) -> Histories:
    return Histories.from_lists([[(item, 0) for item in user] for user in users])


def knn(
    fitting: Histories, items: int, shrinkage: float = 0.0, neighbours: int = ALL
) -> ItemScorer:
    counts = np.bincount(fitting.items, minlength=items)
    return ItemScorer.item_knn(fitting, counts / counts.sum(), shrinkage, neighbours)


@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_weights_are_shrunk_cosines(shrinkage: float) -> None:
    # Item 0 is met by three users, item 1 by two of them, item 2 by one; item 3 by nobody.
    found = knn(met([0, 1], [0, 1], [0, 2]), 4, shrinkage).weights
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[1, 0] = 2 / (np.sqrt(3 * 2) + shrinkage)
    expected[0, 2] = expected[2, 0] = 1 / (np.sqrt(3 * 1) + shrinkage)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32


def test_each_item_looks_at_its_most_similar_ones_only() -> None:
    found = knn(met([0, 1], [0, 1], [0, 2]), 4, neighbours=1)
    # Item 0 (a column) looks at item 1 and no longer at 2; item 2 still looks at item 0.
    assert found.weights[2, 0] == 0 < found.weights[1, 0]
    assert found.weights[0, 2] > 0
    assert found.settings == {"shrinkage": 0.0, "neighbours": 1}


def test_the_withheld_item_of_a_checkerboard_comes_first() -> None:
    fitting = met(*[[item for item in range(10) if item % 2 == user % 2] for user in range(20)])
    ranks = knn(fitting, 10).next_ranks(met([1, 3, 5, 7, 9], [0, 3]))
    # One event in, the four others of the colour tie for the first places; then three; ...
    np.testing.assert_allclose(ranks[1:5], [1.5, 1.0, 0.5, 0.0])
    assert ranks[6] > 4  # the wrong colour, behind four of the right one
    scores = knn(fitting, 10).rank_items(met([1, 3], [0]))
    assert set(np.argsort(-scores[0])[:3]) == {5, 7, 9}
    assert np.isneginf(scores[0, [1, 3]]).all()


def test_rarer_items_than_are_covered_are_left_to_popularity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice_baselines, "LINEAR_ITEMS", 2)
    found = knn(met([0, 1, 2], [0, 1, 2], [0, 1, 3], [0]), 4)
    np.testing.assert_array_equal(found.head, [0, 1])
    np.testing.assert_array_equal(np.argsort(-found.rank_items(met([3]))[0]), [0, 1, 2, 3])


class Nobody:
    """Ranks items by their number and every event's item last."""

    def predict_events(self, histories: Histories) -> EventPredictions:
        events = len(histories.items)
        rank = np.full(events, 1000)
        return EventPredictions(np.ones((events, 1), np.float32), rank, np.full(events, 9.0))

    def rank_items(self, contexts: Histories) -> NDArray[np.float64]:
        scores = np.tile(-np.arange(40.0), (len(contexts), 1))
        for row, items in zip(
            scores, np.split(contexts.items, contexts.offsets[1:-1]), strict=True
        ):
            row[items] = -np.inf
        return scores


@pytest.fixture(scope="module")
def data(planted_log: InteractionLog) -> QualityData:
    return FitData.of(planted_log, None, 0).quality(0)


def test_the_model_is_compared_with_the_best_of_the_baselines(data: QualityData) -> None:
    test = data.test
    bootstrap = UserBootstrap(len(test), 0)
    card = choice_quality(Nobody(), Nobody().predict_events(test), data, test, bootstrap)
    names = ["popularity", "item_knn", "ease"]
    for measure, difference in card["difference"].items():
        best = max(names, key=lambda name: card[name][measure])
        assert difference["against"] == best
        assert difference["mean"] == pytest.approx(
            card["model"][measure] - card[best][measure], abs=1e-12
        )
    # Neighbours tell comets from ferns, popularity cannot.
    assert card["item_knn"]["half_ndcg@10"] > card["popularity"]["half_ndcg@10"] + 0.1
    assert card["item_knn"]["ndcg@10_low"] <= card["item_knn"]["ndcg@10"]


def test_settings_are_chosen_on_validation_users(
    data: QualityData, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = quality_choice._tuned_knn(data)
    assert chosen.settings["shrinkage"] in KNN_SHRINKAGES
    assert chosen.settings["neighbours"] in KNN_NEIGHBOURS
    # Of a hopeless shrinkage and number of neighbours, and good ones, the good ones win.
    monkeypatch.setattr(quality_choice, "KNN_SHRINKAGES", (1e12, 1.0))
    monkeypatch.setattr(quality_choice, "KNN_NEIGHBOURS", (1, 30, 2))
    found = quality_choice._tuned_knn(data)
    assert found.settings == {"shrinkage": 1.0, "neighbours": 30}

    def fit(of: tuple[float, int]) -> ItemScorer:
        return ItemScorer.item_knn(data.fitting, data.catalogue.popularity, *of)

    tried = ((1e12, 1), (1.0, 1), (1.0, 2), (1.0, 30))
    gains = [quality_choice._best(data, fit, [of])[0] for of in tried]
    assert max(gains) == gains[-1]
