"""The feedback scale: ordered levels with values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_LEVELS = 20
"""More distinct values than this are binned by quantile; each bin keeps its mean as its value."""

BINS = MAX_LEVELS // 2
"""Quantile bins of a scale with more values: a tenth of the events each, where ties allow."""

LIKE_FROM = 0.75
"""An event is a *like* from this part of the scale on: 4 of 5 stars, by value; of a binned
scale, by rank."""


@dataclass(frozen=True)
class FeedbackScale:
    """Ordered feedback levels.

    Attributes:
        values: Value of each level, ascending, in the log's own unit, shape (levels,).
        edges: For a binned scale, the upper edge of each level but the last, shape
            (levels - 1,); None where the levels are the distinct values themselves.
    """

    values: tuple[float, ...]
    edges: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.values or list(self.values) != sorted(set(self.values)):
            raise ValueError(
                f"FeedbackScale.values must be ascending and distinct, got {self.values}"
            )
        if self.edges is not None and (
            len(self.edges) != len(self.values) - 1 or list(self.edges) != sorted(set(self.edges))
        ):
            raise ValueError(
                f"FeedbackScale.edges must be ascending and distinct, one fewer than the "
                f"{len(self.values)} values, got {self.edges}"
            )

    @classmethod
    def of(cls, feedback: ArrayLike) -> FeedbackScale:
        """The scale of a log's feedback values, shape (events,)."""
        values = np.asarray(feedback, np.float64)
        distinct = np.unique(values)
        if len(distinct) <= MAX_LEVELS:
            return cls(tuple(distinct.tolist()))
        inner = np.quantile(values, np.arange(1, BINS) / BINS)
        # Where most events tie at the highest value, all quantiles are that value: it must not
        # swallow the lower ones.
        edges = np.unique(np.minimum(inner, distinct[-2]))
        used, level = np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)
        edges = edges[used[:-1]]
        means = np.bincount(level, values) / np.bincount(level)
        # Rounding must not carry the mean of a bin of ties over the bin's edge.
        means[:-1] = np.minimum(means[:-1], edges)
        means[1:] = np.maximum(means[1:], np.nextafter(edges, np.inf))
        return cls(tuple(means.tolist()), tuple(edges.tolist()))

    def __len__(self) -> int:
        return len(self.values)

    def level_of(self, feedback: ArrayLike) -> NDArray[np.int64]:
        """Level of each value: its bin, or the nearest level."""
        values = np.asarray(feedback, np.float64)
        if self.edges is not None:
            return np.searchsorted(np.array(self.edges), values, side="left").astype(np.int64)
        levels = np.array(self.values)
        # The middle of two neighbouring floats rounds to either: never to the upper one.
        middles = np.minimum((levels[1:] + levels[:-1]) / 2, np.nextafter(levels[1:], -np.inf))
        return np.searchsorted(middles, values, side="left").astype(np.int64)

    @property
    def scaled(self) -> NDArray[np.float64]:
        """Value of each level mapped linearly to 0…1, shape (levels,); 1 for a single level."""
        values = np.array(self.values)
        span = values[-1] - values[0]
        return (values - values[0]) / span if span > 0 else np.ones(len(values))

    @property
    def likes(self) -> NDArray[np.bool_]:
        """Which levels are likes, shape (levels,)."""
        if self.edges is not None:
            return (np.arange(len(self)) + 1) / len(self) > LIKE_FROM
        return self.scaled >= LIKE_FROM
