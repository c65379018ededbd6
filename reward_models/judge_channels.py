"""What a judge's choice is made of: weights between items, each read off who met what, or texts.

A channel's score of an item is the sum, over the events of a history, of the weight between the
two items, fading with each further event.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from audience.reward_models.collaborative import (
    LINEAR_ITEMS,
    ease_matrix,
    follower_matrix,
    interaction_matrix,
)
from audience.reward_models.histories import Histories

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Channels = tuple[F32, tuple[float, ...]]
"""Weights between items, [item met, item to come], and what a history's events keep of theirs with
each further event: a channel for each."""

WALK_BETA = 0.6
"""Power of popularity that a walk's end is divided by."""

NEVER = (1.0,)
"""No forgetting."""

LATELY = (0.8,)
"""What texts keep of an event with each further one."""

ALL_AND_LATELY = (1.0, 0.9)
"""From all that was met, and from what was met of late."""

FOLLOWED = (0.5, 0.9)
"""What followers keep, at two paces."""

NEXT_REACH, NEXT_KEPT = 3, (0.0, 0.7)
"""Events after an item that count as next to it: sequential rules of the last event alone, and of
the last few."""

WIDE_REACH, WIDE_KEPT = 40, (0.9,)
"""The same of what comes in the same sitting, whatever the order in it."""

WIDE_POWER = 0.5
"""Power of the distance that what comes in a sitting is divided by."""

PRECEDED = (0.7,)
"""What predecessors keep: an item that is usually met before those of late, and was not, is
passed over."""


def head_of(popularity: F64) -> NDArray[np.int64]:
    """The most frequent items, those that weights cover, ascending."""
    return np.sort(np.argsort(-popularity, kind="stable")[:LINEAR_ITEMS]).astype(np.int64)


def ease_channel(events: Histories, n_items: int, l2: float) -> Channels:
    """EASE's weights (Steck, WWW 2019)."""
    return ease_matrix(events, n_items, l2), NEVER


def cosine_channel(events: Histories, n_items: int) -> Channels:
    """Cosine of the items' users, each weighing less the more they met."""
    met = interaction_matrix(events, n_items)
    share = 1 / np.sqrt(np.maximum(np.asarray(met.sum(1)).ravel(), 1))
    common = np.asarray((met.T @ (sp.diags(share) @ met)).todense())
    size = np.sqrt(np.maximum(np.diag(common), 1e-6))
    return _no_diagonal(common / np.outer(size, size)), ALL_AND_LATELY


def walk_channel(events: Histories, n_items: int) -> Channels:
    """Chance that a walk item - user - item ends at an item, over its popularity to a power.

    RP3beta: Paudel et al., "Updatable, accurate, diverse, and scalable recommendations for
    interactive applications", ACM TiiS 2016.
    """
    met = interaction_matrix(events, n_items)
    common = np.maximum(np.asarray(met.sum(0)).ravel(), 1)
    share = 1 / np.maximum(np.asarray(met.sum(1)).ravel(), 1)
    paths = np.asarray((met.T @ (sp.diags(share) @ met)).todense(), np.float64)
    return _no_diagonal(paths / common[:, None] / common**WALK_BETA), ALL_AND_LATELY


def order_channels(events: Histories, n_items: int) -> list[Channels]:
    """How much oftener an item follows another, or precedes it, than its popularity says.

    All of these instead of followers alone tell the next event of ml-100k's validation users 1.2 %
    better (NLL 5.119 to 5.057, NDCG@10 .150 to .155), beside EASE and texts.
    """
    followers = follower_matrix(events, n_items)
    wide = follower_matrix(events, n_items, WIDE_REACH, WIDE_POWER)
    return [
        (followers, FOLLOWED),
        (np.ascontiguousarray(followers.T), PRECEDED),
        (follower_matrix(events, n_items, NEXT_REACH), NEXT_KEPT),
        (wide, WIDE_KEPT),
    ]


def text_channel(vectors: F32, head: NDArray[np.int64]) -> Channels:
    """Squared cosine of the items' texts to those met of late."""
    return _no_diagonal(np.maximum(vectors[head] @ vectors[head].T, 0) ** 2), LATELY


def _no_diagonal(weights: NDArray[np.floating]) -> F32:
    """An item says nothing of itself."""
    weights[np.diag_indices(len(weights))] = 0
    return weights.astype(np.float32)


def rounded(weights: NDArray[np.floating]) -> F32:
    """As a directory keeps them: of half precision, which halves what a judge takes on disk."""
    return weights.astype(np.float16).astype(np.float32)
