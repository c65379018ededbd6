"""Multinomial logit: level probabilities that are linear in features before the softmax."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

RIDGE = 1e-4
"""Of the softmax regression's weights, a mean event."""


@dataclass(frozen=True, eq=False)
class SoftmaxRegression:
    """Multinomial logit of standardised features.

    Attributes:
        weights: Shape (features + 1, levels); the last row is the intercept.
        centre: Mean of each feature, shape (features,).
        spread: Its standard deviation, shape (features,).
    """

    weights: F64
    centre: F64
    spread: F64

    @classmethod
    def fit(cls, x: F64, levels: I64, n_levels: int, seed: int) -> SoftmaxRegression:
        """Fit by likelihood; `seed` is not used, as nothing is drawn.

        Args:
            x: Features of each event, shape (events, features).
            levels: Shape (events,).
            n_levels: Levels of the scale.
            seed: Of no effect.
        """
        centre, spread = x.mean(0), np.maximum(x.std(0), 1e-6)
        z = np.column_stack([(x - centre) / spread, np.ones(len(x))])
        rows = np.arange(len(levels))

        def loss(free: F64) -> tuple[float, F64]:
            weights = free.reshape(-1, n_levels)
            logits = z @ weights
            surprise = -log_softmax(logits, 1)[rows, levels].mean()
            missed = softmax(logits, 1)
            missed[rows, levels] -= 1
            gradient = z.T @ missed / len(rows) + 2 * RIDGE * weights
            return float(surprise + RIDGE * np.square(free).sum()), gradient.ravel()

        start = np.zeros((z.shape[1], n_levels))
        start[-1] = np.log((np.bincount(levels, minlength=n_levels) + 0.5) / (len(levels) + 0.5))
        found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 150})
        return cls(found.x.reshape(-1, n_levels), centre, spread)

    def probabilities(self, x: F64) -> F64:
        """Probability of each level, (events, features) to (events, levels)."""
        z = (x - self.centre) / self.spread
        # Not by BLAS, whose last bits depend on the number of rows.
        return softmax(np.einsum("ef,fl->el", z, self.weights[:-1]) + self.weights[-1], axis=1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it consists of."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
