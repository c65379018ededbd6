"""What collaborative filtering knows of a user, as inputs of the behaviour tower.

Everything follows in closed form from sums over the user's events, plain ones and ones that
decay with every event, so it covers the whole history, however long, and one event more is one
addition.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audience.reward_models.collaborative import (
    FORGETTING,
    LINEAR_ITEMS,
    ExplicitFactors,
    ease_matrix,
    explicit_als,
    follower_matrix,
    only_items,
)
from audience.reward_models.histories import Histories

LEVEL_PRIOR = 5.0
"""Pseudo-events with the log's mix of levels that a level histogram starts from."""

DECAYS = (0.5, 0.8, 0.95, 1.0)
"""What a residual keeps of its weight with each further event: a user's mood of the last few
events, and (1) of all of them. Feedback drifts within a user's history; on held-out users the
short memories take 2 % off the RMSE of movielens, 1 % off that of ml-100k."""

REACH = 30
"""Latest events that follower scores are summed over: older ones weigh less than 0.0001."""

FLOOR = 0.02
"""Of the mean top follower score: what lies below is all the same, as its logarithm is noise."""


@dataclass
class Statistics:
    """Sums over the events of several users.

    Attributes:
        gram: Sum of outer products of the items' regressors, shape (users, k, k).
        moment: Sum of regressors times (value - item base), shape (users, k).
        levels: Events of each feedback level, shape (users, levels).
        recent: Decayed sums of (value - item base), and of 1, shape (users, 2, decays).
        ease: EASE score of every item, shape (users, items).
        coming: Follower score of every item, shape (users, items).
        seen: Which items were consumed, shape (users, items), bool.
    """

    gram: Tensor
    moment: Tensor
    levels: Tensor
    recent: Tensor
    ease: Tensor
    coming: Tensor
    seen: Tensor

    def put(self, rows: Tensor, other: Statistics) -> None:
        """Overwrite these rows with another's."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)


class CollaborativeInputs(nn.Module):
    """Explicit ALS, EASE and followers of one or several folds of users, as buffers.

    Cross-fitting needs one fold for each part of the fitting users, fitted on the others; in
    use there is one fold, fitted on all of them.

    Args:
        folds: Number of folds.
        n_items: Size of the catalogue.
        n_levels: Levels of the feedback scale.
        factors: Factors of the explicit ALS.
        linear_items: Items that EASE and followers cover.
    """

    base: Tensor  # (folds, items): mean + item bias
    design: Tensor  # (folds, items, k): [1, item factors]
    precision: Tensor  # (k,)
    noise: Tensor  # (folds,)
    item_levels: Tensor  # (folds, items, levels): log of share over level_shares
    level_shares: Tensor  # (levels,): of all events
    ease: Tensor  # (folds, linear items, linear items)
    followers: Tensor  # (folds, linear items, linear items)
    floor: Tensor  # (folds,): follower scores below it are all the same
    head: Tensor  # (linear items,): catalogue index of each row of ease and followers
    unit: Tensor  # (2,): mean and standard deviation of feedback
    decays: Tensor  # (decays,)

    def __init__(
        self, folds: int, n_items: int, n_levels: int, factors: int, linear_items: int
    ) -> None:
        super().__init__()
        k = 1 + factors
        shapes = {
            "base": (folds, n_items),
            "design": (folds, n_items, k),
            "precision": (k,),
            "noise": (folds,),
            "item_levels": (folds, n_items, n_levels),
            "level_shares": (n_levels,),
            "ease": (folds, linear_items, linear_items),
            "followers": (folds, linear_items, linear_items),
            "floor": (folds,),
            "unit": (2,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("head", torch.arange(linear_items))
        self.register_buffer("decays", torch.tensor(DECAYS))

    @property
    def n_features(self) -> int:
        """Length of a query's feature vector."""
        return 7 + len(DECAYS) + 2 * len(self.level_shares)

    def empty(self, users: int) -> Statistics:
        """The statistics of users without events."""
        _, n_items, k = self.design.shape
        new = self.base.new_zeros
        return Statistics(
            gram=new((users, k, k)),
            moment=new((users, k)),
            levels=new((users, len(self.level_shares))),
            recent=new((users, 2, len(DECAYS))),
            ease=new((users, n_items)),
            coming=new((users, n_items)),
            seen=torch.zeros((users, n_items), dtype=torch.bool, device=self.base.device),
        )

    def query_features(
        self,
        gram: Tensor,
        moment: Tensor,
        levels: Tensor,
        recent: Tensor,
        items: Tensor,
        fold: Tensor,
        timed: Tensor,
    ) -> Tensor:
        """What is known of the feedback on an item before it is given.

        Args:
            gram: Shape (..., k, k), of the user's earlier events.
            moment: Shape (..., k).
            levels: Shape (..., levels).
            recent: Shape (..., 2, decays).
            items: The item asked about, shape (..., n).
            fold: Shape (...), broadcast over n.
            timed: Whether the events stand in time order, shape (...), bool: else nothing is
                recent.

        Returns:
            Shape (..., n, n_features): estimate and its standard deviation, the item's base,
            the user's bias, log number of events, recent residuals, log odds of levels of item
            and user.
        """
        eye = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
        right = torch.cat([moment[..., None], eye.expand_as(gram)], -1)
        solved = torch.linalg.solve(gram + self.precision * eye, right)
        taste, covariance = solved[..., 0], solved[..., 1:]  # (..., k), (..., k, k)
        fold = fold[..., None].expand(items.shape)
        x = self.design[fold, items]  # (..., n, k)
        base = self.base[fold, items]
        mean, std = self.unit
        estimate = base + (x * taste[..., None, :]).sum(-1)
        variance = ((x @ covariance) * x).sum(-1).clamp(min=0)
        count = levels.sum(-1)
        shares = (levels + LEVEL_PRIOR * self.level_shares) / (count + LEVEL_PRIOR)[..., None]
        bias = (taste[..., 0] / std)[..., None].expand(items.shape)
        flag = timed.to(base.dtype)
        scalars = [
            (estimate - mean) / std,
            variance.sqrt() * self.noise[fold] / std,
            (base - mean) / std,
            bias,
            (count.log1p() / 4)[..., None].expand(items.shape),
            (estimate - mean) / std * bias,
            flag[..., None].expand(items.shape),
        ]
        mood = recent[..., 0, :] / (recent[..., 1, :] + 1) / std * flag[..., None]
        of_user = torch.cat([mood, (shares / self.level_shares).log()], -1)
        of_user = of_user[..., None, :].expand(*items.shape, -1)
        return torch.cat([torch.stack(scalars, -1), self.item_levels[fold, items], of_user], -1)

    def event_sums(
        self, items: Tensor, levels: Tensor, level_values: Tensor, fold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What each event adds to gram, moment and levels, and its residual; (...) to (..., *)."""
        x = self.design[fold, items]
        residual = level_values[levels] - self.base[fold, items]
        onehot = nn.functional.one_hot(levels, len(self.level_shares)).to(x.dtype)
        return x[..., :, None] * x[..., None, :], x * residual[..., None], onehot, residual

    def linear_rows(self, matrix: Tensor, items: Tensor, fold: Tensor) -> Tensor:
        """What each event adds to the scores of `ease` or `followers`: (...) to (..., items)."""
        n_items = self.base.shape[1]
        if len(self.head) == n_items:
            return matrix[fold, items]
        place = torch.full((n_items,), -1, device=items.device)
        place[self.head] = torch.arange(len(self.head), device=items.device)
        row = place[items]
        known = matrix[fold, row.clamp(min=0)] * (row >= 0)[..., None]
        rows = known.new_zeros((*items.shape, n_items))
        rows[..., self.head] = known
        return rows

    def add(
        self, statistics: Statistics, rows: Tensor, items: Tensor, levels: Tensor, values: Tensor
    ) -> None:
        """Add one event to each of these users (in place); one fold in use."""
        fold = torch.zeros_like(items)
        gram, moment, onehot, residual = self.event_sums(items, levels, values, fold)
        statistics.gram[rows] += gram
        statistics.moment[rows] += moment
        statistics.levels[rows] += onehot
        added = torch.stack([residual, torch.ones_like(residual)], -1)[..., None]
        statistics.recent[rows] = statistics.recent[rows] * self.decays + added
        statistics.ease[rows] += self.linear_rows(self.ease, items, fold)
        coming = statistics.coming[rows] * FORGETTING
        statistics.coming[rows] = coming + self.linear_rows(self.followers, items, fold)
        statistics.seen[rows, items] = True

    def of(
        self, items: Tensor, levels: Tensor, lengths: Tensor, level_values: Tensor
    ) -> Statistics:
        """The statistics of users with these events; rows (users, width), left-aligned."""
        fold = torch.zeros_like(items)
        place = torch.arange(items.shape[1], device=items.device)
        used = place < lengths[:, None]
        weight = used.to(self.base.dtype)
        age = (lengths[:, None] - 1 - place).clamp(min=0)
        gram, moment, onehot, residual = self.event_sums(items, levels, level_values, fold)
        seen = self.empty(len(items)).seen
        rows = torch.nonzero(used)[:, 0]
        seen[rows, items[used]] = True
        fading = weight[..., None] * self.decays ** age[..., None]  # (users, width, decays)
        recent = torch.stack([(fading * residual[..., None]).sum(1), fading.sum(1)], 1)
        # Rows of EASE are added where they are few; many are one matrix product.
        if items.shape[1] <= 64:
            ease = (self.linear_rows(self.ease, items, fold) * weight[..., None]).sum(1)
        else:
            ease = torch.zeros_like(seen, dtype=self.base.dtype)
            ease[:, self.head] = seen[:, self.head].to(self.base.dtype) @ self.ease[0]
        last = (lengths[:, None] - 1 - torch.arange(REACH, device=items.device)).clamp(
            min=-1
        )  # places of the latest events, -1 where there are fewer
        fresh = (last >= 0) * FORGETTING ** torch.arange(REACH, device=items.device)
        coming = torch.zeros_like(ease)
        if items.shape[1]:
            latest = items.gather(1, last.clamp(min=0))
            moved = self.linear_rows(self.followers, latest, torch.zeros_like(latest))
            coming = (moved * fresh[..., None]).sum(1)
        return Statistics(
            gram=(gram * weight[..., None, None]).sum(1),
            moment=(moment * weight[..., None]).sum(1),
            levels=(onehot * weight[..., None]).sum(1),
            recent=recent,
            ease=ease,
            coming=coming,
            seen=seen,
        )

    @classmethod
    def fit(
        cls,
        parts: list[tuple[Histories, NDArray[np.float64]]],
        n_items: int,
        level_values: NDArray[np.float64],
        *,
        factors: int,
        penalty: float,
        ease_l2: float,
        seed: int,
        timed: bool = True,
    ) -> CollaborativeInputs:
        """Fit one fold on each part: (histories, values of their events).

        Args:
            parts: The folds' users.
            n_items: Size of the catalogue.
            level_values: Value of each level, shape (levels,).
            factors: Of the explicit ALS.
            penalty: Of the explicit ALS.
            ease_l2: Of EASE.
            seed: Of the explicit ALS.
            timed: Whether events stand in time order; else nothing follows anything.
        """
        counts = np.bincount(np.concatenate([h.items for h, _ in parts]), minlength=n_items)
        head = np.sort(np.argsort(-counts, kind="stable")[:LINEAR_ITEMS])
        n_levels = len(level_values)
        inputs = cls(len(parts), n_items, n_levels, factors, len(head))
        inputs.head.copy_(torch.from_numpy(head))
        every = np.concatenate([values for _, values in parts])
        shares = np.bincount(np.concatenate([h.levels for h, _ in parts]), minlength=n_levels)
        shares = (shares + 1.0) / (shares + 1.0).sum()
        inputs.level_shares.copy_(torch.from_numpy(shares))
        inputs.unit.copy_(torch.tensor([every.mean(), max(every.std(), 1e-6)]))
        for fold, (histories, values) in enumerate(parts):
            als = explicit_als(histories, values, n_items, factors, penalty=penalty, seed=seed)
            inputs._set_factors(fold, als)
            table = np.bincount(
                histories.items * n_levels + histories.levels, minlength=n_items * n_levels
            ).reshape(n_items, n_levels)
            table = (table + LEVEL_PRIOR * shares) / (table.sum(1, keepdims=True) + LEVEL_PRIOR)
            inputs.item_levels[fold] = torch.from_numpy(np.log(table / shares))
            part = only_items(histories, head, n_items)
            inputs.ease[fold] = torch.from_numpy(ease_matrix(part, len(head), ease_l2))
            if timed:
                followers = follower_matrix(part, len(head))
                inputs.followers[fold] = torch.from_numpy(followers)
                inputs.floor[fold] = max(FLOOR * _mean_top(part, followers), 1e-9)
        return inputs

    def _set_factors(self, fold: int, als: ExplicitFactors) -> None:
        self.base[fold] = torch.from_numpy(als.mean + als.item_bias)
        self.design[fold] = torch.from_numpy(als.design)
        self.precision.copy_(torch.from_numpy(als.precision))
        self.noise[fold] = als.noise


def _mean_top(histories: Histories, followers: NDArray[np.float32], events: int = 512) -> float:
    """Mean highest follower score before some events, spread evenly over the log."""
    place = np.arange(len(histories.items)) - np.repeat(histories.offsets[:-1], histories.lengths)
    rows = np.flatnonzero(place > 0)
    rows = rows[:: max(1, len(rows) // events)]
    if not len(rows):
        return 1.0
    lag = np.arange(1, REACH + 1)
    weight = np.where(lag <= place[rows][:, None], FORGETTING ** (lag - 1.0), 0.0)
    before = histories.items[np.maximum(rows[:, None] - lag, 0)]  # (rows, lags)
    history = sp.csr_matrix(
        (weight.ravel(), (np.repeat(np.arange(len(rows)), REACH), before.ravel())),
        (len(rows), len(followers)),
    )
    return float((history @ followers).max(1).mean())
