"""Ordinal regression: how a predictor of one number gets probabilities of feedback levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

F64 = NDArray[np.float64]

PRIOR_EVENTS = 0.5
"""Pseudo-events of each level, half of them a standard deviation below the mean prediction and
half above: a level never seen keeps a probability, and levels told apart perfectly keep a
finite slope."""


@dataclass(frozen=True)
class OrdinalRegression:
    """Cumulative logit: P(level <= k) = sigmoid(thresholds[k] - slope * x).

    McCullagh, "Regression models for ordinal data", JRSS B 1980.

    Attributes:
        thresholds: Ascending, shape (levels - 1,).
        slope: Of the point prediction.
    """

    thresholds: F64
    slope: float

    @classmethod
    def fit(cls, x: F64, levels: NDArray[np.int64], n_levels: int) -> OrdinalRegression:
        """Fit by maximum likelihood, with a few pseudo-events.

        Args:
            x: Point prediction of each event, shape (events,); there may be none.
            levels: Its level, shape (events,).
            n_levels: Levels of the scale, at least 2.
        """
        if n_levels < 2:
            raise ValueError(f"n_levels must be at least 2, got {n_levels}")
        centre = float(x.mean()) if len(x) else 0.0
        spread = float(x.std()) if len(x) else 0.0
        unit = spread if spread > 1e-6 else 1.0
        z = np.concatenate([(x - centre) / unit, np.repeat([-1.0, 1.0], n_levels)])
        y = np.concatenate([levels, np.tile(np.arange(n_levels), 2)])
        weight = np.concatenate([np.ones(len(x)), np.full(2 * n_levels, PRIOR_EVENTS / 2)])
        share = np.cumsum(np.bincount(y, weight))[:-1] / weight.sum()
        start = np.log(share / (1 - share))
        steps = np.log(np.maximum(np.diff(start), 1e-3))
        found = minimize(
            _loss,
            np.concatenate([start[:1], steps, [1.0]]),
            (z, y, weight / weight.sum()),
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": 500, "gtol": 1e-7, "ftol": 1e-13},
        ).x
        slope = float(found[-1]) / unit
        return cls(_ascending(found[:-1]) + slope * centre, slope)

    def probabilities(self, x: F64) -> F64:
        """Probability of each level, (events,) to (events, levels)."""
        below = expit(self.thresholds - self.slope * x[:, None])
        edge = np.ones((len(x), 1))
        return np.diff(np.hstack([0 * edge, below, edge]), axis=1)


def _ascending(free: F64) -> F64:
    """The first threshold and logarithms of the steps to the next ones, as thresholds."""
    return np.cumsum(np.concatenate([free[:1], np.exp(free[1:])]))


def _loss(free: F64, z: F64, y: NDArray[np.int64], weight: F64) -> tuple[float, F64]:
    """Weighted mean negative log-likelihood and its gradient.

    With F the sigmoid and upper and lower ends a, b: F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)),
    which does not cancel in the tails.
    """
    thresholds, slope = _ascending(free[:-1]), free[-1]
    ends = np.concatenate([[-np.inf], thresholds, [np.inf]])
    upper, lower = ends[y + 1] - slope * z, ends[y] - slope * z
    inside = -np.expm1(lower - upper)
    loss = -weight @ (log_expit(upper) + log_expit(-lower) + np.log(inside))
    up = weight * expit(-upper) / (expit(-lower) * inside)  # d log p / d upper
    down = weight * expit(lower) / (expit(upper) * inside)  # -d log p / d lower
    levels = len(thresholds) + 1
    by_threshold = np.bincount(y, up, levels)[:-1] - np.bincount(y, down, levels)[1:]
    tail = np.cumsum(by_threshold[::-1])[::-1]  # a step moves all later thresholds
    gradient = np.concatenate([tail[:1], tail[1:] * np.exp(free[1:-1]), [-z @ (up - down)]])
    return float(loss), -gradient
