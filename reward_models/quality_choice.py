"""How well the next item is predicted, beside collaborative filters on the same events."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.choice_baselines import EASE_L2, ItemScorer
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import (
    F64,
    TOP,
    Measures,
    UserBootstrap,
    differences,
    figures,
    gain_of_rank,
    ranking,
)
from audience.reward_models.quality_data import (
    EventPredictions,
    EventPredictor,
    QualityData,
    measured,
    tuning_users,
)

USERS_AT_ONCE = 256
"""Users whose scores of all items are held at a time."""


def choice_quality(
    model: EventPredictor,
    predictions: EventPredictions,
    data: QualityData,
    test: Histories,
    bootstrap: UserBootstrap,
) -> dict[str, Any]:
    """The part `choice` of card.json; differences are model minus best baseline.

    Every figure is a mean over users, so that long histories do not decide it. The next event
    is ranked among all items not consumed before it; of the halves, a random half of each
    user's events is shown and the other half ranked among all items not shown.

    Args:
        model: What ranks items.
        predictions: Of the events of `test`.
        data: Users to fit and tune the baselines on.
        test: Events of the users measured, oldest first.
        bootstrap: Over the users measured.
    """
    popularity = ItemScorer.popularity(data.catalogue.popularity)
    ease = _tuned_ease(data)
    halves = _halves(test, data.seed)
    found = {
        "model": _rankings(model, predictions.choice_rank, test, halves, bootstrap),
        "popularity": _rankings(popularity, popularity.next_ranks(test), test, halves, bootstrap),
        "ease": _rankings(ease, ease.next_ranks(test), test, halves, bootstrap),
    }
    found["model"]["nll"] = _mean(_by_user(predictions.choice_nll, test), bootstrap)
    result: dict[str, Any] = {name: figures(of) for name, of in found.items()}
    result["ease"]["settings"] = {"l2": ease.l2}
    compared = {name: False for name in found["ease"]}
    result["difference"] = differences(found, compared)
    return result


def tune_ease(data: QualityData) -> float:
    """EASE's penalty, chosen on validation users by NDCG of the next event and of the halves."""
    return _tuned_ease(data).l2


@lru_cache(maxsize=1)  # a fit asks for the penalty, and later for the baseline
def _tuned_ease(data: QualityData) -> ItemScorer:
    tuning, _ = tuning_users(data)
    halves = _halves(tuning, data.seed)
    best, most = None, -np.inf
    for l2 in EASE_L2:
        scorer = ItemScorer.ease(data.fitting, data.catalogue.popularity, l2)
        gain = 0.0
        if len(tuning):
            gain += _by_user(gain_of_rank(scorer.next_ranks(tuning)), tuning).mean()
            gain += _half_rankings(scorer, *halves)[0].mean()
        if best is None or gain > most:
            best, most = scorer, gain
    assert best is not None
    return best


def _rankings(
    scorer: EventPredictor | ItemScorer,
    next_rank: NDArray[np.floating] | NDArray[np.integer],
    test: Histories,
    halves: tuple[Histories, Histories],
    bootstrap: UserBootstrap,
) -> Measures:
    """Means over users; of the next event, of the mean over each user's measured events."""
    half = _half_rankings(scorer, *halves)
    return {
        f"ndcg@{TOP}": _mean(_by_user(gain_of_rank(next_rank), test), bootstrap),
        f"hit@{TOP}": _mean(_by_user(next_rank < TOP, test), bootstrap),
        f"half_ndcg@{TOP}": _mean(half[0], bootstrap),
        f"half_hit@{TOP}": _mean(half[1], bootstrap),
    }


def _by_user(figure: NDArray[Any], histories: Histories) -> F64:
    """Mean of a figure (events,) over each user's measured events, shape (users,)."""
    at = measured(histories)
    user = np.repeat(np.arange(len(histories)), histories.lengths)[at]
    return np.bincount(user, figure[at].astype(np.float64)) / np.bincount(user)


def _halves(histories: Histories, seed: int) -> tuple[Histories, Histories]:
    """A random half of each user's events, rounded up, and the other; both oldest first."""
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    order = np.lexsort((np.random.default_rng(seed).random(len(user)), user))
    place = np.empty(len(user), np.int64)
    place[order] = np.arange(len(user)) - np.repeat(histories.offsets[:-1], histories.lengths)
    shown = place < ((histories.lengths + 1) // 2)[user]
    return _events(histories, user, shown), _events(histories, user, ~shown)


def _events(histories: Histories, user: NDArray[np.int64], keep: NDArray[np.bool_]) -> Histories:
    offsets = np.searchsorted(user[keep], np.arange(len(histories) + 1)).astype(np.int64)
    return Histories(histories.users, offsets, histories.items[keep], histories.levels[keep])


def _half_rankings(
    scorer: EventPredictor | ItemScorer, shown: Histories, hidden: Histories
) -> tuple[F64, F64]:
    """NDCG and hit rate of each user's hidden half, given the shown one; twice (users,)."""
    found = []
    for start in range(0, len(shown), USERS_AT_ONCE):
        rows = np.arange(start, min(start + USERS_AT_ONCE, len(shown)))
        scores = scorer.rank_items(shown.take(rows))
        part = hidden.take(rows)
        relevant = np.zeros(scores.shape, np.bool_)
        relevant[np.repeat(np.arange(len(rows)), part.lengths), part.items] = True
        found.append(ranking(scores, relevant))
    gain, hit = (np.concatenate(part) for part in zip(*found, strict=True))
    return gain, hit


def _mean(by_user: F64, bootstrap: UserBootstrap) -> tuple[float, F64]:
    return float(by_user.mean()), bootstrap.ratio(by_user, np.ones(len(by_user)))
