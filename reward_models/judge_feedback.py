"""What judges know of the feedback on an item, in closed form from a user's earlier events.

Each class of features follows from sums over events: over those before each event of real
histories (`before`), or over all of a history when some items are asked about (`asked`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from audience.reward_models.collaborative import adjusted_cosine, explicit_als
from audience.reward_models.histories import Histories

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEVEL_PRIOR = 5.0
"""Pseudo-events with the log's mix of levels that a level histogram starts from."""

BIAS_PENALTY, ITEM_PENALTY = 5.0, 3.0
"""Pseudo-events at the mean, of a user's and an item's bias."""

NEIGHBOUR_PENALTY = 1.0
"""Similarity of a neighbour without opinion; what item-KNN takes on movielens."""

MOODS = (0.5, 0.8, 0.95)
"""Weights of an event against the one after it: feedback drifts within a user's history."""


@dataclass(frozen=True, eq=False)
class LevelMix:
    """Which levels are given, by all, for an item, and by a user: logs of shrunk shares.

    Attributes:
        shares: Of each level among all events, shape (levels,).
        items: Log of an item's share of each level over that of all, shape (items, levels).
    """

    shares: F64
    items: F64

    @classmethod
    def fit(cls, histories: Histories, n_items: int, n_levels: int) -> LevelMix:
        """Count the fitting users' events."""
        counts = np.bincount(histories.levels, minlength=n_levels)
        shares = np.asarray(counts + 0.5, np.float64) / (len(histories.items) + 0.5 * n_levels)
        cells = histories.items * n_levels + histories.levels
        table = np.bincount(cells, minlength=n_items * n_levels).reshape(n_items, n_levels)
        mixed = (table + LEVEL_PRIOR * shares) / (table.sum(1, keepdims=True) + LEVEL_PRIOR)
        return cls(shares, np.log(mixed / shares))

    def of_user(self, counts: F64) -> F64:
        """Log of a user's share of each level over that of all, (..., levels) to the same."""
        total = counts.sum(-1, keepdims=True)
        return np.log((counts + LEVEL_PRIOR * self.shares) / (total + LEVEL_PRIOR) / self.shares)


@dataclass(frozen=True, eq=False)
class AlsFeatures:
    """Posterior of a Bayesian linear regression on explicit ALS factors, moods and level mixes.

    Attributes:
        level_values: Shape (levels,).
        shares: As in `LevelMix`.
        item_mix: As in `LevelMix.items`.
        base: Mean and item bias, shape (items,).
        design: [1, item factors], shape (items, k).
        precision: Of the prior of a user's k coordinates, shape (k,).
        unit: Mean and standard deviation of feedback, and the noise's, shape (3,).
    """

    level_values: F64
    shares: F64
    item_mix: F64
    base: F64
    design: F64
    precision: F64
    unit: F64

    @classmethod
    def fit(
        cls, histories: Histories, n_items: int, level_values: F64, penalty: float, seed: int
    ) -> AlsFeatures:
        """Fit explicit ALS.

        Args:
            histories: Events of the fitting users.
            n_items: Size of the catalogue.
            level_values: Shape (levels,).
            penalty: Ridge penalty of the factors.
            seed: Of the initial factors.
        """
        mix = LevelMix.fit(histories, n_items, len(level_values))
        values = level_values[histories.levels]
        als = explicit_als(histories, values, n_items, penalty=penalty, seed=seed)
        unit = np.array([values.mean(), max(values.std(), 1e-6), als.noise])
        base, design = als.mean + als.item_bias, als.design
        return cls(level_values, mix.shares, mix.items, base, design, als.precision, unit)

    def before(self, histories: Histories) -> F64:
        """Features of each event from the same user's earlier events, (events, features)."""
        x, onehot = self.design[histories.items], self._onehot(histories.levels)
        residual = self._residual(histories.items, histories.levels)
        moment = earlier(x * residual[:, None], histories)
        moods = moods_before(residual, histories)
        out = np.empty((len(x), 5 + len(MOODS) + 2 * onehot.shape[1]))
        counts = earlier(onehot, histories)
        for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
            own = slice(start, end)  # one user's outer products fit in memory
            gram = np.cumsum(x[own, :, None] * x[own, None, :], axis=0)
            gram = np.concatenate([np.zeros_like(gram[:1]), gram[:-1]])[: end - start]
            query = histories.items[own, None]
            out[own] = self._features(gram, moment[own], counts[own], moods[own], query)[:, 0]
        return out

    def asked(self, items: I64, levels: I64, used: NDArray[np.bool_], query: I64) -> F64:
        """Features of items asked about after whole histories.

        Args:
            items: Shape (users, width).
            levels: Shape (users, width).
            used: Which places are events, shape (users, width).
            query: Items asked about, shape (users, q).

        Returns:
            Shape (users, q, features).
        """
        x = self.design[items] * used[..., None]
        gram = np.einsum("uwi,uwj->uij", x, x)
        residual = self._residual(items, levels)
        moment = np.einsum("uwi,uw->ui", x, residual)
        counts = (self._onehot(levels) * used[..., None]).sum(1)
        return self._features(gram, moment, counts, moods_after(residual, used), query)

    def _features(self, gram: F64, moment: F64, counts: F64, moods: F64, query: I64) -> F64:
        k = len(self.precision)
        posterior = gram + self.precision * np.eye(k)
        right = np.concatenate([moment[..., None], np.broadcast_to(np.eye(k), gram.shape)], -1)
        solved = np.linalg.solve(posterior, right)
        taste, covariance = solved[..., 0], solved[..., 1:]
        x = self.design[query]  # (users, q, k)
        mean, std, noise = self.unit
        estimate = self.base[query] + np.einsum("uqk,uk->uq", x, taste)
        variance = np.einsum("uqi,uij,uqj->uq", x, covariance, x)
        bias = np.broadcast_to((taste[:, :1] / std), query.shape)
        count = np.broadcast_to(np.log1p(counts.sum(-1))[:, None] / 4, query.shape)
        mix = LevelMix(self.shares, self.item_mix)
        user = np.column_stack([moods_of(moods, taste[:, 0]) / std, mix.of_user(counts)])
        user = np.repeat(user[:, None], query.shape[1], axis=1)
        z = (estimate - mean) / std
        scalars = [z, np.sqrt(np.maximum(variance, 0)) * noise / std, bias, count, z * bias]
        return np.concatenate([np.stack(scalars, -1), self.item_mix[query], user], -1)

    def _residual(self, items: I64, levels: I64) -> F64:
        return self.level_values[levels] - self.base[items]

    def _onehot(self, levels: I64) -> F64:
        return np.eye(len(self.level_values))[levels]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it consists of."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, eq=False)
class NeighbourFeatures:
    """Means, moods and opinions of item neighbours: no factors, so no kin of ALS.

    Attributes:
        level_values: Shape (levels,).
        shares: As in `LevelMix`.
        item_mix: As in `LevelMix.items`.
        base: Mean feedback of each item, shrunk, shape (items,).
        item_spread: Standard deviation of it, shrunk, shape (items,).
        item_count: Log of its events, shape (items,).
        similarity: Damped adjusted cosine of items, shape (items, items), float32.
        unit: Mean and standard deviation of feedback, shape (2,).
    """

    level_values: F64
    shares: F64
    item_mix: F64
    base: F64
    item_spread: F64
    item_count: F64
    similarity: NDArray[np.float32]
    unit: F64

    @classmethod
    def fit(
        cls, histories: Histories, n_items: int, level_values: F64, penalty: float, seed: int
    ) -> NeighbourFeatures:
        """Count, average and correlate; `penalty` and `seed` are not used.

        Args:
            histories: Events of the fitting users.
            n_items: Size of the catalogue.
            level_values: Shape (levels,).
            penalty: Of no effect.
            seed: Of no effect.
        """
        mix = LevelMix.fit(histories, n_items, len(level_values))
        values = level_values[histories.levels]
        mean, std = float(values.mean()), max(float(values.std()), 1e-6)
        users = np.repeat(np.arange(len(histories)), histories.lengths)
        bias, base = np.zeros(len(histories)), np.full(n_items, mean)
        for _ in range(4):  # alternating means converge in a few rounds
            base = mean + _shrunk(
                values - mean - bias[users], histories.items, n_items, ITEM_PENALTY
            )
            bias = _shrunk(values - base[histories.items], users, len(histories), BIAS_PENALTY)
        residual = values - base[histories.items] - bias[users]
        spread = np.square(values - base[histories.items])
        item_spread = np.sqrt(
            std**2 + _shrunk(spread - std**2, histories.items, n_items, LEVEL_PRIOR)
        )
        count = np.bincount(histories.items, minlength=n_items)
        return cls(
            level_values,
            mix.shares,
            mix.items,
            base,
            item_spread,
            np.log1p(count),
            adjusted_cosine(histories, residual, n_items),
            np.array([mean, std]),
        )

    def before(self, histories: Histories) -> F64:
        """Features of each event from the same user's earlier events, (events, features)."""
        residual = self._residual(histories.items, histories.levels)
        onehot = np.eye(len(self.level_values))[histories.levels]
        sums = earlier(np.column_stack([residual, residual**2, onehot]), histories)
        moods, out = moods_before(residual, histories), []
        for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
            own, n = slice(start, end), end - start  # one matrix a user
            items = histories.items[own]
            earlier_only = np.tri(n, k=-1, dtype=np.bool_)
            weight = self.similarity[items[:, None], items] * earlier_only  # (n, n)
            opinion = _opinion(weight, residual[own])[:, None]
            out.append(self._features(sums[own], moods[own], opinion, items[:, None])[:, 0])
        return np.concatenate(out) if out else np.zeros((0, 9 + len(MOODS) + 2 * onehot.shape[1]))

    def asked(self, items: I64, levels: I64, used: NDArray[np.bool_], query: I64) -> F64:
        """Features of items asked about; arguments and result as `AlsFeatures.asked`."""
        residual = np.where(used, self._residual(items, levels), 0.0)
        onehot = np.eye(len(self.level_values))[levels] * used[..., None]
        sums = np.column_stack([residual.sum(1), (residual**2).sum(1), onehot.sum(1)])
        weight = self.similarity[query[..., None], items[:, None]] * used[:, None]
        opinion = _opinion(weight, residual[:, None])  # (users, q, 2)
        return self._features(sums, moods_after(residual, used), opinion, query)

    def _features(self, sums: F64, moods: F64, opinion: F64, query: I64) -> F64:
        mean, std = self.unit
        counts = sums[:, 2:]
        n = counts.sum(1)
        bias = (sums[:, 0] / (n + BIAS_PENALTY))[:, None]  # (users, 1)
        spread = np.sqrt((sums[:, 1] + BIAS_PENALTY * std**2) / (n + BIAS_PENALTY))
        weight = opinion[..., 1]
        neighbours = (opinion[..., 0] - bias * weight) / (weight + NEIGHBOUR_PENALTY)
        estimate = self.base[query] + bias + neighbours
        recent = moods_of(moods, bias[:, 0]) / std
        own = np.stack([bias[:, 0] / std, spread / std, np.log1p(n) / 4], -1)
        mix = LevelMix(self.shares, self.item_mix).of_user(counts)
        user = np.column_stack([own, recent, mix])  # (users, ...)
        scalars = [
            (estimate - mean) / std,
            (self.base[query] - mean) / std,
            neighbours / std,
            weight,
            self.item_spread[query] / std + 0 * weight,
            self.item_count[query],
        ]
        user = np.repeat(user[:, None], query.shape[1], axis=1)
        return np.concatenate([np.stack(scalars, -1), self.item_mix[query], user], -1)

    def _residual(self, items: I64, levels: I64) -> F64:
        return self.level_values[levels] - self.base[items]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it consists of."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def earlier(each: F64, histories: Histories) -> F64:
    """Sum over the same user's earlier events, (events, n) to (events, n)."""
    before = np.zeros((len(each) + 1, each.shape[1]))
    np.cumsum(each, axis=0, out=before[1:])
    return before[:-1] - np.repeat(before[histories.offsets[:-1]], histories.lengths, axis=0)


def moods_before(residual: F64, histories: Histories) -> F64:
    """Decayed sums over the same user's earlier events, of residuals and of 1.

    Args:
        residual: Of each event, shape (events,).
        histories: The events.

    Returns:
        Shape (events, moods, 2).
    """
    each = np.stack([residual, np.ones(len(residual))], -1)
    out = np.zeros((len(residual), len(MOODS), 2))
    for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
        for m, decay in enumerate(MOODS if end - start > 1 else ()):
            out[start + 1 : end, m] = lfilter([1.0], [1.0, -decay], each[start : end - 1], axis=0)
    return out


def moods_after(residual: F64, used: NDArray[np.bool_]) -> F64:
    """The same after whole histories, left-aligned (users, width) to (users, moods, 2)."""
    age = np.maximum(used.sum(1)[:, None] - 1 - np.arange(used.shape[1]), 0)
    weight = np.array(MOODS)[:, None] ** age[:, None] * used[:, None]  # (users, moods, width)
    return _opinion(weight, residual[:, None])


def moods_of(sums: F64, bias: F64) -> F64:
    """Recent mean residuals beyond the user's bias, shrunk: (users, moods, 2) to (users, moods)."""
    return (sums[..., 0] - bias[:, None] * sums[..., 1]) / (sums[..., 1] + 1)


def _opinion(weight: NDArray[Any], residual: F64) -> F64:
    """Weighted residuals and the weights' sum, (..., events) to (..., 2)."""
    return np.stack([(weight * residual).sum(-1), weight.sum(-1)], -1)


def _shrunk(values: F64, group: I64, groups: int, penalty: float) -> F64:
    return np.bincount(group, values, groups) / (np.bincount(group, minlength=groups) + penalty)
