"""What judges know of the feedback on an item, in closed form from a user's earlier events.

All of it follows from sums over events: over those before each event of real histories
(`before`), or over all of a history when some items are asked about (`asked`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from audience.reward_models.collaborative import (
    COMPANY_DECAY,
    SILENT,
    adjusted_cosine,
    cosine_matrix,
    explicit_als,
)
from audience.reward_models.histories import Histories
from audience.reward_models.judge_channels import rounded
from audience.reward_models.judge_neighbours import UserNeighbours
from audience.reward_models.text_prior import level_prior, with_text_prior

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

LEVEL_PRIOR = 5.0
"""Pseudo-events with the log's mix of levels that a level histogram starts from."""

RECENT_PRIOR = 2.0
"""The same, of a histogram of recent events only."""

BIAS_PRIOR = 5.0
"""Pseudo-events at 0 that a user's mean residual and its spread are shrunk by."""

TEXT_AXES = 8
"""Axes of the items' texts that a user has a taste for, beside the factors."""

MOODS = (0.5, 0.8, 0.95)
"""Weights of an event against the one after it: feedback drifts within a user's history."""


ITEM_PAIRS = ("similarity", "company")
"""What holds a number for each pair of items: of half precision, in a directory too."""


@dataclass(frozen=True, eq=False)
class FeedbackFeatures:
    """Posterior of the user's taste, opinions of neighbours, moods and mixes of levels.

    Taste is a Bayesian linear regression of the user's feedback on [1, factors, text axes]; the
    factors are those of explicit ALS, or none, and then nothing here is of ALS's kin.

    Attributes:
        level_values: Shape (levels,).
        shares: Of each level among all events, shape (levels,).
        item_mix: Log of an item's share of each level over that of all, shape (items, levels).
        base: Mean and item bias, shape (items,).
        facts: Spread of an item's residuals over that of all, and log of its events, (items, 2).
        design: [1, factors, text axes], shape (items, k).
        precision: Of the prior of a user's k coordinates, shape (k,).
        unit: Mean and standard deviation of feedback, and the noise's, shape (3,).
        similarity: Damped adjusted cosine of items, shape (items, items), float32.
        company: Cosine of the items' users, 0 of an item with itself, shape (items, items),
            float32.
        users: Fitting users, whose opinions count as far as they are like the user.
    """

    level_values: F64
    shares: F64
    item_mix: F64
    base: F64
    facts: F64
    design: F64
    precision: F64
    unit: F64
    similarity: NDArray[np.float32]
    company: NDArray[np.float32]
    users: UserNeighbours

    @classmethod
    def fit(
        cls,
        histories: Histories,
        level_values: F64,
        vectors: NDArray[np.float32],
        factors: int,
        penalty: float,
        seed: int,
    ) -> FeedbackFeatures:
        """Fit factors, neighbours and means.

        Args:
            histories: Events of the fitting users.
            level_values: Shape (levels,).
            vectors: Of the items' texts, shape (items, dim).
            factors: Of explicit ALS; 0: none.
            penalty: Ridge penalty of the factors, and of the taste for texts.
            seed: Of the initial factors.
        """
        n_items, n_levels, items = len(vectors), len(level_values), histories.items
        values = level_values[histories.levels]
        counts = np.bincount(histories.levels, minlength=n_levels)
        shares = np.asarray(counts + 0.5, np.float64) / (len(items) + 0.5 * n_levels)
        cells = np.bincount(items * n_levels + histories.levels, minlength=n_items * n_levels)
        mix = level_prior(cells.reshape(n_items, n_levels), shares, vectors, LEVEL_PRIOR)
        als = explicit_als(histories, values, n_items, factors, penalty=penalty, seed=seed)
        als = with_text_prior(als, histories, values, vectors, TEXT_AXES)
        precision = als.precision.copy()
        precision[1:] = penalty
        mean, std = float(values.mean()), max(float(values.std()), 1e-6)
        base = als.mean + als.item_bias
        residual, count = values - base[items], np.bincount(items, minlength=n_items)
        spread = np.bincount(items, residual**2, n_items) + LEVEL_PRIOR * std**2
        spread = np.sqrt(spread / (count + LEVEL_PRIOR)) / std
        users = np.repeat(np.arange(len(histories)), histories.lengths)
        own = np.bincount(users, residual, len(histories)) / (histories.lengths + BIAS_PRIOR)
        return cls(
            level_values,
            shares,
            mix,
            base,
            np.column_stack([spread, np.log1p(count) / 4]),
            als.design,
            precision,
            np.array([mean, std, als.noise]),
            rounded(adjusted_cosine(histories, residual - own[users], n_items)),
            rounded(cosine_matrix(histories, n_items)),
            UserNeighbours.fit(histories, residual, n_items, std),
        )

    def before(self, histories: Histories) -> F64:
        """Features of each event from the same user's earlier events, (events, features)."""
        items = histories.items
        x, each = self.design[items], self._sums(items, histories.levels)
        residual = each[:, 0]
        moment = _earlier(x * residual[:, None], histories)
        plain = _earlier(each, histories)
        parts = []
        for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
            own = slice(start, end)  # one user's matrices fit in memory
            past = x[start : max(end - 1, start)]
            gram = np.zeros((end - start, x.shape[1], x.shape[1]))
            np.cumsum(past[:, :, None] * past[:, None, :], 0, out=gram[1:])
            fading = np.zeros((end - start, len(MOODS), each.shape[1]))
            for m, decay in enumerate(MOODS if end - start > 1 else ()):
                fading[1:, m] = lfilter([1.0], [1.0, -decay], each[start : end - 1], axis=0)
            met = items[own]
            age = np.arange(end - start)[:, None] - 1 - np.arange(end - start)
            opinion = self._opinions(met[:, None], met, age, residual[own])[:, None]
            known = (gram, moment[own], plain[own], fading, opinion)
            of_users = self.users.before(met, residual[own])
            parts.append(np.column_stack([self._features(*known, met[:, None])[:, 0], of_users]))
        if not parts:
            none = np.zeros((0, 1), np.int64)
            return self.asked(none, none, none > 0, none)[:, 0]
        return np.concatenate(parts)

    def asked(self, items: I64, levels: I64, used: NDArray[np.bool_], query: I64) -> F64:
        """Features of items asked about after whole histories.

        Args:
            items: Shape (users, width).
            levels: Shape (users, width).
            used: Which places are events, left-aligned, shape (users, width).
            query: Items asked about, shape (users, q).

        Returns:
            Shape (users, q, features).
        """
        x = self.design[items] * used[..., None]
        each = self._sums(items, levels) * used[..., None]
        gram, moment = np.einsum("uwi,uwj->uij", x, x), np.einsum("uwi,uw->ui", x, each[..., 0])
        age = used.sum(1)[:, None] - 1 - np.arange(used.shape[1])  # below 0 where there is none
        weight = np.array(MOODS)[:, None] ** np.maximum(age, 0)[:, None]  # (users, moods, width)
        fading = np.einsum("umw,uwf->umf", weight, each)
        past = query[..., None], items[:, None], age[:, None], each[:, None, :, 0]
        opinion = self._opinions(*past)  # (users, q, 3, 2)
        own = self._features(gram, moment, each.sum(1), fading, opinion, query)
        return np.concatenate([own, self.users.asked(items, each[..., 0], used, query)], -1)

    def _opinions(self, item: I64, events: I64, age: I64, residual: F64) -> F64:
        """Of three kinds of item neighbours: sums of weight times residual, and of weight.

        Args:
            item: What is asked about, shape (..., 1).
            events: Items met, shape (..., events).
            age: How many events came since each, below 0 where it is still to come, likewise.
            residual: Of each event, shape (..., events).

        Returns:
            Shape (..., 3, 2).
        """
        past = age >= 0
        company = self.company[item, events] * past
        fading = company * COMPANY_DECAY ** np.maximum(age, 0)
        kinds = self.similarity[item, events] * past, company * company, fading
        sums = [(weight * residual).sum(-1) for weight in kinds]
        return np.stack([np.stack(sums, -1), np.stack([w.sum(-1) for w in kinds], -1)], -1)

    def _sums(self, items: I64, levels: I64) -> F64:
        """What is summed over events: residual, its square, 1, level, text axes; (..., f)."""
        residual = self.level_values[levels] - self.base[items]
        of_level = np.eye(len(self.level_values))[levels]
        scalars = np.stack([residual, residual**2, np.ones(items.shape)], -1)
        return np.concatenate([scalars, of_level, self.design[items][..., -TEXT_AXES:]], -1)

    def _features(
        self, gram: F64, moment: F64, plain: F64, fading: F64, opinion: F64, query: I64
    ) -> F64:
        """From sums (users, *), opinions (users, q, 3, 2) and items (users, q)."""
        k, n_levels = len(self.precision), len(self.level_values)
        posterior = gram + self.precision * np.eye(k)
        right = np.concatenate([moment[..., None], np.broadcast_to(np.eye(k), gram.shape)], -1)
        solved = np.linalg.solve(posterior, right)
        taste, covariance = solved[..., 0], solved[..., 1:]
        x = self.design[query]  # (users, q, k)
        mean, std, noise = self.unit
        estimate = (self.base[query] + np.einsum("uqk,uk->uq", x, taste) - mean) / std
        variance = np.einsum("uqi,uij,uqj->uq", x, covariance, x)
        count = plain[:, 2]
        own = plain[:, 0] / (count + BIAS_PRIOR)  # (users,)
        spread = np.sqrt((plain[:, 1] + BIAS_PRIOR * std**2) / (count + BIAS_PRIOR)) / std
        weight = opinion[..., 1]
        near = (opinion[..., 0] - own[:, None, None] * weight) / (weight + SILENT)
        mood = (fading[..., 0] - own[:, None] * fading[..., 2]) / (fading[..., 2] + 1)
        recent = fading[..., 3 : 3 + n_levels] + RECENT_PRIOR * self.shares
        recent = np.log(recent / (fading[..., 2:3] + RECENT_PRIOR) / self.shares)
        mix = plain[:, 3 : 3 + n_levels] + LEVEL_PRIOR * self.shares
        mix = np.log(mix / (count[:, None] + LEVEL_PRIOR) / self.shares)
        of_user = [taste[:, :1] / std, own[:, None] / std, spread[:, None]]
        of_user += [np.log1p(count)[:, None] / 4, mood / std, mix, recent[:, 1], recent[:, 2]]
        user = np.column_stack(of_user)
        met = fading[..., 3 + n_levels :] / (fading[..., 2:3] + 1)  # (users, moods, axes)
        axes = x[..., -TEXT_AXES:]
        bias = np.broadcast_to(own[:, None] / std, query.shape)
        scalars = [
            estimate,
            np.sqrt(np.maximum(variance, 0)) * noise / std,
            estimate * bias,
            (self.base[query] - mean) / std,
        ]
        return np.concatenate(
            [
                np.stack(scalars, -1),
                near / std,
                np.log1p(weight),
                self.facts[query],
                self.item_mix[query],
                axes,
                np.einsum("uqa,uma->uqm", axes, met),
                np.repeat(user[:, None], query.shape[1], axis=1),
            ],
            -1,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it consists of."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "users"}
        own |= {name: own[name].astype(np.float16) for name in ITEM_PAIRS}
        return own | {f"users.{name}": array for name, array in self.users.arrays().items()}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> FeedbackFeatures:
        """The inverse of `arrays`."""
        own = {name: array for name, array in arrays.items() if not name.startswith("users.")}
        own |= {name: own[name].astype(np.float32) for name in ITEM_PAIRS}
        users = {n.removeprefix("users."): a for n, a in arrays.items() if n.startswith("users.")}
        return cls(**own, users=UserNeighbours.of_arrays(users))


def _earlier(each: F64, histories: Histories) -> F64:
    """Sum over the same user's earlier events, (events, n) to (events, n)."""
    before = np.zeros((len(each) + 1, each.shape[1]))
    np.cumsum(each, axis=0, out=before[1:])
    return before[:-1] - np.repeat(before[histories.offsets[:-1]], histories.lengths, axis=0)
