"""Slopes of a conditional logit that hang, linearly, on the state that a history is in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.judge_channels import single
from audience.reward_models.metrics import CELLS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

RIDGE = 1e-3
"""Of the slopes, a mean event: only keeps them finite where scores tell nothing."""

STEPS = 30
"""Of Newton's method at most; about ten are taken."""

SETTLED = 1e-6
"""Nats a mean event that a step must promise, or it is the last."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What was chosen at some events, and what was known.

    Attributes:
        regressors: Of each item, shape (events, slopes, items), of half precision.
        met: Items that cannot be chosen, shape (events, items).
        state: What each history's slopes hang on, shape (events, states); the first is 1.
        item: What was chosen, shape (events,).
    """

    regressors: NDArray[np.float16]
    met: NDArray[np.bool_]
    state: F64
    item: I64

    @classmethod
    def joined(cls, samples: list[Sample]) -> Sample:
        """All of them as one."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(one, name) for one in samples]) for name in names))

    def chunks(self) -> Iterator[Sample]:
        """Parts of no more than CELLS numbers."""
        _, size, n_items = self.regressors.shape
        for at in range(0, len(self.item), chunk := max(1, CELLS // (size * n_items))):
            part = slice(at, at + chunk)
            yield Sample(self.regressors[part], self.met[part], self.state[part], self.item[part])


def fitted_slopes(samples: list[Sample], start: F64) -> F64:
    """Maximum of the penalised likelihood, which is concave, by Newton's method.

    Args:
        samples: Events, in parts (of which no copy is made: they are large).
        start: Where to begin, shape (states, slopes): slopes for each unit of a state.

    Returns:
        Likewise.
    """
    if not any(len(sample.item) for sample in samples):
        return start
    here, (loss, gradient, curvature) = start.ravel(), _derivatives(samples, start)
    for _ in range(STEPS):
        step = np.linalg.solve(curvature, gradient)
        if gradient @ step < 2 * SETTLED:
            break
        there = here - step
        at_there = _derivatives(samples, there.reshape(start.shape))
        while at_there[0] > loss and np.abs(step).max() > 1e-6:
            step = step / 4
            there = here - step
            at_there = _derivatives(samples, there.reshape(start.shape))
        here, (loss, gradient, curvature) = there, at_there
    return here.reshape(start.shape)


def _derivatives(samples: list[Sample], slopes: F64) -> tuple[float, F64, F64]:
    """Mean penalised surprise, its gradient and its second derivatives, in flat slopes."""
    events, (states, size) = sum(len(sample.item) for sample in samples), slopes.shape
    loss, gradient = RIDGE * float(np.square(slopes).sum()) * events, 2 * RIDGE * slopes * events
    curvature = 2 * RIDGE * events * np.eye(states * size).reshape(states, size, states, size)
    for part in (part for sample in samples for part in sample.chunks()):
        x = single(part.regressors)  # (chunk, slopes, items)
        state = part.state  # (chunk, states)
        logits = np.matmul((state @ slopes).astype(np.float32)[:, None], x)[:, 0]
        logits[part.met] = -np.inf
        logits -= logits.max(1, keepdims=True)
        shares = np.exp(logits)
        total = shares.sum(1, keepdims=True)
        rows = np.arange(len(x))
        loss += float(np.sum(np.log(total[:, 0]) - logits[rows, part.item], dtype=np.float64))
        shares /= total
        mean = np.matmul(x, shares[..., None])[..., 0].astype(np.float64)
        gradient = gradient + state.T @ (mean - x[rows, :, part.item])
        square = np.matmul(x * shares[:, None], x.transpose(0, 2, 1)).astype(np.float64)
        square -= mean[:, :, None] * mean[:, None, :]
        outer = (state[:, :, None] * state[:, None, :]).reshape(len(x), -1)
        spread = (outer.T @ square.reshape(len(x), -1)).reshape(states, states, size, size)
        curvature = curvature + spread.transpose(0, 2, 1, 3)
    flat = curvature.reshape(slopes.size, slopes.size)
    return loss / events, gradient.ravel() / events, flat / events
