"""How well the next item is predicted, beside collaborative filters on the same events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.choice_baselines import (
    EASE_L2,
    KNN_NEIGHBOURS,
    KNN_SHRINKAGES,
    ItemScorer,
)
from audience.reward_models.fit_threads import fits
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

T = TypeVar("T")

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
    baselines = choice_filters(data)
    parts = halves(test, data.seed)
    found = {"model": choice_measures(model, predictions.choice_rank, test, parts, bootstrap)}
    for name, scorer in baselines.items():
        found[name] = choice_measures(scorer, scorer.next_ranks(test), test, parts, bootstrap)
    difference = differences(found, dict.fromkeys(found["ease"], False))
    found["model"]["nll"] = by_user(predictions.choice_nll, test, bootstrap)
    result: dict[str, Any] = {name: figures(of) for name, of in found.items()}
    for name in ("item_knn", "ease"):
        result[name]["settings"] = baselines[name].settings
    return result | {"difference": difference}


def choice_filters(data: QualityData) -> dict[str, ItemScorer]:
    """Collaborative filters fitted on the fitting users, their settings on validation users."""
    return {
        "popularity": ItemScorer.popularity(data.catalogue.popularity),
        "item_knn": _tuned_knn(data),
        "ease": _tuned_ease(data),
    }


def tune_ease(data: QualityData) -> float:
    """EASE's penalty, chosen on validation users by NDCG of the next event and of the halves."""
    return _tuned_ease(data).settings["l2"]


@lru_cache(maxsize=1)  # a fit asks for the penalty, and later for the baseline
def _tuned_ease(data: QualityData) -> ItemScorer:
    popularity = data.catalogue.popularity
    return _best(data, lambda l2: ItemScorer.ease(data.fitting, popularity, l2), EASE_L2)[1]


def _tuned_knn(data: QualityData) -> ItemScorer:
    """Item-KNN; the best shrinkage meets the other numbers of neighbours."""

    def fitted(settings: tuple[float, int]) -> ItemScorer:
        return ItemScorer.item_knn(data.fitting, data.catalogue.popularity, *settings)

    first = _best(data, fitted, [(shrinkage, KNN_NEIGHBOURS[0]) for shrinkage in KNN_SHRINKAGES])
    shrinkage = first[1].settings["shrinkage"]
    others = _best(data, fitted, [(shrinkage, neighbours) for neighbours in KNN_NEIGHBOURS[1:]])
    return max(first, others, key=lambda found: found[0])[1]


def _best(
    data: QualityData, fit: Callable[[T], ItemScorer], settings: Sequence[T]
) -> tuple[float, ItemScorer]:
    """The fit of the highest NDCG of the next event plus that of the halves.

    On validation users; the first one where nobody has an event to measure.
    """
    tuning, _ = tuning_users(data)
    parts = halves(tuning, data.seed)

    def valued(of: T) -> tuple[float, ItemScorer]:
        scorer = fit(of)
        if not len(tuning):
            return 0.0, scorer
        next_event = _user_means(gain_of_rank(scorer.next_ranks(tuning)), tuning).mean()
        return float(next_event + _half_rankings(scorer, *parts)[0].mean()), scorer

    return max(fits(valued, settings), key=lambda found: found[0])


def choice_measures(
    scorer: EventPredictor | ItemScorer,
    next_rank: NDArray[np.floating] | NDArray[np.integer],
    test: Histories,
    parts: tuple[Histories, Histories],
    bootstrap: UserBootstrap,
) -> Measures:
    """NDCG and hit rate of the next event and of half against half, means over users.

    Args:
        scorer: What ranks items.
        next_rank: Rank that it gives to each event's item, 0 is best, shape (events,).
        test: Events of the users measured, oldest first.
        parts: Of `test`, as `halves` gives them.
        bootstrap: Over the users measured.
    """
    half = _half_rankings(scorer, *parts)
    return {
        f"ndcg@{TOP}": by_user(gain_of_rank(next_rank), test, bootstrap),
        f"hit@{TOP}": by_user(next_rank < TOP, test, bootstrap),
        f"half_ndcg@{TOP}": _mean(half[0], bootstrap),
        f"half_hit@{TOP}": _mean(half[1], bootstrap),
    }


def by_user(
    figure: NDArray[Any], histories: Histories, bootstrap: UserBootstrap
) -> tuple[float, F64]:
    """Mean over users of the mean of a figure (events,) over each one's measured events."""
    return _mean(_user_means(figure, histories), bootstrap)


def _user_means(figure: NDArray[Any], histories: Histories) -> F64:
    """Mean of a figure (events,) over each user's measured events, shape (users,)."""
    at = measured(histories)
    user = np.repeat(np.arange(len(histories)), histories.lengths)[at]
    return np.bincount(user, figure[at].astype(np.float64)) / np.bincount(user)


def halves(histories: Histories, seed: int) -> tuple[Histories, Histories]:
    """A random half of each user's events, rounded up, and the other; both oldest first."""
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    order = np.lexsort((np.random.default_rng(seed).random(len(user)), user))
    place = np.empty(len(user), np.int64)
    place[order] = np.arange(len(user)) - np.repeat(histories.offsets[:-1], histories.lengths)
    shown = place < ((histories.lengths + 1) // 2)[user]
    return histories.events(shown), histories.events(~shown)


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
