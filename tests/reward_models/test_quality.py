"""The model's measures and its baselines, on users whose truth is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.reward_models import choice_baselines, feedback_baselines
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.choice_baselines import ItemScorer
from audience.reward_models.collaborative import explicit_als
from audience.reward_models.histories import Histories
from audience.reward_models.quality import (
    EventPredictions,
    QualityData,
    quality,
    tune_als,
    tune_ease,
)
from audience.reward_models.quality_choice import halves
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.signals import Signals

ITEMS = 40
VALUES = (1.0, 2.0, 3.0, 4.0, 5.0)


def planted(rng: np.random.Generator, users: int) -> Histories:
    """Two tastes: a user meets mostly items of one half and rates them high, others low."""
    events = []
    for user in range(users):
        weight = np.where(np.arange(ITEMS) % 2 == user % 2, 4.0, 1.0)
        items = rng.choice(ITEMS, size=12 + user % 5, replace=False, p=weight / weight.sum())
        high = items % 2 == user % 2
        levels = np.clip(np.where(high, 3, 1) + rng.integers(-1, 2, len(items)), 0, 4)
        events.append(list(zip(items.tolist(), levels.tolist(), strict=True)))
    return Histories.from_lists(events)


def make_data(scale: FeedbackScale, sizes: tuple[int, int, int] = (150, 30, 40)) -> QualityData:
    rng = np.random.default_rng(0)
    parts = [planted(rng, users) for users in sizes]
    if len(scale) == 1:
        parts = [dataclasses.replace(part, levels=0 * part.levels) for part in parts]
    values = [np.array(scale.values)[part.levels] for part in parts]
    counts = np.bincount(parts[0].items, minlength=ITEMS)
    names = np.arange(ITEMS).astype(np.str_)
    catalogue = Catalogue(names, names, counts, np.full(ITEMS, 3.0))
    return QualityData(
        parts[0], values[0], parts[1], values[1], parts[2], values[2], scale, catalogue, seed=1
    )


@pytest.fixture(scope="module")
def data() -> QualityData:
    return make_data(FeedbackScale(VALUES))


Card = dict[str, Any]


class Oracle:
    """Knows each user's taste; `wrong` gives the opposite, `constant` the same to all."""

    def __init__(self, kind: str = "right", levels: int = 5) -> None:
        self.kind, self.levels = kind, levels

    def predict_events(self, histories: Histories) -> EventPredictions:
        user = np.repeat(np.arange(len(histories)), histories.lengths)
        high = (histories.items % 2 == user % 2) ^ (self.kind == "wrong")
        if self.kind == "constant":
            high[:] = True
        centre = np.where(high, 3, 1) * (self.levels - 1) // 4
        near = np.abs(np.arange(self.levels) - centre[:, None]) <= 1
        shares = (near / near.sum(1, keepdims=True)).astype(np.float32)
        rank = np.where(high, 0, 30).astype(np.int64)
        return EventPredictions(shares, rank, np.full(len(user), 2.5))

    def rank_items(self, contexts: Histories) -> NDArray[np.float32]:
        items, _, lengths = contexts.padded()
        odd = [(row[:n] % 2).mean() > 0.5 for row, n in zip(items, lengths, strict=True)]
        side = np.array(odd) ^ (self.kind == "wrong")
        scores = (np.arange(ITEMS) % 2 == side[:, None]).astype(np.float32)
        for row, own, n in zip(scores, items, lengths, strict=True):
            row[own[:n]] = -np.inf
        return scores


@pytest.fixture(scope="module")
def right(data: QualityData) -> Card:
    return quality(Oracle(), data)


def test_the_true_model_beats_every_baseline_and_the_opposite_loses(
    data: QualityData, right: Card
) -> None:
    wrong = quality(Oracle("wrong"), data)
    better, worse = right["feedback"]["difference"], wrong["feedback"]["difference"]
    assert better["rmse"]["high"] < 0 < worse["rmse"]["low"]
    assert better["nll"]["high"] < 0 < worse["nll"]["low"]
    assert worse["auc"]["high"] < 0 and worse["gauc"]["high"] < 0
    assert right["feedback"]["model"]["auc"] > right["feedback"]["user_item_mean"]["auc"] + 0.1
    for part, names in (
        ("feedback", {"model", "user_item_mean", "als", "item_knn", "difference", "curves"}),
        ("choice", {"model", "popularity", "item_knn", "ease", "difference"}),
    ):
        assert set(right[part]) == names
    # ALS and the neighbours find the two tastes; the user-and-item mean (AUC .52) cannot.
    for name in ("als", "item_knn"):
        assert right["feedback"][name]["auc"] > right["feedback"]["user_item_mean"]["auc"] + 0.1
    assert right["choice"]["ease"]["half_ndcg@10"] > (
        right["choice"]["popularity"]["half_ndcg@10"] + 0.05
    )
    assert right["choice"]["difference"]["ndcg@10"]["against"] in ("item_knn", "ease")
    assert wrong["choice"]["difference"]["half_ndcg@10"]["high"] < 0


def test_figures_are_those_of_the_events_from_the_sixth_on(data: QualityData, right: Card) -> None:
    found = right
    test = data.test
    place = np.arange(len(test.items)) - np.repeat(test.offsets[:-1], test.lengths)
    at = place >= 5
    predictions = Oracle().predict_events(test)
    expected = predictions.shares[at] @ np.array(VALUES)
    rmse = np.sqrt(np.mean((expected - data.test_values[at]) ** 2))
    assert found["feedback"]["model"]["rmse"] == pytest.approx(rmse, rel=1e-6)
    assert found["feedback"]["model"]["nll"] == pytest.approx(np.log(3), rel=1e-6)
    assert found["choice"]["model"]["nll"] == pytest.approx(2.5)
    assert found["measured"] == {"users": 40, "events": int(at.sum()), "first_event": 6}
    user = np.repeat(np.arange(40), test.lengths)
    hits = [np.mean(predictions.choice_rank[at & (user == u)] < 10) for u in range(40)]
    assert found["choice"]["model"]["hit@10"] == pytest.approx(np.mean(hits))
    model = found["feedback"]["model"]
    for measure in ("rmse", "nll", "auc", "gauc"):
        assert model[f"{measure}_low"] <= model[measure] <= model[f"{measure}_high"]


def test_errors_are_measured_on_original_values(data: QualityData) -> None:
    moved = dataclasses.replace(data, test_values=data.test_values + 10)
    assert quality(Oracle(), moved)["feedback"]["model"]["rmse"] > 9


def test_a_constant_score_has_auc_one_half(data: QualityData) -> None:
    found = quality(Oracle("constant"), data)["feedback"]["model"]
    assert found["auc"] == found["gauc"] == 0.5


def test_the_seed_decides_everything(data: QualityData, right: Card) -> None:
    assert quality(Oracle(), data) == right
    other = quality(Oracle(), dataclasses.replace(data, seed=2))
    assert other["choice"]["model"] != right["choice"]["model"]


def test_baselines_are_fitted_on_fitting_users_only(data: QualityData, right: Card) -> None:
    shuffled = np.random.default_rng(0).permutation(data.test_values)
    first = right["feedback"]["als"]["settings"]
    moved = dataclasses.replace(data, test_values=shuffled)
    assert quality(Oracle(), moved)["feedback"]["als"]["settings"] == first


def test_an_implicit_log_has_choice_only() -> None:
    found = quality(Oracle(levels=1), make_data(FeedbackScale((1.0,))))
    assert found["feedback"] is None
    assert found["choice"]["model"]["ndcg@10"] > 0


def test_leaving_is_measured_where_the_log_has_sessions_and_the_model_learned_it(
    data: QualityData, right: Card
) -> None:
    assert right["leave"] is right["slates"] is right["dwell"] is None

    def ends(histories: Histories) -> NDArray[np.bool_]:
        """Users leave after a low level."""
        return histories.levels < 2

    class Leaving(Oracle):
        def predict_leaves(self, histories: Histories, slates: object) -> NDArray[np.float64]:
            assert slates is None
            return np.where(ends(histories), 0.9, 0.1)

    parts: dict[str, Histories] = {
        name: getattr(data, name) for name in ("fitting", "validation", "test")
    }
    signals = {
        name: Signals(None, ends(of), None, None, np.zeros((len(of), 0), np.float32))
        for name, of in parts.items()
    }
    known = dataclasses.replace(data, signals=signals)
    assert quality(Oracle(), known)["leave"] is None
    leave = quality(Leaving(), known)["leave"]
    assert leave["model"]["auc"] == 1 and leave["model"]["nll"] == pytest.approx(-np.log(0.9))
    assert leave["difference"]["nll"]["high"] < 0


def test_users_with_few_events_drop_out(data: QualityData) -> None:
    short = data.test.first(5)
    keep = np.arange(len(data.test.items)) - np.repeat(data.test.offsets[:-1], data.test.lengths)
    few = dataclasses.replace(data, test=short, test_values=data.test_values[keep < 5])
    found = quality(Oracle(), few)
    assert found == {
        "feedback": None,
        "choice": None,
        "leave": None,
        "slates": None,
        "dwell": None,
        "measured": {"users": 0, "events": 0, "first_event": 6},
    }


def test_without_usable_validation_users_the_fitting_users_tune(data: QualityData) -> None:
    short = data.validation.first(2)
    bare = dataclasses.replace(data, validation=short, validation_values=np.ones(len(short.items)))
    assert quality(Oracle(), bare)["feedback"]["als"]["rmse"] < 1.2


def test_tuned_settings_are_those_of_the_baselines(data: QualityData, right: Card) -> None:
    found = right
    assert tune_ease(data) == found["choice"]["ease"]["settings"]["l2"]
    chosen = found["feedback"]["als"]["settings"]
    if chosen["factors"] == feedback_baselines.ALS_FACTORS[0]:
        assert tune_als(data, int(chosen["factors"])) == chosen["penalty"]
    assert tune_als(data, 2) in feedback_baselines.ALS_PENALTIES


def test_wrong_predictions_are_refused(data: QualityData) -> None:
    class Short(Oracle):
        def predict_events(self, histories: Histories) -> EventPredictions:
            found = super().predict_events(histories)
            return dataclasses.replace(found, choice_rank=found.choice_rank[1:])

    class Unsure(Oracle):
        def predict_events(self, histories: Histories) -> EventPredictions:
            found = super().predict_events(histories)
            return dataclasses.replace(found, shares=found.shares / 2)

    with pytest.raises(ValueError, match="finite choice_rank of shape"):
        quality(Short(), data)
    with pytest.raises(ValueError, match="misses 1 by 0.5"):
        quality(Unsure(), data)
    with pytest.raises(ValueError, match="test_values must hold one value for each"):
        dataclasses.replace(data, test_values=data.test_values[1:])


def test_fold_in_is_one_ridge_regression_on_the_earlier_events(
    data: QualityData, monkeypatch: pytest.MonkeyPatch
) -> None:
    als = explicit_als(data.fitting, data.fitting_values, ITEMS, factors=3, penalty=2.0)
    monkeypatch.setattr(feedback_baselines, "CELLS", 16 * 30)  # a chunk of two or three users
    found = feedback_baselines.fold_in(als, data.test, data.test_values)
    base = als.mean + als.item_bias
    for user in (0, 7, 39):
        start = data.test.offsets[user]
        for place in (0, 1, 9):
            items = data.test.items[start : start + place]
            x = als.design[items]
            y = data.test_values[start : start + place] - base[items]
            taste = np.linalg.solve(x.T @ x + np.diag(als.precision), x.T @ y)
            item = data.test.items[start + place]
            expected = base[item] + als.design[item] @ taste
            assert found[start + place] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("cells", [choice_baselines.CELLS, 3 * ITEMS])
@pytest.mark.parametrize("head", [ITEMS, 25])
def test_next_ranks_are_those_of_the_whole_history(
    data: QualityData, monkeypatch: pytest.MonkeyPatch, cells: int, head: int
) -> None:
    monkeypatch.setattr(choice_baselines, "CELLS", cells)
    monkeypatch.setattr(choice_baselines, "LINEAR_ITEMS", head)
    ease = ItemScorer.ease(data.fitting, data.catalogue.popularity, 100.0)
    assert len(ease.head) == head
    found = ease.next_ranks(data.test)
    for user in (0, 11):
        start, end = data.test.offsets[user : user + 2]
        for event in (start, start + 6, end - 1):
            context = data.test.take(np.array([user])).first(event - start)
            scores = ease.rank_items(context)[0]
            own = scores[data.test.items[event]]
            ties = (np.isclose(scores, own, rtol=1e-5, atol=1e-9)).sum() - 1
            assert found[event] == pytest.approx((scores > own).sum(), abs=ties + 0.5)


def test_popularity_ranks_by_hand() -> None:
    scorer = ItemScorer.popularity(np.array([0.4, 0.3, 0.2, 0.1]))
    # Item 3 is last of four; then item 1 is second of 0, 1, 2; then item 2 second of 0, 2.
    ranks = scorer.next_ranks(Histories.from_lists([[(3, 0), (1, 0), (2, 0)], [(0, 0)]]))
    np.testing.assert_array_equal(ranks, [3, 1, 1, 0])


def test_halves_share_no_event_and_keep_the_order(data: QualityData) -> None:
    shown, hidden = halves(data.test, seed=0)
    np.testing.assert_array_equal(shown.lengths, (data.test.lengths + 1) // 2)
    for user in range(len(data.test)):
        start, end = data.test.offsets[user : user + 2]
        whole = data.test.items[start:end].tolist()
        parts = [
            half.items[half.offsets[user] : half.offsets[user + 1]].tolist()
            for half in (shown, hidden)
        ]
        assert sorted(sum(parts, [])) == sorted(whole)
        for part in parts:
            assert part == [item for item in whole if item in part]


def test_a_catalogue_too_large_for_neighbours_leaves_them_out(
    data: QualityData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback_baselines, "CELLS", 10)
    assert quality(Oracle(), data)["feedback"]["item_knn"] is None
