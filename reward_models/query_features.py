"""Features of a query: what is known of the feedback on an item before it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audience.reward_models.collaborative import SILENT
from audience.reward_models.user_statistics import Known

if TYPE_CHECKING:
    from audience.reward_models.inputs import CollaborativeInputs

LEVEL_PRIOR = 5.0
"""Pseudo-events with the log's mix of levels that a level histogram starts from."""

BIAS_PRIOR = 5.0
"""Pseudo-events at 0 that a user's mean residual and its spread are shrunk by."""

RECENT_PRIOR = 2.0
"""The same, of a histogram of recent events only."""

LATELY = 2
"""Which of the decays a histogram of recent levels is kept at: it takes 0.8 % off the NLL of
movielens' validation users."""

LEAST_FLOOR = 1e-9
"""Of a fold without events, where all scores are 0."""


def feature_count(decays: int, axes: int, levels: int) -> int:
    """Length of a query's features."""
    return 15 + 2 * len(SILENT) + 2 * decays + axes + 3 * levels


def item_features(inputs: CollaborativeInputs, fold: Tensor | int, items: Tensor) -> Tensor:
    """Those that hang on the item alone: they are looked up where sessions run.

    Args:
        inputs: What they are taken from.
        fold: Fold of each item, of their shape, or of all.
        items: Shape (...).

    Returns:
        Shape (..., 1 + 2 + levels): the item's base, spread and frequency, log odds of levels.
    """
    mean, std = inputs.unit
    base = (inputs.base[fold, items] - mean) / std
    of_item = inputs.item_facts[fold, items], inputs.item_levels[fold, items]
    return torch.cat([base[..., None], *of_item], -1)


@dataclass(frozen=True)
class Scales:
    """What features are measured by.

    Attributes:
        axes: Of the items' texts, the last of the regressors.
        std: Of feedback.
        noise: Of the ALS, in its units, broadcasts to (..., n, 1).
        floors: Of EASE and what comes next, broadcast to (..., n, 2).
        silent: Similarity of a neighbour without opinion, shape (kinds,).
        shares: Of the levels, shape (levels,).
        prior: Events of each level that a histogram starts from, shape (levels,).
    """

    axes: int
    std: Tensor
    noise: Tensor
    floors: Tensor
    silent: Tensor
    shares: Tensor
    prior: Tensor

    @classmethod
    def of(cls, inputs: CollaborativeInputs, fold: Tensor | int) -> Scales:
        """Those of a fold, or of users of several, shape (...)."""
        std, shares = inputs.unit[1], inputs.level_shares
        noise, floors = inputs.noise[fold] / std, inputs.floors[fold].clamp(min=LEAST_FLOOR)
        if isinstance(fold, Tensor):
            noise, floors = noise[..., None, None], floors[..., None, :]
        silent = shares.new_tensor(SILENT)
        return cls(inputs.axes, std, noise, floors, silent, shares, LEVEL_PRIOR * shares)


def query_features(
    known: Known,
    regressors: Tensor,
    of_item: Tensor,
    scales: Scales,
    timed: Tensor | None = None,
) -> Tensor:
    """All features of a query.

    Args:
        known: Of the user's earlier events, shapes (..., n, *) and (..., *).
        regressors: Of the items asked about, shape (..., n, k).
        of_item: Their `item_features`, shape (..., n, *).
        scales: What they are measured by.
        timed: Whether the events stand in time order, shape (...), bool: else nothing is recent.
            None: all do.

    Returns:
        Shape (..., n, n_features): the ALS estimate and its standard deviation, the item's
        base, spread and frequency, the neighbours' opinions and weights, how far the item was
        to be expected, what its text is about and how near that is to what was met of late,
        the user's bias, spread, number of events and recent residuals, log
        odds of levels of item, user and the user's recent events.
    """
    std, covariance = scales.std, known.covariance
    # The user's taste, and the covariance times each regressor; it is symmetric.
    both = torch.cat([known.moment[..., None, :], regressors], -2) @ covariance  # (..., 1 + n, k)
    taste, spread = both[..., :1, :] / std, both[..., 1:, :]
    sums, counts, squares = known.recent.unbind(-2)  # (..., decays), the last without decay
    flag = None if timed is None else timed.to(std.dtype)[..., None]  # (..., 1)
    count, seen = counts[..., -1:], counts + 1
    shrunk = count + BIAS_PRIOR
    own = sums[..., -1:] / shrunk / std
    bias = taste[..., 0, :1]  # (..., 1)
    mood = sums[..., :-1] / seen[..., :-1] / std
    met = known.met / seen[..., None]  # what was met of late, shrunk to nothing
    # A fold may know what goes with an item and nothing of its feedback, and texts say what comes
    # of items that nobody has met: how much to expect these says nothing of their feedback.
    scores, opinion = known.scores * (of_item[..., 2:3] > 0), known.opinion
    recent = counts[..., LATELY, None] + RECENT_PRIOR
    lately = ((known.lately / scales.shares + RECENT_PRIOR) / recent).log()
    if flag is not None:
        mood, met, lately = mood * flag, met * flag[..., None], lately * flag
        always = torch.ones_like(flag)
        scores = scores * torch.cat([always, flag], -1)[..., None, :]
        opinion = opinion * torch.cat(2 * [always, always, flag], -1)[..., None, :]
    levels = known.levels + scales.prior
    of_user = torch.cat(
        [
            bias,
            own,
            ((squares[..., -1:] / std**2 + BIAS_PRIOR) / shrunk).sqrt(),
            count.log1p() / 4,
            torch.ones_like(count) if flag is None else flag,
            mood,
            own,
            (levels / (levels.sum(-1, keepdim=True) * scales.shares)).log(),
            lately,
        ],
        -1,
    )
    base, axes = of_item[..., :1], regressors[..., -scales.axes :]
    estimate = base + (regressors * taste).sum(-1, keepdim=True)
    variance = (spread * regressors).sum(-1, keepdim=True).clamp_(min=0)
    opinion, near = opinion.chunk(2, -1)  # (..., n, kinds)
    of_both = [
        estimate,
        variance.sqrt() * scales.noise,
        base,
        estimate * bias[..., None, :],
        (opinion / std - own[..., None, :] * near) / (near + scales.silent),
        near.log1p(),
        scores,
        over(scores, scales.floors),
        axes,
        axes @ met.transpose(-1, -2),
        of_item[..., 1:],
    ]
    return torch.cat([*of_both, of_user[..., None, :].expand(*of_item.shape[:-1], -1)], -1)


def over(scores: Tensor, floors: Tensor) -> Tensor:
    """Logarithms of scores over their floors, at least 0; they broadcast."""
    return (scores / floors).clamp_(min=1).log_()
