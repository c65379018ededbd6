"""What a judge's choice is made of: weights between items, each read off who met what, or texts.

A channel's score of an item is the sum, over the events of a history, of the weight between the
two items, fading with each further event.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from audience.reward_models.collaborative import (
    COSINE_DAMPING,
    LINEAR_ITEMS,
    NEXT_REACH,
    SITTING_POWER,
    SITTING_REACH,
    cosine_matrix,
    ease_matrix,
    follower_matrix,
    text_matrix,
    walk_matrix,
    without_diagonal,
)
from audience.reward_models.coming import coming_matrix
from audience.reward_models.histories import Histories

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Channels = tuple[F32, tuple[float, ...]]
"""Weights between items, [item met, item to come], and what a history's events keep of theirs with
each further event: a channel for each."""

NEVER = (1.0,)
"""No forgetting."""

TEXT_KEPT = (0.8,)
"""What texts keep of an event with each further one."""

MIXED_KEPT, TWICE_KEPT = (0.5, 0.8, 0.95), (0.9,)
"""What the mix of all kinds keeps, and the mix in two steps."""

ALL_AND_LATELY = (1.0, 0.9)
"""From all that was met, and from what was met of late."""

FOLLOWED = (0.5, 0.9)
"""What followers keep, at two paces."""

NEXT_KEPT = (0.0, 0.7)
"""What is kept of what comes next to an event: of the last one alone, and of the last few."""

SITTING_KEPT = (0.9,)
"""What is kept of what comes in one sitting."""

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
    return cosine_matrix(events, n_items, COSINE_DAMPING), ALL_AND_LATELY


def walk_channels(events: Histories, n_items: int) -> list[Channels]:
    """Walks from item to user to item; and two in a row, to what is met two users away."""
    walk = walk_matrix(events, n_items)
    return [(walk, ALL_AND_LATELY), (without_diagonal(walk @ walk), ALL_AND_LATELY)]


def order_channels(events: Histories, n_items: int) -> list[Channels]:
    """How much oftener an item follows another, or precedes it, than its popularity says.

    All of these instead of followers alone tell the next event of ml-100k's validation users 1.2 %
    better (NLL 5.119 to 5.057, NDCG@10 .150 to .155), beside EASE and texts.
    """
    followers = follower_matrix(events, n_items)
    sitting = follower_matrix(events, n_items, SITTING_REACH, SITTING_POWER)
    return [
        (followers, FOLLOWED),
        (np.ascontiguousarray(followers.T), PRECEDED),
        (follower_matrix(events, n_items, NEXT_REACH), NEXT_KEPT),
        (sitting, SITTING_KEPT),
    ]


def mixed_channels(events: Histories, vectors: F32, mix: F64) -> list[Channels]:
    """All kinds of what comes next in one sum (`coming.py`), at three paces; and in two steps.

    They take .4 % (half A of movielens) and .6 % (ml-100k) off the NLL that judge als has of
    validation users' next events.
    """
    # Scores count beside a floor in the same unit, so any unit does: one in which two steps stay
    # below 65,504, the largest number of half precision. By a power of two, which rounds nothing.
    mixed = coming_matrix(events, vectors, mix * 2.0 ** -np.ceil(np.log2(mix.sum())))
    return [(mixed, MIXED_KEPT), (without_diagonal(mixed @ mixed), TWICE_KEPT)]


def text_channel(vectors: F32) -> Channels:
    """Squared cosine of the items' texts to those met of late."""
    return text_matrix(vectors), TEXT_KEPT


def rounded(weights: NDArray[np.floating]) -> F32:
    """As a directory keeps them: of half precision, which halves what a judge takes on disk."""
    return single(halved(weights))


def halved(numbers: NDArray[np.floating]) -> NDArray[np.float16]:
    """Of half precision; by torch, which converts several times faster than NumPy."""
    return torch.from_numpy(np.ascontiguousarray(numbers)).half().numpy()


def single(numbers: NDArray[np.float16]) -> F32:
    """Of single precision, likewise."""
    return torch.from_numpy(numbers).float().numpy()


SPAN = 32
"""Events whose sums are taken in one product of matrices."""


def sums_before(each: F32, decays: F64, rows: NDArray[np.int64]) -> F32:
    """Fading sums of what came before some events of one history.

    Args:
        each: What an event adds, shape (events or one less, n).
        decays: What is kept of an event with each further one, shape (decays,).
        rows: Which events are asked about, ascending.

    Returns:
        Shape (rows, decays, n); 0 before the first event.
    """
    found = np.zeros((len(rows), len(decays), each.shape[1]), np.float32)
    kept = (decays[:, None] ** np.arange(SPAN + 1)).astype(np.float32)  # (decays, age)
    carry = np.zeros(found.shape[1:], np.float32)
    for start in range(0, len(each), SPAN):
        part = each[start : start + SPAN]
        first, last = np.searchsorted(rows, [start + 1, start + len(part) + 1])
        into = rows[first:last] - start
        age = into[:, None] - 1 - np.arange(len(part))
        weight = np.where(age >= 0, kept[:, np.maximum(age, 0)], 0)  # (decays, asked, span)
        sums = (weight.reshape(-1, len(part)) @ part).reshape(*weight.shape[:2], each.shape[1])
        sums += kept[:, into, None] * carry[:, None]
        found[first:last] = sums.transpose(1, 0, 2)
        carry = kept[:, len(part), None] * carry + kept[:, len(part) - 1 :: -1] @ part
    return found


def faded(histories: Histories, place: NDArray[np.int64], head: int, decay: float) -> sp.csr_matrix:
    """What whole histories keep of their events, shape (users, head), float32.

    Args:
        histories: Of the users.
        place: Of each item of the catalogue in the head, -1 beyond it, shape (items,).
        head: Items of the head.
        decay: What is kept of an event with each further one.
    """
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    age = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(users))
    at = place[histories.items]
    known = at >= 0
    cells = (decay ** age[known]).astype(np.float32), (users[known], at[known])
    return sp.csr_matrix(cells, (len(histories), head), dtype=np.float32)
