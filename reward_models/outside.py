"""The outside option: how attractive choosing nothing must be for a stated acceptance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

CALIBRATION_USERS, CALIBRATION_SLATES = 512, 4
"""Start histories and slates drawn for each, over which `acceptance` is met."""

BISECTIONS = 60
"""Halvings of a span of 100 nats: more than a float64 resolves."""


def popular_slate_weights(utilities: NDArray[np.floating], popularity: F64, slate_size: int) -> F64:
    """Summed choice weight of slates drawn by popularity from what a user has not consumed.

    Args:
        utilities: Log-probability of each item, -inf where consumed, shape (users, items).
        popularity: Share of each item among all events, shape (items,).
        slate_size: Items of a slate, drawn without replacement.

    Returns:
        Shape (users * CALIBRATION_SLATES,). The draws are part of the definition of
        `acceptance`, so their seed is fixed and not that of any run.
    """
    utilities = utilities.astype(np.float64)
    rng = np.random.default_rng(0)
    weights = []
    for _ in range(CALIBRATION_SLATES):
        # Gumbel's trick: the largest of log-share plus noise are a draw without replacement.
        key = np.log(popularity) + rng.gumbel(size=utilities.shape)
        key[np.isneginf(utilities)] = -np.inf
        slates = np.argpartition(-key, slate_size - 1, axis=1)[:, :slate_size]
        weights.append(np.exp(np.take_along_axis(utilities, slates, 1)).sum(1))
    return np.concatenate(weights)


def outside_utility(weights: F64, acceptance: float) -> float:
    """Utility of choosing nothing at which slates of these weights are accepted this often.

    Args:
        weights: Summed choice weight exp(utility) of each slate, shape (slates,).
        acceptance: Mean of w / (w + exp(utility of nothing)) over the slates, 0…1 (exclusive).
    """
    low, high = -80.0, 20.0  # log-probabilities of a catalogue lie well within
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        accepted = float(np.mean(weights / (weights + np.exp(middle))))
        low, high = (low, middle) if accepted < acceptance else (middle, high)
    return (low + high) / 2
