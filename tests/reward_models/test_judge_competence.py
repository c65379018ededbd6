"""When a judge counts as competent, on predictors whose difference is known."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.reward_models.choice_baselines import ItemScorer
from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.judge_competence import (
    DECIDING,
    MEASURES,
    TOLERANCE,
    competence,
    pooled,
)
from audience.reward_models.log import InteractionLog
from audience.reward_models.quality_data import EventPredictions, QualityData


@dataclasses.dataclass
class Predictor:
    """Knows half of every event's level and its item's place.

    Attributes:
        own: Probability of the real level; the others share the rest.
        rank: Rank of the real item.
        nll: Of the real item.
        wrong_half: Whether sets are ranked by the reversed number of the item.
    """

    own: float = 0.5
    rank: int = 2
    nll: float = 3.0
    wrong_half: bool = False

    def predict_events(self, histories: Histories) -> EventPredictions:
        events, levels = len(histories.items), 5
        shares = np.full((events, levels), (1 - self.own) / (levels - 1), np.float32)
        shares[np.arange(events), histories.levels] = self.own
        return EventPredictions(shares, np.full(events, self.rank), np.full(events, self.nll))

    def rank_items(self, contexts: Histories) -> NDArray[np.float64]:
        """Unmet items of the kind that a user met oftenest come first."""
        scores = np.zeros((len(contexts), 40))
        for row, a, b in zip(scores, contexts.offsets[:-1], contexts.offsets[1:], strict=True):
            items = contexts.items[a:b]
            kind = (items % 2).mean() > 0.5
            row[:] = (np.arange(40) % 2 == kind) ^ self.wrong_half
            row[items] = -np.inf
        return scores


@pytest.fixture(scope="module")
def data(planted_log: InteractionLog) -> QualityData:
    data = FitData.of(planted_log, None, 0).quality(0)
    values = (*data.scale.values, 9.0, 10.0)[:5]  # five levels, two of which never occur
    return dataclasses.replace(data, scale=dataclasses.replace(data.scale, values=values))


def test_equals_are_competent_and_the_output_goes_into_a_card(data: QualityData) -> None:
    found = competence(Predictor(), Predictor(), data)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["competent"] and found["tolerance"] == TOLERANCE
    for part, measures in MEASURES.items():
        assert set(found[part]) == set(measures)
        for one in found[part].values():
            assert one["worse"] == one["low"] == one["high"] == 0
            assert one["deciding"] == (part in DECIDING)
    assert found["sentence"].startswith("competent: feedback RMSE 0.0 % better, bound 0.0 %")


@pytest.mark.parametrize(
    ("change", "part", "measure"),
    [
        ({"own": 0.4}, "feedback", "nll"),
        ({"nll": 3.1}, "choice", "nll"),
        ({"rank": 3}, "choice", "ndcg@10"),
    ],
)
def test_what_is_worse_by_more_than_the_tolerance_is_named(
    data: QualityData, change: dict[str, Any], part: str, measure: str
) -> None:
    found = competence(Predictor(**change), Predictor(), data)
    assert not found["competent"] and not found[part][measure]["competent"]
    assert found["sentence"].startswith("not competent: ")
    assert f"{part} {measure.upper()} " in found["sentence"]
    assert competence(Predictor(), Predictor(**change), data)["competent"]


def test_differences_are_relative_to_the_rival(data: QualityData) -> None:
    found = competence(Predictor(nll=3.03, rank=5), Predictor(nll=3.0, rank=2), data)
    one = found["choice"]["nll"]
    # All users are the same, so the interval has no width; 1 % is just allowed.
    for key in ("worse", "low", "high"):
        assert one[key] == pytest.approx(0.01)
    assert found["choice"]["ndcg@10"]["worse"] == pytest.approx(1 - np.log2(4) / np.log2(7))


@dataclasses.dataclass
class Guesser(Predictor):
    """Ranks the real item first or nowhere, by a coin: equals that never agree.

    Attributes:
        seed: Of the coins.
        chance: Of the first place.
    """

    seed: int = 0
    chance: float = 0.5

    def predict_events(self, histories: Histories) -> EventPredictions:
        said = super().predict_events(histories)
        first = np.random.default_rng(self.seed).random(len(histories.items)) < self.chance
        return dataclasses.replace(said, choice_rank=np.where(first, 0, 1000))


def test_equals_are_not_failed_by_the_noise_of_a_ranking(data: QualityData) -> None:
    found = [competence(Guesser(seed=2 * i), Guesser(seed=2 * i + 1), data) for i in range(20)]
    ndcg = [one["choice"]["ndcg@10"] for one in found]
    assert all(one["vetoes"] for one in ndcg)
    assert sum(one["high"] <= TOLERANCE for one in ndcg) <= 6  # the other end would fail them
    assert sum(one["competent"] for one in found) >= 18
    worse = competence(Guesser(seed=0, chance=0.3), Guesser(seed=1), data)
    assert not worse["competent"] and worse["choice"]["ndcg@10"]["low"] > TOLERANCE


def test_half_against_half_is_told_and_does_not_decide(data: QualityData) -> None:
    found = competence(Predictor(wrong_half=True), Predictor(), data)
    assert found["half"]["ndcg@10"]["worse"] > 0.2
    assert not found["half"]["ndcg@10"]["competent"] and not found["half"]["ndcg@10"]["deciding"]
    assert found["competent"]


def test_a_filter_is_compared_on_the_ranking_of_the_next_event(data: QualityData) -> None:
    popularity = ItemScorer.popularity(data.catalogue.popularity)
    found = competence(Predictor(rank=0), popularity, data)
    assert found["competent"] and found["feedback"] is None
    assert set(found["choice"]) == {"ndcg@10"} and not found["choice"]["ndcg@10"]["vetoes"]
    assert not competence(Predictor(rank=1000), popularity, data)["competent"]


def test_a_rival_that_never_ranks_right_leaves_nothing_to_be_worse_than(data: QualityData) -> None:
    found = competence(Predictor(rank=1000), Predictor(rank=1000), data)["choice"]["ndcg@10"]
    assert found["competent"] and found["worse"] is None


def test_without_test_users_no_judge_is_competent(data: QualityData) -> None:
    short = data.test.first(3)
    few = dataclasses.replace(data, test=short, test_values=np.ones(len(short.items)))
    found = competence(Predictor(), Predictor(), few)
    assert not found["competent"] and "no test user" in found["sentence"]
    assert found["feedback"] is found["choice"] is found["half"] is None


def test_seeds_are_pooled_by_their_mean_bounds(data: QualityData) -> None:
    near, far = (competence(Predictor(nll=nll), Predictor(), data) for nll in (3.0, 3.09))
    assert near["competent"] and not far["competent"]
    assert pooled([near]) == near
    both = pooled([near, far])  # equal in one seed and 3 % worse in the other
    assert both["choice"]["nll"]["worse"] == pytest.approx(0.015) and not both["competent"]
    three = pooled([near, near, near, far])
    assert three["competent"] and three["choice"]["nll"]["high"] == pytest.approx(0.0075)
    assert set(three) == set(near) and set(three["choice"]["nll"]) == set(near["choice"]["nll"])
    assert pooled([competence(Predictor(rank=1000), Predictor(rank=1000), data)] * 2)["competent"]
