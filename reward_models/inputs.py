"""What collaborative filtering knows of a user, as inputs of the behaviour tower.

Everything follows in closed form from sums over the user's events, so it covers the whole
history, however long, and one event more is one addition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audience.reward_models.collaborative import ExplicitFactors, ease_matrix, explicit_als
from audience.reward_models.histories import Histories

MAX_EASE_ITEMS = 4096
"""EASE inverts a matrix of this order (seconds, 64 MB); rarer items get score 0 from it."""

LEVEL_PRIOR = 5.0
"""Pseudo-events with the log's mix of levels that a level histogram starts from."""


@dataclass
class Statistics:
    """Sums over the events of several users.

    Attributes:
        gram: Sum of outer products of the items' regressors, shape (users, k, k).
        moment: Sum of regressors times (value - item base), shape (users, k).
        levels: Events of each feedback level, shape (users, levels).
        ease: EASE score of every item, shape (users, items).
        seen: Which items were consumed, shape (users, items), bool.
    """

    gram: Tensor
    moment: Tensor
    levels: Tensor
    ease: Tensor
    seen: Tensor

    def put(self, rows: Tensor, other: Statistics) -> None:
        """Overwrite these rows with another's."""
        for name in ("gram", "moment", "levels", "ease", "seen"):
            getattr(self, name)[rows] = getattr(other, name)


class CollaborativeInputs(nn.Module):
    """Explicit ALS and EASE of one or several folds of users, as buffers.

    Cross-fitting needs one fold for each part of the fitting users, fitted on the others; in
    use there is one fold, fitted on all of them.

    Args:
        folds: Number of folds.
        n_items: Size of the catalogue.
        n_levels: Levels of the feedback scale.
        factors: Factors of the explicit ALS.
        ease_items: Items that EASE covers.
    """

    base: Tensor  # (folds, items): mean + item bias
    design: Tensor  # (folds, items, k): [1, item factors]
    precision: Tensor  # (k,)
    noise: Tensor  # (folds,)
    item_levels: (
        Tensor  # (folds, items, levels): log of each level's share, shrunk, over its share of all
    )
    level_shares: Tensor  # (levels,): of all events
    ease: Tensor  # (folds, ease items, ease items)
    head: Tensor  # (ease items,): catalogue index of each row of ease
    unit: Tensor  # (2,): mean and standard deviation of feedback

    def __init__(
        self, folds: int, n_items: int, n_levels: int, factors: int, ease_items: int
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
            "ease": (folds, ease_items, ease_items),
            "unit": (2,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("head", torch.arange(ease_items))

    @property
    def n_features(self) -> int:
        """Length of a query's feature vector."""
        return 6 + 2 * len(self.level_shares)

    def empty(self, users: int) -> Statistics:
        """The statistics of users without events."""
        folds, n_items, k = self.design.shape
        new = self.base.new_zeros
        return Statistics(
            gram=new((users, k, k)),
            moment=new((users, k)),
            levels=new((users, len(self.level_shares))),
            ease=new((users, n_items)),
            seen=torch.zeros((users, n_items), dtype=torch.bool, device=self.base.device),
        )

    def query_features(
        self,
        gram: Tensor,
        moment: Tensor,
        levels: Tensor,
        items: Tensor,
        fold: Tensor,
    ) -> Tensor:
        """What is known of the feedback on an item before it is given.

        Args:
            gram: Shape (..., k, k), of the user's earlier events.
            moment: Shape (..., k).
            levels: Shape (..., levels).
            items: The item asked about, shape (..., n).
            fold: Shape (...), broadcast over n.

        Returns:
            Shape (..., n, n_features): estimate and its standard deviation, the item's base,
            the user's bias, log number of events, log odds of levels of item and user.
        """
        k = gram.shape[-1]
        eye = torch.eye(k, device=gram.device, dtype=gram.dtype)
        posterior = gram + self.precision * eye
        right = torch.cat([moment[..., None], eye.expand_as(gram)], -1)
        solved = torch.linalg.solve(posterior, right)
        taste, covariance = solved[..., 0], solved[..., 1:]  # (..., k), (..., k, k)
        fold = fold[..., None].expand(items.shape)
        x = self.design[fold, items]  # (..., n, k)
        base = self.base[fold, items]
        mean, std = self.unit
        estimate = base + (x * taste[..., None, :]).sum(-1)
        variance = ((x @ covariance) * x).sum(-1).clamp(min=0)
        count = levels.sum(-1)
        shares = (levels + LEVEL_PRIOR * self.level_shares) / (count + LEVEL_PRIOR)[..., None]
        user = (shares / self.level_shares).log()[..., None, :].expand(*items.shape, -1)
        bias = (taste[..., 0] / std)[..., None].expand(items.shape)
        scalars = [
            (estimate - mean) / std,
            variance.sqrt() * self.noise[fold] / std,
            (base - mean) / std,
            bias,
            (count.log1p() / 4)[..., None].expand(items.shape),
            (estimate - mean) / std * bias,
        ]
        return torch.cat([torch.stack(scalars, -1), self.item_levels[fold, items], user], -1)

    def event_sums(
        self, items: Tensor, levels: Tensor, level_values: Tensor, fold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What each event adds to gram, moment and levels; (...) to (..., *)."""
        x = self.design[fold, items]
        residual = level_values[levels] - self.base[fold, items]
        onehot = nn.functional.one_hot(levels, len(self.level_shares)).to(x.dtype)
        return x[..., :, None] * x[..., None, :], x * residual[..., None], onehot

    def ease_rows(self, items: Tensor, fold: Tensor) -> Tensor:
        """What each event adds to the EASE scores: (...) to (..., items)."""
        n_items = self.base.shape[1]
        if len(self.head) == n_items:
            return self.ease[fold, items]
        place = torch.full((n_items,), -1, device=items.device)
        place[self.head] = torch.arange(len(self.head), device=items.device)
        row = place[items]
        known = self.ease[fold, row.clamp(min=0)] * (row >= 0)[..., None]
        rows = known.new_zeros((*items.shape, n_items))
        rows[..., self.head] = known
        return rows

    def add(
        self, statistics: Statistics, rows: Tensor, items: Tensor, levels: Tensor, values: Tensor
    ) -> None:
        """Add one event to each of these users (in place); one fold in use."""
        fold = torch.zeros_like(items)
        gram, moment, onehot = self.event_sums(items, levels, values, fold)
        statistics.gram[rows] += gram
        statistics.moment[rows] += moment
        statistics.levels[rows] += onehot
        statistics.ease[rows] += self.ease_rows(items, fold)
        statistics.seen[rows, items] = True

    def of(
        self, items: Tensor, levels: Tensor, lengths: Tensor, level_values: Tensor
    ) -> Statistics:
        """The statistics of users with these events; rows (users, width), left-aligned."""
        fold = torch.zeros_like(items)
        used = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        weight = used.to(self.base.dtype)
        gram, moment, onehot = self.event_sums(items, levels, level_values, fold)
        seen = self.empty(len(items)).seen
        rows = torch.nonzero(used)[:, 0]
        seen[rows, items[used]] = True
        # Rows of EASE are added where they are few; many are one matrix product.
        if items.shape[1] <= 64:
            ease = (self.ease_rows(items, fold) * weight[..., None]).sum(1)
        else:
            ease = torch.zeros_like(seen, dtype=self.base.dtype)
            ease[:, self.head] = seen[:, self.head].to(self.base.dtype) @ self.ease[0]
        return Statistics(
            gram=(gram * weight[..., None, None]).sum(1),
            moment=(moment * weight[..., None]).sum(1),
            levels=(onehot * weight[..., None]).sum(1),
            ease=ease,
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
    ) -> CollaborativeInputs:
        """Fit one fold on each part: (histories, values of their events)."""
        counts = np.bincount(np.concatenate([h.items for h, _ in parts]), minlength=n_items)
        head = np.sort(np.argsort(-counts, kind="stable")[:MAX_EASE_ITEMS])
        n_levels = len(level_values)
        inputs = cls(len(parts), n_items, n_levels, factors, len(head))
        inputs.head.copy_(torch.from_numpy(head))
        every = np.concatenate([values for _, values in parts])
        shares = np.bincount(
            np.concatenate([h.levels for h, _ in parts]), minlength=n_levels
        ).astype(float)
        shares = (shares + 1) / (shares + 1).sum()
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
            inputs.ease[fold] = torch.from_numpy(_head_ease(histories, head, n_items, ease_l2))
        return inputs

    def _set_factors(self, fold: int, als: ExplicitFactors) -> None:
        self.base[fold] = torch.from_numpy(als.mean + als.item_bias)
        self.design[fold] = torch.from_numpy(als.design)
        self.precision.copy_(torch.from_numpy(als.precision))
        self.noise[fold] = als.noise


def _head_ease(
    histories: Histories, head: NDArray[np.int64], n_items: int, l2: float
) -> NDArray[np.float32]:
    if len(head) == n_items:
        return ease_matrix(histories, n_items, l2)
    place = np.full(n_items, -1)
    place[head] = np.arange(len(head))
    keep = place[histories.items] >= 0
    users = np.repeat(np.arange(len(histories)), histories.lengths)[keep]
    offsets = np.searchsorted(users, np.arange(len(histories) + 1)).astype(np.int64)
    part = Histories(histories.users, offsets, place[histories.items[keep]], histories.levels[keep])
    return ease_matrix(part, len(head), l2)
