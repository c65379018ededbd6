"""What text is worth for items that a fit has never met: with text, without, and with another's.

A seeded fifth of the catalogue is held out. Its items stay in the catalogue, but no event with
them is seen in fitting, in tuning, or in the history that a prediction starts from: all that is
known of them is their text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.log import SHRINKAGE_EVENTS
from audience.reward_models.metrics import Measures, UserBootstrap, auc, differences, figures
from audience.reward_models.quality_data import FIRST_EVENT, EventPredictor
from audience.reward_models.signals import Signals

COLD_SHARE = 0.2
"""Of the catalogue's items."""

EVENTS_PER_USER = 20
"""Cold events of a test user that are predicted, drawn at random where there are more: each needs
a history of its own, so that the cost would rise with the square of a user's events."""

LOWER_IS_BETTER = {"rmse": True, "auc": False}

Vectors = NDArray[np.float32]
Fit = Callable[[FitData, Vectors], EventPredictor]
"""Fits a model to a log with these vectors of the items' texts, shape (items, dim)."""


def cold_items_quality(
    data: FitData, vectors: Vectors, fit: Fit, seed: int
) -> dict[str, Any] | None:
    """Predict test users' feedback on items that were held out of fitting.

    The model is fitted three times: to the items' vectors ("text"), to zeros ("no_text") and to
    the vectors permuted among the items ("shuffled_text"). Each cold event with FIRST_EVENT
    earlier events of the same user that are not cold is predicted from those.

    Args:
        data: The log.
        vectors: Of the items' texts, shape (items, dim), float32.
        fit: Called with the log without cold events, and vectors.
        seed: Of the items held out, the permutation, the events drawn and the bootstrap.

    Returns:
        `{text|no_text|shuffled_text}.{rmse|auc}` (RMSE in the log's unit, AUC of "like") with
        95 % bootstrap intervals over users (`_low`, `_high`); `difference.{rmse|auc}`, text minus
        the better of the other two, paired; and `items`, `events` and `users`, the numbers of
        cold items, and of events and users measured. None where there is nothing to measure: no
        such event, or a scale of one level.

    Raises:
        ValueError: `vectors` has not one row an item.
    """
    n_items = len(data.catalogue)
    if vectors.ndim != 2 or len(vectors) != n_items:
        raise ValueError(
            f"vectors must have one row for each of the {n_items} items of the catalogue, got "
            f"shape {vectors.shape}; encode data.catalogue.texts"
        )
    generator = np.random.default_rng(seed)
    cold = np.zeros(n_items, np.bool_)
    cold[generator.permutation(n_items)[: round(COLD_SHARE * n_items)]] = True
    histories, event, owner = cold_histories(data.histories["test"], cold, generator)
    if not len(event) or len(data.scale) < 2:
        return None
    last = histories.offsets[1:] - 1
    liked = data.scale.likes[histories.levels[last]]
    truth = data.values["test"][event]
    users, user = np.unique(owner, return_inverse=True)
    bootstrap = UserBootstrap(len(users), seed)
    shuffled = vectors[generator.permutation(n_items)]
    versions = {"text": vectors, "no_text": np.zeros_like(vectors), "shuffled_text": shuffled}
    warm = without_items(data, cold)
    found = {}
    for name, given in versions.items():
        shares = fit(warm, given).predict_events(histories).shares[last].astype(np.float64)
        found[name] = _measure(shares, data, liked, truth, user, bootstrap)
    others = {name: found[name] for name in found if name != "text"}
    return {name: figures(of) for name, of in found.items()} | {
        "difference": differences({"model": found["text"]} | others, LOWER_IS_BETTER),
        "items": int(cold.sum()),
        "events": len(event),
        "users": len(users),
    }


def cold_histories(
    histories: Histories, cold: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[Histories, NDArray[np.int64], NDArray[np.int64]]:
    """A history for each cold event to be predicted: the user's earlier warm ones, then itself.

    Args:
        histories: Events of the users, oldest first.
        cold: Which items are held out, shape (items,).
        generator: Draws EVENTS_PER_USER of a user's cold events where there are more.

    Returns:
        The histories, the index of each one's last event among the given events, and its user.
    """
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    is_cold = cold[histories.items]
    warm = np.flatnonzero(~is_cold)
    before = np.concatenate([[0], np.cumsum(~is_cold)])  # warm events before each event
    first = before[histories.offsets[:-1]]  # of each user
    enough = before[:-1] - np.repeat(first, histories.lengths) >= FIRST_EVENT
    event = np.flatnonzero(is_cold & enough)
    event = event[np.lexsort((generator.random(len(event)), users[event]))]
    place = np.arange(len(event)) - np.searchsorted(users[event], users[event])
    event = np.sort(event[place < EVENTS_PER_USER])
    owner = users[event]
    earlier = before[event] - first[owner]
    offsets = np.concatenate([[0], np.cumsum(earlier + 1)]).astype(np.int64)
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - first[owner], earlier + 1)
    last = offsets[1:] - 1
    rows[last] = 0  # overwritten
    source = warm[rows] if len(warm) else rows
    source[last] = event
    kept = Histories(
        histories.users[owner], offsets, histories.items[source], histories.levels[source]
    )
    return kept, event, owner


def without_items(data: FitData, cold: NDArray[np.bool_]) -> FitData:
    """The log without the events of some items; the catalogue keeps them, with a count of 0.

    What a log says of slates, leaving and dwelling is left out whole: it does not bear on the
    feedback that is measured, and slates would show cold items.
    """
    histories, values, signals = {}, {}, {}
    for name, every in data.histories.items():
        keep = ~cold[every.items]
        histories[name] = every.events(keep)
        values[name] = data.values[name][keep]
        signals[name] = _kept(data.signals[name], keep)
    fitting, known = histories["fitting"].items, values["fitting"]
    counts = np.bincount(fitting, minlength=len(cold)).astype(np.int64)
    sums = np.bincount(fitting, known, minlength=len(cold))
    overall = known.mean() if len(known) else 0.0
    means = (sums + SHRINKAGE_EVENTS * overall) / (counts + SHRINKAGE_EVENTS)
    catalogue = replace(data.catalogue, counts=counts, mean_feedback=means)
    return replace(data, catalogue=catalogue, histories=histories, values=values, signals=signals)


def _kept(signals: Signals, keep: NDArray[np.bool_]) -> Signals:
    texts = None if signals.texts is None else signals.texts[keep]
    return replace(signals, slates=None, ends=None, dwell=None, texts=texts)


def _measure(
    shares: NDArray[np.float64],
    data: FitData,
    liked: NDArray[np.bool_],
    truth: NDArray[np.float64],
    user: NDArray[np.int64],
    bootstrap: UserBootstrap,
) -> Measures:
    """RMSE of the expected value and AUC of "like" (arrays of one row an event measured)."""
    like = shares[:, data.scale.likes].sum(1)
    error = np.square(shares @ np.array(data.scale.values) - truth)
    squares = np.bincount(user, error, bootstrap.users)
    events = np.bincount(user, minlength=bootstrap.users)
    return {
        "rmse": (float(np.sqrt(error.mean())), np.sqrt(bootstrap.ratio(squares, events))),
        "auc": (auc(like, liked), bootstrap.auc(like, liked, user)),
    }
