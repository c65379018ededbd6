"""Named features of histories by which real and simulated ones might be told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

WINDOW = 20
"""Events of a window: short enough that a few hundred users give thousands of rows."""

DIRECTIONS = 16
"""Principal directions of the items' vectors that the recurrent network sees."""

GAPS = (1, 2, 5)
"""Events between two whose texts are compared."""

QUANTILES = (0, 0.25, 0.5, 0.75, 1)

TOPICS = 20
"""Groups of items by their vectors, for counting how many a user visits."""


@dataclass(frozen=True, eq=False)
class ItemFacts:
    """What a discriminator is told of items and levels.

    Attributes:
        scaled: Value of each level, 0…1, shape (levels,).
        popularity: Log of each item's share of events, standardised, shape (items,).
        feedback: Mean feedback of each item, standardised, shape (items,).
        vectors: Unit vectors of the items, or of length 0, shape (items, dim).
        directions: Their principal coordinates, standardised, shape (items, directions).
        topic: Group of each item, shape (items,).
    """

    scaled: F64
    popularity: F64
    feedback: F64
    vectors: F32
    directions: F32
    topic: I64

    @classmethod
    def of(
        cls, catalogue: Catalogue, scale: FeedbackScale, vectors: F32 | None = None, seed: int = 0
    ) -> ItemFacts:
        """Prepare a catalogue.

        Args:
            catalogue: The items.
            scale: The feedback levels.
            vectors: Of the items' texts, shape (items, dim); None or dim 0 where there are none.
            seed: Of the groups.
        """
        n = len(catalogue)
        if vectors is None or vectors.shape[1] == 0 or not np.ptp(vectors, axis=0).any():
            vectors = np.zeros((n, 0), np.float32)
        directions, topic = np.zeros((n, 0), np.float32), np.zeros(n, np.int64)
        if vectors.shape[1]:
            from sklearn.cluster import KMeans

            centred = vectors - vectors.mean(0)
            _, _, axes = np.linalg.svd(centred, full_matrices=False)
            directions = centred @ axes[:DIRECTIONS].T
            directions /= np.maximum(directions.std(0), 1e-6)
            topic = KMeans(min(TOPICS, n), n_init=1, random_state=seed).fit_predict(centred)
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return cls(
            scale.scaled,
            _standard(np.log(catalogue.popularity)),
            _standard(catalogue.mean_feedback),
            vectors.astype(np.float32),
            directions.astype(np.float32),
            topic.astype(np.int64),
        )

    def inputs(self, items: I64, levels: I64) -> F32:
        """What the recurrent network sees of each event, (events,) to (events, inputs)."""
        onehot = np.eye(len(self.scaled))[levels]
        facts = np.stack([self.popularity[items], self.feedback[items]], -1)
        return np.concatenate([onehot, facts, self.directions[items]], -1).astype(np.float32)


def window_features(histories: Histories, facts: ItemFacts) -> tuple[F64, I64, I64]:
    """Features of the windows of each history, beside those of the history as a whole.

    Args:
        histories: None empty.
        facts: What is known of items.

    Returns:
        Features (windows, 2 * features), the user of each window and its first event's place in
        `histories.items`, both (windows,). Windows do not overlap; a shorter one that is left
        over at the end counts only where a history has no other.
    """
    whole = _table(histories, facts)
    lengths = histories.lengths
    count = np.maximum(lengths // WINDOW, 1)
    user = np.repeat(np.arange(len(histories)), count)
    first = np.repeat(np.cumsum(count) - count, count)
    start = histories.offsets[user] + WINDOW * (np.arange(len(user)) - first)
    size = np.minimum(WINDOW, lengths[user])
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    source = np.repeat(start - offsets[:-1], size) + np.arange(offsets[-1])
    parts = Histories(
        histories.users[user], offsets, histories.items[source], histories.levels[source]
    )
    return np.concatenate([_table(parts, facts), whole[user]], 1), user, start


def named_features(histories: Histories, facts: ItemFacts) -> dict[str, F64]:
    """One number a history, (users,); what a history is too short for is NaN, as trees take it.

    Args:
        histories: None empty.
        facts: What is known of items.
    """
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    value = facts.scaled[histories.levels]
    popularity, liked = facts.popularity[histories.items], facts.feedback[histories.items]
    place = np.arange(len(user)) - histories.offsets[user]
    shares = _mean(np.eye(len(facts.scaled))[histories.levels], histories)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(shares > 0, shares * np.log(shares), 0.0).sum(1)
    columns = {
        "mean feedback": _mean(value, histories),
        "spread of feedback": _spread(value, histories),
        "entropy of feedback": entropy,
        "feedback like the event before": _correlation(value[:-1], value[1:], user, histories),
        "same level as the event before": _mean(_same(histories.levels, user), histories),
        "trend of feedback": _correlation(value, place, user, histories),
        "feedback with item mean": _correlation(value, liked, user, histories),
        "feedback with popularity": _correlation(value, popularity, user, histories),
        "mean popularity": _mean(popularity, histories),
        "spread of popularity": _spread(popularity, histories),
        **_quantiles(popularity, user, histories),
        "trend of popularity": _correlation(popularity, place, user, histories),
        "popularity like the event before": _correlation(
            popularity[:-1], popularity[1:], user, histories
        ),
        "mean of item means": _mean(liked, histories),
        "spread of item means": _spread(liked, histories),
        "trend of item means": _correlation(liked, place, user, histories),
        **{f"share of level {k}": share for k, share in enumerate(shares.T)},
    }
    if facts.vectors.shape[1]:
        vectors = facts.vectors[histories.items]
        for gap in GAPS:
            columns[f"text like {gap} before"] = _cosine(vectors, user, histories, gap)
        centre = _mean(vectors.astype(np.float64), histories)
        topic = facts.topic[histories.items]
        visited = np.zeros((len(histories), facts.topic.max() + 1))
        visited[user, topic] = 1
        columns["text like the mean"] = np.linalg.norm(centre, axis=1)
        columns["topics an event"] = visited.sum(1) / histories.lengths
        columns["same topic as the event before"] = _mean(_same(topic, user), histories)
    return columns


def _same(each: I64, user: I64) -> F64:
    """1 where an event is like the same user's event before, else 0, (events,)."""
    same = np.zeros(len(each))
    same[1:] = (each[1:] == each[:-1]) & (user[1:] == user[:-1])
    return same


def _mean(each: NDArray[Any], histories: Histories) -> F64:
    """Mean over each user's events, (events, ...) to (users, ...)."""
    total = np.add.reduceat(each.astype(np.float64), histories.offsets[:-1], axis=0)
    return total / histories.lengths.reshape(-1, *[1] * (each.ndim - 1))


def _spread(each: F64, histories: Histories) -> F64:
    return np.sqrt(np.maximum(_mean(each**2, histories) - _mean(each, histories) ** 2, 0))


def _correlation(a: NDArray[Any], b: NDArray[Any], user: I64, histories: Histories) -> F64:
    """Within users; of neighbouring events where a and b are one shorter than the events."""
    if len(a) < len(user):
        same = user[1:] == user[:-1]
        a, b, user = a[same], b[same], user[1:][same]
    n = len(histories)
    size = np.bincount(user, minlength=n)

    def mean(x: F64) -> F64:
        with np.errstate(invalid="ignore"):
            return np.where(size > 1, np.bincount(user, x, n) / np.maximum(size, 1), np.nan)

    a, b = a - mean(a.astype(float))[user], b - mean(b.astype(float))[user]
    noise = mean(a**2) * mean(b**2)
    return np.where(noise > 1e-12, mean(a * b) / np.sqrt(np.maximum(noise, 1e-12)), np.nan)


def _quantiles(each: F64, user: I64, histories: Histories) -> dict[str, F64]:
    """Of each user's events, by the nearest event."""
    ordered = each[np.lexsort((each, user))]
    first, last = histories.offsets[:-1], histories.lengths - 1
    return {
        f"popularity, quantile {q:g}": ordered[first + np.rint(q * last).astype(np.int64)]
        for q in QUANTILES
    }


def _table(histories: Histories, facts: ItemFacts) -> F64:
    return np.stack(list(named_features(histories, facts).values()), 1)


def _cosine(vectors: F32, user: I64, histories: Histories, gap: int) -> F64:
    """Mean cosine of a user's events that are `gap` apart, NaN where there are none."""
    same = user[gap:] == user[:-gap]
    cosine = (vectors[gap:][same] * vectors[:-gap][same]).sum(1)
    n = len(histories)
    size = np.bincount(user[gap:][same], minlength=n)
    total = np.bincount(user[gap:][same], cosine, n)
    return np.where(size > 0, total / np.maximum(size, 1), np.nan)


def _standard(values: F64) -> F64:
    return (values - values.mean()) / max(float(values.std()), 1e-6)
