"""Measures of predictions, and their bootstrap over users: pure functions of arrays."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]
Measures = dict[str, tuple[float, F64 | None]]
"""Figure of each measure and its bootstrap samples, None where it has no interval."""

RESAMPLES = 1000
"""Of the bootstrap: the ends of a 95 % interval stand on 25 resamples each."""

AUC_RESAMPLES = 200
"""Fewer for the pooled AUC: every resample passes over all events, not over users."""

CALIBRATION_BINS = 15
TOP = 10
"""Places of a ranking that NDCG and hit rate look at."""

CELLS = 4_000_000
"""Numbers in one temporary (32 MB): larger work is cut into chunks."""


class UserBootstrap:
    """Resamples of users with replacement: the same for everything that it measures (paired).

    Args:
        users: Number of users.
        seed: Of the resamples.
        resamples: Number of resamples.
    """

    def __init__(self, users: int, seed: int, resamples: int = RESAMPLES) -> None:
        self.users, self.seed, self.resamples = users, seed, resamples

    @cached_property
    def counts(self) -> NDArray[np.float32]:
        """How often each user stands in each resample, shape (resamples, users)."""
        generator = np.random.default_rng(self.seed)
        counts = np.empty((self.resamples, self.users), np.float32)
        for row in counts:
            row[:] = np.bincount(generator.integers(self.users, size=self.users), None, self.users)
        return counts

    def ratio(self, numerator: NDArray[Any], denominator: NDArray[Any]) -> F64:
        """Sum over sum in each resample, from one number a user; shape (resamples,).

        Users with denominator 0 take no part; a resample of such users only is NaN.
        """
        above, below = (self.counts @ part for part in (numerator, denominator))
        with np.errstate(invalid="ignore"):
            return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)

    def auc(self, scores: F64, positive: NDArray[np.bool_], user: NDArray[np.int64]) -> F64:
        """Pooled AUC in each of the first AUC_RESAMPLES resamples; arguments as `auc`."""
        return _weighted_auc(scores, positive, user, self.counts[:AUC_RESAMPLES])


def interval(samples: F64) -> tuple[float, float]:
    """95 % percentile interval of bootstrap samples; NaN where no sample is defined."""
    defined = samples[np.isfinite(samples)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Probability that a positive scores above a negative, ties half; NaN with one class only.

    Args:
        scores: Shape (events,).
        positive: Shape (events,), bool.
    """
    scores = np.asarray(scores, np.float64)
    one = np.zeros(len(scores), np.int64)
    return float(_weighted_auc(scores, np.asarray(positive, bool), one, np.ones((1, 1)))[0])


def _weighted_auc(
    scores: F64, positive: NDArray[np.bool_], user: NDArray[np.int64], weights: NDArray[np.floating]
) -> F64:
    """AUC with weights (resamples, users) of the events' users, shape (resamples,)."""
    result = np.full(len(weights), np.nan)
    if not len(scores):
        return result
    order = np.argsort(scores, kind="stable")
    ties = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    user, positive = user[order], positive[order]
    chunk = max(1, CELLS // len(scores))
    for at in range(0, len(weights), chunk):
        weight = weights[at : at + chunk][:, user].astype(np.float64)  # (chunk, events)
        above = np.add.reduceat(weight * positive, ties, axis=1)
        below = np.add.reduceat(weight * ~positive, ties, axis=1)
        won = (above * (below.cumsum(1) - below / 2)).sum(1)
        pairs = above.sum(1) * below.sum(1)
        part = result[at : at + chunk]
        part[pairs > 0] = won[pairs > 0] / pairs[pairs > 0]
    return result


def auc_by_user(
    scores: F64, positive: NDArray[np.bool_], user: NDArray[np.int64], users: int
) -> F64:
    """AUC within each user, NaN where all the user's events are of one class; shape (users,).

    By the rank sum of the positives (Mann and Whitney 1947), ties sharing their mean rank.
    """
    order = np.lexsort((scores, user))
    owner, score, liked = user[order], scores[order], positive[order]
    starts = np.flatnonzero(np.diff(owner, prepend=-1) | (np.diff(score, prepend=np.nan) != 0))
    size = np.diff(starts, append=len(order))
    first = np.searchsorted(owner, np.arange(users))  # (users,)
    rank = np.repeat(starts + (size + 1) / 2, size) - first[owner]  # 1-based within the user
    likes = np.bincount(owner, liked, users)
    pairs = likes * (np.bincount(owner, minlength=users) - likes)
    won = np.bincount(owner, rank * liked, users) - likes * (likes + 1) / 2
    return np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)


def reliability(
    probability: F64, happened: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> tuple[F64, F64, NDArray[np.int64]]:
    """Mean predicted and observed share, and the events, of bins of equal mass; each (bins,).

    Args:
        probability: Of the event, shape (events,).
        happened: Shape (events,).
        bins: At most as many as there are events.
    """
    order = np.argsort(probability, kind="stable")
    bins = min(bins, len(order))
    count = len(order) // max(bins, 1) + (np.arange(bins) < len(order) % max(bins, 1))
    starts = count.cumsum() - count
    predicted = np.add.reduceat(probability[order], starts) / count
    observed = np.add.reduceat(happened[order].astype(np.float64), starts) / count
    return predicted, observed, count


def calibration_error(
    probability: F64, happened: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """ECE: mean distance of predicted and observed share over bins of equal mass.

    Arguments as `reliability`; NaN without events.
    """
    predicted, observed, count = reliability(probability, happened, bins)
    gaps = np.abs(predicted - observed) @ count
    return float(gaps / count.sum()) if len(count) else float("nan")


def gain_of_rank(rank: NDArray[np.floating] | NDArray[np.integer], top: int = TOP) -> F64:
    """NDCG of a single relevant item by its rank (0 is best), same shape."""
    return np.where(rank < top, 1 / np.log2(np.asarray(rank, np.float64) + 2), 0.0)


def ranking(
    scores: NDArray[np.floating], relevant: NDArray[np.bool_], top: int = TOP
) -> tuple[F64, F64]:
    """NDCG and hit (any relevant item) at `top` of each user; (users, items) to twice (users,).

    Items with score -inf are not ranked. NaN for a user without a relevant item.
    """
    top = min(top, scores.shape[1])
    best = np.argpartition(-scores, top - 1, axis=1)[:, :top]
    in_order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
    best = np.take_along_axis(best, in_order, 1)  # (users, top)
    found = np.take_along_axis(relevant, best, 1)
    found = found & np.isfinite(np.take_along_axis(scores, best, 1))
    discount = 1 / np.log2(np.arange(top) + 2)
    count = relevant.sum(1)
    ideal = np.concatenate([[np.nan], discount.cumsum()])[np.minimum(count, top)]
    return found @ discount / ideal, np.where(count > 0, found.any(1), np.nan)


def figures(measures: Measures) -> dict[str, Any]:
    """JSON figures: numbers with `_low` and `_high` beside them where there are samples."""
    result: dict[str, Any] = {}
    for name, (figure, samples) in measures.items():
        result[name] = number(figure)
        if samples is not None:
            low, high = interval(samples)
            result |= {f"{name}_low": number(low), f"{name}_high": number(high)}
    return result


def differences(found: dict[str, Measures], lower_is_better: dict[str, bool]) -> dict[str, Any]:
    """Model minus the baseline that is best by each measure, paired over resamples of users."""
    result = {}
    for name, lower in lower_is_better.items():
        sign = 1 if lower else -1
        baselines = [other for other in found if other != "model"]
        best = min(baselines, key=lambda other: _or_worst(sign * found[other][name][0]))
        figure, samples = found["model"][name]
        other, others = found[best][name]
        assert samples is not None and others is not None
        low, high = interval(samples - others)
        result[name] = {
            "mean": number(figure - other),
            "low": number(low),
            "high": number(high),
            "against": best,
        }
    return result


def number(value: float) -> float | None:
    """JSON has no NaN: what is undefined is null."""
    return float(value) if np.isfinite(value) else None


def _or_worst(value: float) -> float:
    """An undefined figure is never the best."""
    return value if np.isfinite(value) else np.inf
