"""What the collaborative filters read of a session: a weight an event, by its feedback."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TIE_BREAK = 1e-6
"""Weight of an item's share of events beside the other scores. It decides only between equal
ones, and so for users of whom nothing is known: they are recommended what is popular."""


def liking(histories: Histories, scale: FeedbackScale) -> F64:
    """How much better than the mean of these events each level is, shape (levels,).

    The scaled value (0…1) less its mean over the events, so that their mean is 0.
    """
    mean = scale.scaled[histories.levels].mean() if len(histories.items) else scale.scaled.mean()
    return np.asarray(scale.scaled - mean, np.float64)


def prior_of(histories: Histories, catalogue: Catalogue) -> F32:
    """What breaks ties between items: their share of the events times TIE_BREAK, (items,)."""
    counts = np.bincount(histories.items, minlength=len(catalogue))
    return (TIE_BREAK * counts / max(len(histories.items), 1)).astype(np.float32)


def used_places(items: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.bool_]:
    """Which places of left-aligned rows hold an event, shape (n, history)."""
    return np.arange(items.shape[1]) < np.asarray(lengths)[:, None]


def last_events(items: I64, used: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The used places whose item does not come again later in the row, shape (n, history).

    What a user thinks of an item is what they said of it last; it counts once.
    """
    order = np.argsort(np.where(used, items, -1), axis=1, kind="stable")
    ordered = np.take_along_axis(np.where(used, items, -1), order, 1)
    last = np.ones_like(used)
    last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    found = np.zeros_like(used)
    np.put_along_axis(found, order, last, 1)
    return found & used


def event_matrix(
    items: I64, lengths: NDArray[Any], weights: NDArray[Any], n_items: int
) -> sp.csr_matrix:
    """The weight of each item in each session, float32, shape (n, n_items).

    Args:
        items: Catalogue indices, oldest first, shape (n, history).
        lengths: Used places, shape (n,).
        weights: Of each place, shape (n, history).
        n_items: Size of the catalogue.
    """
    counted = last_events(items, used_places(items, lengths))
    rows, places = np.nonzero(counted)
    columns, values = items[rows, places], weights[rows, places].astype(np.float32)
    return sp.csr_matrix((values, (rows, columns)), (len(items), n_items))
