from typing import Any

import numpy as np
import pytest

from audience.reward_models.rewards import (
    ChoiceReward,
    DiversityReward,
    DwellReward,
    FeedbackReward,
    LikeReward,
    RepetitionPenalty,
    Reward,
    RewardContext,
    StayBonus,
    UncertaintyPenalty,
)
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import Response

TOPICS = np.eye(3)[[0, 0, 1, 1, 2, 2, 2]]
"""Seven items of three topics."""


def answered() -> Response:
    return Response(
        choice=np.array([0, -1, 2, 1]),
        item=np.array([4, -1, 5, 6]),
        level=np.array([0, -1, 1, 2]),
        leave=np.array([False, True, False, True]),
        accept_probability=np.ones(4),
        dwell_seconds=np.array([60.0, np.nan, 0.0, np.nan]),
        disagreement=np.array([0.0, 0.5, 0.25, 1.0]),
    )


def context(slates: Any = None, items: Any = None, lengths: Any = None) -> RewardContext:
    slates = np.zeros((4, 3), np.int64) if slates is None else np.array(slates)
    items = np.zeros((4, 3), np.int64) if items is None else np.array(items)
    lengths = np.zeros(4, np.int64) if lengths is None else np.array(lengths)
    return RewardContext(
        FeedbackScale((1.0, 2.0, 5.0)), slates, items, np.zeros_like(items), lengths
    )


@pytest.mark.parametrize(
    ("reward", "name", "expected"),
    [
        (FeedbackReward(), "feedback", [0, 0, 0.25, 1]),
        (LikeReward(), "like", [0, 0, 0, 1]),
        (ChoiceReward(), "choice", [1, 0, 1, 1]),
        (DwellReward(), "dwell", [1, 0, 0, 0]),
        (StayBonus(), "stay", [1, 0, 1, 0]),
        (UncertaintyPenalty(2.0), "uncertainty", [0, -1, -0.5, -2]),
    ],
)
def test_parts_of_a_response(reward: Reward, name: str, expected: list[float]) -> None:
    parts = reward(answered(), context())
    assert list(parts) == [name]
    assert parts[name].dtype == np.float64 and parts[name].tolist() == expected


def test_diversity_is_one_less_the_mean_cosine_of_pairs() -> None:
    slates = [[0, 1, 0], [0, 2, 4], [0, 1, 2], [6, 5, 4]]
    parts = DiversityReward(TOPICS * 7)(answered(), context(slates))  # norms change nothing
    assert parts["diversity"] == pytest.approx([0, 1, 2 / 3, 0])
    alone = DiversityReward(TOPICS)(answered(), context(np.zeros((4, 1), np.int64)))
    assert alone["diversity"].tolist() == [0, 0, 0, 0]


def test_repetition_is_the_nearness_to_the_last_events() -> None:
    """With one-hot topics, the share of (shown, recent) pairs of one topic."""
    slates = [[0], [0], [2], [3]]
    items = [[1, 1, 2], [2, 1, 0], [2, 3, 0], [4, 5, 3]]
    lengths = [3, 1, 0, 3]
    parts = RepetitionPenalty(2, TOPICS)(answered(), context(slates, items, lengths))
    assert parts["repetition"].tolist() == [-0.5, 0, 0, -0.5]
    longer = RepetitionPenalty(9, TOPICS)(answered(), context(slates, items, lengths))
    assert longer["repetition"] == pytest.approx([-2 / 3, 0, 0, -1 / 3])
    away = RepetitionPenalty(2, -TOPICS + 2 * TOPICS[:1])  # a negative cosine is no bonus
    assert (away(answered(), context(slates, items, lengths))["repetition"] <= 0).all()


def test_vectors_come_from_the_context_where_none_are_given() -> None:
    slates = [[0, 1, 0], [0, 2, 4], [0, 1, 2], [6, 5, 4]]
    own = context(slates)
    known = RewardContext(own.scale, own.slates, own.items, own.levels, own.lengths, lambda: TOPICS)  # type: ignore[arg-type, return-value]
    assert DiversityReward()(answered(), known)["diversity"] == pytest.approx([0, 1, 2 / 3, 0])
    for reward in (DiversityReward(), RepetitionPenalty()):
        with pytest.raises(ValueError, match="pass item_vectors"):
            reward(answered(), own)


def test_rewards_add_up_and_scale() -> None:
    whole = 2.0 * FeedbackReward() + StayBonus() * 0.5 + 3 * (LikeReward() + FeedbackReward())
    parts = whole(answered(), context())
    assert parts["feedback"].tolist() == [0, 0, 5 * 0.25, 5]  # of one name, added
    assert parts["stay"].tolist() == [0.5, 0, 0.5, 0]
    assert parts["like"].tolist() == [0, 0, 0, 3]
    assert isinstance(whole, Reward)
    total = sum([FeedbackReward(), LikeReward()])
    assert set(total(answered(), context())) == {"feedback", "like"}  # type: ignore[operator]


def test_functions_are_rewards_too() -> None:
    def constant(response: Response, context: RewardContext) -> dict[str, np.ndarray]:
        return {"cost": np.full(4, -0.1)}

    for whole in (constant + FeedbackReward(), FeedbackReward() + constant):
        assert set(whole(answered(), context())) == {"cost", "feedback"}


def test_errors() -> None:
    with pytest.raises(TypeError, match="rewards are added to rewards, got 1"):
        FeedbackReward() + 1  # type: ignore[operator]
    with pytest.raises(TypeError, match="rewards are added to rewards, got 0.5"):
        0.5 + FeedbackReward()  # type: ignore[operator]
    with pytest.raises(ValueError, match="finite number, got nan"):
        float("nan") * FeedbackReward()
    with pytest.raises(ValueError, match="finite number, got FeedbackReward"):
        FeedbackReward() * FeedbackReward()  # type: ignore[operator]
    with pytest.raises(ValueError, match="recent must be at least 1 event, got 0"):
        RepetitionPenalty(0)
    with pytest.raises(ValueError, match=r"finite numbers of shape \(items, dim\)"):
        DiversityReward(np.ones(3))
    with pytest.raises(ValueError, match=r"finite numbers of shape \(items, dim\)"):
        DiversityReward(np.full((2, 2), np.nan))
