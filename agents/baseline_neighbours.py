"""Neighbours who are users, and neighbours by what the items' texts say."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from audience.agents.baseline_events import F32, F64, I64, event_matrix, liking, prior_of
from audience.agents.tuning import TunedAgent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.collaborative import LINEAR_ITEMS
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

CELLS = 20_000_000
"""Numbers that a block of work may hold: 80 MB of float32."""


class UserKNNAgent(TunedAgent):
    """What the most similar fitting users met (Herlocker et al., SIGIR 1999; here by cosine).

    Similarity to a user is w . v / (|w| |v| + shrinkage), over the weights of the session's and
    of that user's events; an item's score sums the similarities of those who met it, each
    times their own event's weight. An event weighs 1 + emphasis x liking of its level.

    Args:
        events: Liking of each fitting user's events, sparse, shape (fitting users, items).
        prior: Score of each item without events, shape (items,).
        liking: Of each level, 0 on average, shape (levels,).
        neighbours: Fitting users who count, the most similar ones.
        shrinkage: What few events in common count less by, in events.
        emphasis: Of the feedback; 0 counts every event alike.
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "neighbours": (30, 100),
        "shrinkage": (0.0, 20.0),
        "emphasis": (0.0, 1.0, 2.5),
    }
    """On MovieLens (228 fitting users) NDCG@10 is .50 to .51 with 15 to 50 neighbours."""
    SCORING: ClassVar[frozenset[str]] = frozenset(GRID)

    def __init__(
        self,
        events: sp.csr_matrix,
        prior: F32,
        liking: F64,
        neighbours: int = 200,
        shrinkage: float = 0.0,
        emphasis: float = 0.0,
        slate_size: int = 1,
    ) -> None:
        super().__init__(events.shape[1], slate_size)
        self.events, self.prior, self.liking = events, prior, liking
        self.neighbours, self.shrinkage, self.emphasis = neighbours, shrinkage, emphasis
        self._theirs = events.copy()
        self._theirs.data = 1 + np.float32(emphasis) * self._theirs.data
        self._lengths = np.sqrt(np.asarray(self._theirs.power(2).sum(1))).ravel()  # of vectors

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        neighbours: int = 200,
        shrinkage: float = 0.0,
        emphasis: float = 0.0,
    ) -> UserKNNAgent:
        """Keep the fitting users' events."""
        likes = liking(histories, scale)
        items, levels, lengths = histories.padded()
        events = event_matrix(items, lengths, likes[levels], len(catalogue))
        known = prior_of(histories, catalogue), likes
        return cls(events, *known, neighbours, shrinkage, emphasis, slate_size)

    def scores(self, items: I64, levels: I64, lengths: I64) -> NDArray[np.floating[Any]]:
        """Sums over neighbours, shape (n, items)."""
        weights = 1 + self.emphasis * self.liking[levels]
        own = event_matrix(items, lengths, weights, self.n_items)
        scores = np.tile(self.prior, (len(items), 1))
        step = max(1, CELLS // max(len(self._lengths), 1))
        for at in range(0, len(items), step):
            part = own[at : at + step]
            norm = np.sqrt(np.asarray(part.power(2).sum(1)))  # (part, 1)
            # Norms of users in common are above 0: the floor is for users without events.
            similar = (part @ self._theirs.T).toarray() / np.maximum(
                norm * self._lengths + self.shrinkage, 1e-6
            )
            similar[similar < _last_of(similar, self.neighbours)] = 0.0
            scores[at : at + step] += sp.csr_matrix(np.maximum(similar, 0.0)) @ self._theirs
        return scores


class TextKNNAgent(TunedAgent):
    """Items whose texts are like those of the session's events: no other user's events count.

    Score: the sum over events of (1 + emphasis x liking) x cosine of the text vectors, less
    their mean, for the `neighbours` nearest items of each; and `popularity` times the logarithm
    of the item's share of events, for likeness alone finds items that nobody meets.

    Args:
        vectors: Of the items' texts, less their mean, of length 1 or 0, shape (items, dim).
        log_popularity: Shape (items,).
        prior: Score of each item without events, shape (items,).
        liking: Of each level, 0 on average, shape (levels,).
        neighbours: Nearest items of an event that get its vote.
        popularity: Weight of the items' popularity.
        emphasis: Of the feedback; 0 counts every event alike.
        slate_size: Items at a step.
    """

    GRID: ClassVar[dict[str, tuple[Any, ...]]] = {
        "neighbours": (100, 300),
        "popularity": (0.1, 0.5, 2.0),
        "emphasis": (0.0, 2.0),
    }
    """On MovieLens (228 fitting users, half of whole histories as context) NDCG@10 is .17, .26 and
    .40 at a popularity of .3, 1 and 3; sessions are shorter, and need less to outweigh them."""
    SCORING: ClassVar[frozenset[str]] = frozenset({"popularity", "emphasis"})
    USES_TEXT: ClassVar[bool] = True

    def __init__(
        self,
        vectors: F32,
        log_popularity: F32,
        prior: F32,
        liking: F64,
        neighbours: int = 300,
        popularity: float = 0.1,
        emphasis: float = 0.0,
        slate_size: int = 1,
    ) -> None:
        super().__init__(len(vectors), slate_size)
        self.vectors, self.log_popularity, self.prior = vectors, log_popularity, prior
        self.liking, self.neighbours = liking, neighbours
        self.popularity, self.emphasis = popularity, emphasis

    @classmethod
    def fit(
        cls,
        histories: Histories,
        catalogue: Catalogue,
        scale: FeedbackScale,
        slate_size: int = 1,
        neighbours: int = 300,
        popularity: float = 0.1,
        emphasis: float = 0.0,
        text_vectors: NDArray[np.floating] | None = None,
    ) -> TextKNNAgent:
        """Take the vectors; without any, those of TF-IDF on the catalogue's texts.

        Raises:
            ValueError: `text_vectors` has not one row an item.
        """
        vectors = checked_vectors(text_vectors, catalogue)
        vectors = vectors - vectors.mean(0)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = np.where(norms > 1e-6, vectors / np.maximum(norms, 1e-6), 0.0).astype(np.float32)
        known = prior_of(histories, catalogue), liking(histories, scale)
        logs = np.log(catalogue.popularity).astype(np.float32)
        return cls(unit, logs, *known, neighbours, popularity, emphasis, slate_size)

    def scores(self, items: I64, levels: I64, lengths: I64) -> NDArray[np.floating[Any]]:
        """Sums over events, shape (n, items)."""
        events = event_matrix(items, lengths, 1 + self.emphasis * self.liking[levels], self.n_items)
        scores = self.prior + np.float32(self.popularity) * self.log_popularity
        if self.n_items <= LINEAR_ITEMS:
            return np.asarray((events @ self._all).todense() + scores)
        met = np.unique(events.indices)  # of a large catalogue, only what was met
        return np.asarray((events[:, met] @ self._nearest(met)).todense() + scores)

    @cached_property
    def _all(self) -> sp.csr_matrix:
        return self._nearest(np.arange(self.n_items))

    def _nearest(self, items: NDArray[Any]) -> sp.csr_matrix:
        """Cosine of these items with their neighbours, shape (len(items), n_items)."""
        step = max(1, CELLS // self.n_items)
        blocks = [sp.csr_matrix(np.zeros((0, self.n_items), np.float32))]
        for at in range(0, len(items), step):
            part = items[at : at + step]
            cosine = self.vectors[part] @ self.vectors.T
            cosine[np.arange(len(part)), part] = 0.0
            cosine[cosine < np.maximum(_last_of(cosine, self.neighbours), 0.0)] = 0.0
            blocks.append(sp.csr_matrix(cosine))
        return sp.csr_matrix(sp.vstack(blocks))


def checked_vectors(
    vectors: NDArray[np.floating] | None, catalogue: Catalogue
) -> NDArray[np.float64]:
    """Text vectors of the items, shape (items, dim); of TF-IDF where none are given.

    Raises:
        ValueError: There is not one row an item.
    """
    if vectors is None:
        from audience.reward_models.text_encoders import TfidfEncoder

        vectors = TfidfEncoder().encode(catalogue.texts.tolist())
    if vectors.ndim != 2 or len(vectors) != len(catalogue):
        raise ValueError(
            f"text_vectors must have one row for each of the {len(catalogue)} items of the "
            f"catalogue, got shape {vectors.shape}; pass the user model's text_vectors, or None"
        )
    return np.asarray(vectors, np.float64)


def _last_of(values: NDArray[Any], count: int) -> NDArray[Any]:
    """The `count`-th largest number of each row, shape (rows, 1); the smallest of fewer."""
    count = min(count, values.shape[1])
    return np.partition(values, -count, axis=1)[:, [-count]]
