import numpy as np

from audience.reward_models.rewards import FeedbackReward
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import Response


def test_feedback_is_scaled_by_value_and_nothing_chosen_is_worth_nothing() -> None:
    response = Response(
        choice=np.array([0, -1, 2, 1]),
        item=np.array([4, -1, 5, 6]),
        level=np.array([0, -1, 1, 2]),
        leave=np.zeros(4, np.bool_),
        accept_probability=np.ones(4),
        dwell_seconds=np.full(4, np.nan),
        disagreement=np.zeros(4),
    )
    parts = FeedbackReward()(response, FeedbackScale((1.0, 2.0, 5.0)))
    assert list(parts) == ["feedback"]
    assert parts["feedback"].tolist() == [0.0, 0.0, 0.25, 1.0]
