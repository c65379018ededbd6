"""Collaborative filters that the user model's choice head is measured against."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.collaborative import (
    LINEAR_ITEMS,
    ease_matrix,
    interaction_matrix,
    only_items,
)
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import CELLS, F64

F32 = NDArray[np.float32]

EASE_L2 = (50.0, 100.0, 200.0, 400.0, 800.0)
KNN_SHRINKAGES = (0.0, 10.0, 50.0, 200.0)
"""Added to the norms of a cosine, in events, tried with the first number of neighbours."""

KNN_NEIGHBOURS = (400, 100, 1600)
"""Items that an item looks at, tried with the best shrinkage."""

POPULARITY = 1e-6
"""Weight of an item's share of events beside the other scores: it only breaks ties."""


@dataclass(frozen=True)
class ItemScorer:
    """Scores of all items: the sum of one row of weights for each event, and a prior.

    Attributes:
        weights: Shape (head, head), zero diagonal.
        head: Catalogue index of each row and column of `weights`, shape (head,).
        prior: Score of each item without events, shape (items,).
        settings: What `weights` were fitted with.
    """

    weights: F32
    head: NDArray[np.int64]
    prior: F64
    settings: dict[str, float] = field(default_factory=dict)

    @classmethod
    def popularity(cls, popularity: F64) -> ItemScorer:
        """By the share of the fitting users' events, shape (items,)."""
        return cls(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), popularity)

    @classmethod
    def ease(cls, fitting: Histories, popularity: F64, l2: float) -> ItemScorer:
        """EASE over the LINEAR_ITEMS most frequent items; `l2` in squared events."""
        head, part = _most_frequent(fitting, popularity)
        weights = ease_matrix(part, len(head), l2)
        return cls(weights, head, POPULARITY * popularity, {"l2": l2})

    @classmethod
    def item_knn(
        cls, fitting: Histories, popularity: F64, shrinkage: float, neighbours: int
    ) -> ItemScorer:
        """Item neighbours by shrunk cosine over users, among the LINEAR_ITEMS most frequent.

        Users in common over (product of the items' norms + shrinkage), as in Ferrari Dacrema,
        Cremonesi & Jannach, RecSys 2019; each item looks at its most similar ones only
        (Deshpande & Karypis, TOIS 2004).

        Args:
            fitting: Events of the fitting users.
            popularity: Share of each item among them, shape (items,).
            shrinkage: In events; what few users have in common counts little.
            neighbours: Items that an item looks at; those tied with the last one count too.
        """
        head, part = _most_frequent(fitting, popularity)
        events = interaction_matrix(part, len(head))
        weights = (events.T @ events).toarray()  # users in common
        norms = np.sqrt(weights.diagonal())
        np.fill_diagonal(weights, 0.0)
        # Norms of items in common are at least 1: the floor is for items without events.
        weights /= np.maximum(np.outer(norms, norms) + shrinkage, 1.0)
        if neighbours < len(head):
            # Of item j, column j: what it looks at.
            weights[weights < np.partition(weights, -neighbours, axis=0)[-neighbours]] = 0.0
        settings = {"shrinkage": shrinkage, "neighbours": neighbours}
        return cls(weights, head, POPULARITY * popularity, settings)

    def rank_items(self, contexts: Histories) -> F32:
        """Scores given whole histories, consumed items -inf, shape (users, items)."""
        events = interaction_matrix(contexts, len(self.prior))
        scores = np.tile(self.prior.astype(np.float32), (len(contexts), 1))
        scores[:, self.head] += events[:, self.head] @ self.weights
        scores[events.nonzero()] = -np.inf
        return scores

    def next_ranks(self, histories: Histories) -> F64:
        """Rank of each event's item among those not consumed before it, shape (events,).

        0 is best; items of the same score share their mean rank. No item twice for a user.
        """
        place = np.full(len(self.prior), -1)
        place[self.head] = np.arange(len(self.head))
        ranks = np.empty(len(histories.items))
        step = max(1, CELLS // len(self.prior))
        for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
            items = histories.items[start:end]
            met = np.full(len(self.prior), len(items))  # when each item is met
            met[items] = np.arange(len(items))
            earlier = np.zeros(len(self.head), np.float32)
            for at in range(0, len(items), step):  # a user's events, as many as fit in memory
                part = items[at : at + step]
                known = place[part] >= 0
                each = np.zeros((1 + len(part), len(self.head)), np.float32)
                each[0] = earlier
                each[1:][known] = self.weights[place[part[known]]]
                each.cumsum(0, out=each)
                scores = np.tile(self.prior.astype(np.float32), (len(part), 1))
                scores[:, self.head] += each[:-1]
                earlier = each[-1]
                scores[met < np.arange(at, at + len(part))[:, None]] = -np.inf
                own = np.take_along_axis(scores, part[:, None], 1)
                above, same = (scores > own).sum(1), (scores == own).sum(1)
                ranks[start + at : start + at + len(part)] = above + (same - 1) / 2
        return ranks


def _most_frequent(fitting: Histories, popularity: F64) -> tuple[NDArray[np.int64], Histories]:
    """The LINEAR_ITEMS most frequent items, and the events with them in their numbers."""
    head = np.sort(np.argsort(-popularity, kind="stable")[:LINEAR_ITEMS])
    return head, only_items(fitting, head, len(popularity))
