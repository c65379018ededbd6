"""What recommendations are like beside their return: pure functions of arrays.

Sessions are rows; `shown` holds catalogue indices and -1 in unused places, shape (sessions,
places), however many slates of whatever size these places were.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


def coverage(counts: I64) -> float:
    """Share of the items, shape (items,), that were recommended at least once."""
    return float((counts > 0).mean())


def gini(counts: I64) -> float:
    """Gini coefficient of counts, shape (items,): 0 where all are equal or there are none."""
    total = counts.sum()
    if total == 0:
        return 0.0
    n = len(counts)
    ranks = np.arange(1, n + 1)
    return float(2 * (ranks * np.sort(counts)).sum() / (n * total) - (n + 1) / n)


def novelty(shown: I64, popularity: F64) -> float:
    """Mean surprise of what was recommended, in bits: -log2 of an item's share of events.

    Mean self-information: Zhou et al., "Solving the apparent diversity-accuracy dilemma of
    recommender systems", PNAS 2010.

    Args:
        shown: Shape (sessions, places).
        popularity: Share of each item among the fitting users' events, shape (items,).
    """
    return float(-np.log2(popularity[shown[shown >= 0]]).mean())


def diversity(shown: I64, vectors: NDArray[np.floating]) -> float:
    """Mean over sessions of one minus the cosine between two of a session's recommendations.

    Intra-list diversity: Ziegler et al., "Improving recommendation lists through topic
    diversification", WWW 2005. The list is the whole session; NaN where none has two places.

    Args:
        shown: Shape (sessions, places).
        vectors: Of the items, of norm 1 or 0, shape (items, dim).
    """
    total, count = _sums(shown, vectors)
    own = _sums(shown, np.square(vectors).sum(1, keepdims=True))[0][:, 0]
    pairs = count * (count - 1)
    alike = (np.square(total).sum(1) - own)[pairs > 0] / pairs[pairs > 0]
    return float(1 - alike.mean()) if len(alike) else float("nan")


def calibration(shown: I64, profile: I64, vectors: NDArray[np.floating]) -> float:
    """Mean over sessions of the cosine between the recommendations' mean vector and the user's.

    What Steck ("Calibrated recommendations", RecSys 2018) asks of genres, asked of the vectors of
    texts: that the recommendations, taken together, be about what the user's own events are
    about. 1 is perfect; 0 is what recommendations that have nothing to do with the user get,
    for vectors are taken from the catalogue's mean. NaN where no session can be told.

    Args:
        shown: Shape (sessions, places).
        profile: The events that a session starts from, shape (sessions, events).
        vectors: Of the items, shape (items, dim).
    """
    centred = vectors - vectors.mean(0)
    ours, theirs = (_sums(items, centred)[0] for items in (shown, profile))
    size = np.sqrt(np.square(ours).sum(1) * np.square(theirs).sum(1))
    told = size > 1e-9
    cosine = (ours * theirs).sum(1)[told] / size[told]
    return float(cosine.mean()) if len(cosine) else float("nan")


def return_from(items: NDArray[np.bool_], chosen: I64, levels: I64, worth: F64) -> F64:
    """Part of each session's return that was earned with some of the items, shape (sessions,).

    Args:
        items: Which items, shape (items,).
        chosen: Catalogue index chosen at each step, -1 for none, shape (sessions, steps).
        levels: Feedback level on it, -1 for none, shape (sessions, steps).
        worth: Reward of each level, shape (levels,).
    """
    counts = (chosen >= 0) & items[chosen]
    return np.where(counts, worth[levels], 0.0).sum(1)


def _sums(items: I64, vectors: NDArray[np.floating]) -> tuple[F64, F64]:
    """Sum of the vectors of each row's items, (rows, dim), and their number, (rows,)."""
    used = items >= 0
    row = np.repeat(np.arange(len(items)), used.sum(1))
    # Rows are few items each: a sparse product adds them without a (rows, places, dim) array.
    met = csr_matrix((np.ones(len(row)), (row, items[used])), (len(items), len(vectors)))
    return np.asarray(met @ np.asarray(vectors, np.float64)), used.sum(1).astype(np.float64)
