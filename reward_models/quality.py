"""How well a user model predicts users that it has not seen, beside collaborative filters.

Each test user's events from the 6th on are predicted from that user's own earlier events, by
every predictor; what is chosen (penalties, calibration) is chosen on validation users.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from audience.reward_models.metrics import UserBootstrap
from audience.reward_models.quality_choice import choice_quality, tune_ease
from audience.reward_models.quality_data import (
    FIRST_EVENT,
    EventPredictions,
    EventPredictor,
    QualityData,
    measurable,
    measured,
)
from audience.reward_models.quality_feedback import feedback_quality, tune_als
from audience.reward_models.quality_slates import response_quality

__all__ = [
    "EventPredictions",
    "EventPredictor",
    "QualityData",
    "quality",
    "tune_als",
    "tune_ease",
]


def quality(model: EventPredictor, data: QualityData) -> dict[str, Any]:
    """Measure a model and its baselines on test users.

    Figures are numbers, None where undefined (an AUC without a like). A sibling key `_low` and
    `_high` holds the 95 % bootstrap interval over users.

    Args:
        model: Fitted on the fitting users.
        data: All users.

    Returns:
        `feedback` (None on a scale of one level), `choice`, `leave`, `slates`, `dwell` (None
        where the log or the model has none, see `response_quality`) and `measured`, the parts of
        card.json. The first two are None where no test user has more than FIRST_EVENT events.

    Raises:
        ValueError: The model's predictions have a wrong shape, or are no probabilities.
    """
    test, values = measurable(data.test, data.test_values)
    counts = {"users": len(test), "events": int(measured(test).sum())}
    counts["first_event"] = FIRST_EVENT + 1  # counted from 1
    responses = response_quality(model, data)
    if not len(test):
        return {"feedback": None, "choice": None, **responses, "measured": counts}
    predictions = model.predict_events(test)
    _check(predictions, len(test.items), len(data.scale))
    bootstrap = UserBootstrap(len(test), data.seed)
    feedback = None
    if len(data.scale) > 1:
        feedback = feedback_quality(
            predictions.shares.astype(np.float64), data, test, values, bootstrap
        )
    choice = choice_quality(model, predictions, data, test, bootstrap)
    return {"feedback": feedback, "choice": choice, **responses, "measured": counts}


def _check(predictions: EventPredictions, events: int, levels: int) -> None:
    shapes = {"shares": (events, levels), "choice_rank": (events,), "choice_nll": (events,)}
    for name, shape in shapes.items():
        array = getattr(predictions, name)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(
                f"predict_events must return finite {name} of shape {shape}, one row an event, "
                f"got shape {array.shape} with {int((~np.isfinite(array)).sum())} non-finite"
            )
    off = np.abs(predictions.shares.sum(1, dtype=np.float64) - 1).max()
    if off > 1e-3 or predictions.shares.min() < 0:
        raise ValueError(
            f"predict_events must return shares that are probabilities, got a row that misses 1 "
            f"by {off:.3g} and a lowest entry of {predictions.shares.min():.3g}; apply a softmax"
        )
