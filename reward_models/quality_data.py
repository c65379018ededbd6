"""What is measured, and on whom: users that a model has not seen, beside those it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.signals import Signals

F64 = NDArray[np.float64]

FIRST_EVENT = 5
"""Index of the first event of a user that is measured: fewer say too little of the user."""


@dataclass(frozen=True)
class EventPredictions:
    """What a model says of each event before it happens.

    Attributes:
        shares: Probability of each feedback level, shape (events, levels), float32.
        choice_rank: Unconsumed items with a higher utility than the one really met, shape
            (events,), int64.
        choice_nll: Minus the log-probability of the item really met, shape (events,).
    """

    shares: NDArray[np.float32]
    choice_rank: NDArray[np.int64]
    choice_nll: NDArray[np.floating]


class EventPredictor(Protocol):
    """What is measured."""

    def predict_events(self, histories: Histories) -> EventPredictions:
        """Predict every event from the same user's earlier events."""
        ...

    def rank_items(self, contexts: Histories) -> NDArray[np.floating]:
        """Utilities given whole histories, consumed items -inf, shape (users, items)."""
        ...


@dataclass(frozen=True, eq=False)
class QualityData:
    """The users that a model was fitted on, tuned on, and has never met.

    Histories hold catalogue items only, none twice for a user, oldest first; values are the
    log's own feedback, one an event.

    Attributes:
        fitting: Events of the fitting users.
        fitting_values: Shape (fitting events,).
        validation: Events of the validation users.
        validation_values: Shape (validation events,).
        test: Events of the test users.
        test_values: Shape (test events,).
        scale: Feedback levels.
        catalogue: Items, with the fitting users' counts.
        seed: Of the baselines, the halves of users' events, and the bootstrap.
        signals: What the log says of the users of "fitting", "validation" and "test" beside
            items and feedback, aligned with their histories; None: nothing.
    """

    fitting: Histories
    fitting_values: F64
    validation: Histories
    validation_values: F64
    test: Histories
    test_values: F64
    scale: FeedbackScale
    catalogue: Catalogue
    seed: int = 0
    signals: dict[str, Signals] | None = None

    def __post_init__(self) -> None:
        for part in ("fitting", "validation", "test"):
            events, values = getattr(self, part).items, getattr(self, f"{part}_values")
            if values.shape != events.shape:
                raise ValueError(
                    f"{part}_values must hold one value for each of the {len(events)} events of "
                    f"{part}, got shape {values.shape}; take them from InteractionLog.values"
                )


def measurable(histories: Histories, values: F64) -> tuple[Histories, F64]:
    """The users with an event to measure, and their values."""
    keep = np.repeat(histories.lengths > FIRST_EVENT, histories.lengths)
    return histories.at_least(FIRST_EVENT + 1), values[keep]


def measured(histories: Histories) -> NDArray[np.bool_]:
    """Which events are measured, shape (events,)."""
    starts = np.repeat(histories.offsets[:-1], histories.lengths)
    return np.arange(len(histories.items)) - starts >= FIRST_EVENT


def tuning_users(data: QualityData) -> tuple[Histories, F64]:
    """Validation users; the fitting users where none of those has an event to measure."""
    validation = measurable(data.validation, data.validation_values)
    return validation if len(validation[0]) else measurable(data.fitting, data.fitting_values)
