"""Collaborative filters that the user model's feedback head is measured against."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from audience.reward_models.collaborative import (
    ExplicitFactors,
    explicit_als,
    interaction_matrix,
)
from audience.reward_models.fit_threads import fits
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import CELLS

F64 = NDArray[np.float64]

ITEM_PENALTIES = (1.0, 2.0, 4.0, 8.0)
"""Pseudo-events at the mean that an item's bias is shrunk by."""

USER_PENALTIES = (2.0, 4.0, 8.0, 16.0)
"""Pseudo-events at 0 that a user's bias is shrunk by."""

ALS_FACTORS = (8, 4, 16)
ALS_PENALTIES = (2.0, 4.0, 8.0)
"""Ridge penalties, tried with the first number of factors; the best meets the other numbers."""

KNN_OVERLAPS = (20.0, 80.0, 320.0)
"""Users in common at which a similarity is halved."""

KNN_PENALTIES = (0.3, 1.0, 3.0)
"""Similarity of a pseudo-neighbour without opinion."""

Error = Callable[[F64], float]


@dataclass(frozen=True)
class PointPredictor:
    """Predicts the value of each event from the user's earlier ones.

    Attributes:
        settings: What was chosen on validation users.
        predict: Of histories and the values of their events, shape (events,); returns (events,).
    """

    settings: dict[str, float]
    predict: Callable[[Histories, F64], F64]


def fit_user_item_mean(
    fitting: Histories, values: F64, n_items: int, validation: Histories, known: F64, error: Error
) -> tuple[PointPredictor, ExplicitFactors]:
    """Mean + item bias + user bias, the user's folded in from all earlier events.

    Args:
        fitting: Events of the fitting users.
        values: Their feedback, shape (events,).
        n_items: Size of the catalogue.
        validation: Events that the penalties are chosen on.
        known: Their feedback, shape (validation events,).
        error: Of predictions for the validation events; the smallest wins.

    Returns:
        The predictor, and its biases as factors of length 0.
    """

    def candidates() -> Iterable[tuple[dict[str, float], ExplicitFactors]]:
        for item_penalty in ITEM_PENALTIES:
            biases = explicit_als(fitting, values, n_items, 0, bias_penalty=item_penalty)
            for user_penalty in USER_PENALTIES:
                settings = {"item_penalty": item_penalty, "user_penalty": user_penalty}
                yield settings, replace(biases, precision=np.array([user_penalty]))

    return _best_factors(candidates(), values, validation, known, error)


def fit_als(
    fitting: Histories,
    values: F64,
    n_items: int,
    validation: Histories,
    known: F64,
    error: Error,
    seed: int,
    factors: tuple[int, ...] = ALS_FACTORS,
) -> PointPredictor:
    """Explicit ALS with ridge fold-in of all earlier events.

    Args:
        fitting: As in `fit_user_item_mean`, as what follows.
        values: Shape (events,).
        n_items: Size of the catalogue.
        validation: Events that the settings are chosen on.
        known: Shape (validation events,).
        error: Of predictions for the validation events.
        seed: Of the initial factors.
        factors: Numbers of factors to try; the penalty is chosen with the first.
    """
    limits = (float(values.min()), float(values.max()))

    def fit(of: tuple[int, float]) -> tuple[float, dict[str, float], ExplicitFactors]:
        n, penalty = of
        als = explicit_als(fitting, values, n_items, n, penalty=penalty, seed=seed)
        predicted = fold_in(als, validation, known, limits)
        return error(predicted), {"factors": n, "penalty": penalty}, als

    every = fits(fit, [(factors[0], penalty) for penalty in ALS_PENALTIES])
    first = min(every, key=lambda f: f[0])
    others = fits(fit, [(n, first[1]["penalty"]) for n in factors[1:]])
    _, settings, als = min([first, *others], key=lambda f: f[0])
    return PointPredictor(settings, lambda h, v: fold_in(als, h, v, limits))


def fit_item_knn(
    fitting: Histories,
    values: F64,
    n_items: int,
    validation: Histories,
    known: F64,
    error: Error,
    biases: ExplicitFactors,
) -> PointPredictor | None:
    """Neighbours by adjusted cosine correct the user-and-item mean (Sarwar et al., WWW 2001).

    All items that the user met and that are positively similar are neighbours.

    Args:
        fitting: As in `fit_user_item_mean`, as what follows.
        values: Shape (events,).
        n_items: Size of the catalogue.
        validation: Events that the settings are chosen on.
        known: Shape (validation events,).
        error: Of predictions for the validation events.
        biases: The user-and-item mean.

    Returns:
        None where the catalogue is too large for dense similarities.
    """
    if n_items**2 > 16 * CELLS:  # 8,000 items
        return None
    limits = (float(values.min()), float(values.max()))
    present = interaction_matrix(fitting, n_items)
    users = np.repeat(np.arange(len(fitting)), fitting.lengths)
    residuals = sp.csr_matrix(
        (values - _own_means(biases, fitting, values), (users, fitting.items)), present.shape
    )
    squares = residuals.power(2)
    norms = np.sqrt((squares.T @ present).toarray())  # (items, items), over common users
    cosine = (residuals.T @ residuals).toarray() / np.maximum(norms * norms.T, 1e-6)
    cosine = np.maximum(cosine, 0.0)
    common = (present.T @ present).toarray()
    tried = []
    for overlap in KNN_OVERLAPS:
        similarity = (cosine * common / (common + overlap)).astype(np.float32)
        for penalty in KNN_PENALTIES:
            predicted = _neighbours(biases, similarity, penalty, validation, known, limits)
            tried.append((error(predicted), overlap, penalty))
    _, overlap, penalty = min(tried)
    similarity = (cosine * common / (common + overlap)).astype(np.float32)
    return PointPredictor(
        {"overlap": overlap, "penalty": penalty},
        lambda h, v: _neighbours(biases, similarity, penalty, h, v, limits),
    )


def fold_in(
    factors: ExplicitFactors,
    histories: Histories,
    values: F64,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> F64:
    """Predict each event by ridge regression on all of the user's earlier events.

    Args:
        factors: Fitted on other users.
        histories: Events, oldest first.
        values: Feedback of each event, shape (events,).
        limits: Lowest and highest prediction.

    Returns:
        Shape (events,); a user's first event gets mean + item bias.
    """
    k = len(factors.precision)
    base = factors.mean + factors.item_bias
    design = factors.design
    predicted = np.empty(len(values))
    for start, end in _user_chunks(histories, max(1, CELLS // k**2)):
        events = slice(histories.offsets[start], histories.offsets[end])
        items, starts = histories.items[events], histories.offsets[start:end] - events.start
        lengths = histories.lengths[start:end]
        x = design[items]  # (events, k)
        residual = values[events] - base[items]
        gram = _earlier(x[:, :, None] * x[:, None, :], starts, lengths)
        moment = _earlier(x * residual[:, None], starts, lengths)
        gram[:, np.arange(k), np.arange(k)] += factors.precision
        user = np.linalg.solve(gram, moment[..., None])[..., 0]
        predicted[events] = base[items] + (x * user).sum(1)
    return np.clip(predicted, *limits)


def _best_factors(
    candidates: Iterable[tuple[dict[str, float], ExplicitFactors]],
    values: F64,
    validation: Histories,
    known: F64,
    error: Error,
) -> tuple[PointPredictor, ExplicitFactors]:
    limits = (float(values.min()), float(values.max()))
    settings, best = min(candidates, key=lambda c: error(fold_in(c[1], validation, known, limits)))
    return PointPredictor(settings, lambda h, v: fold_in(best, h, v, limits)), best


def _neighbours(
    biases: ExplicitFactors,
    similarity: NDArray[np.float32],
    penalty: float,
    histories: Histories,
    values: F64,
    limits: tuple[float, float],
) -> F64:
    """User-and-item mean plus the neighbours' weighted residuals, shape (events,)."""
    mean = fold_in(biases, histories, values)
    base = (biases.mean + biases.item_bias)[histories.items]
    predicted = mean.copy()
    for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
        own = slice(start, end)  # one matrix product a user
        items = histories.items[own]
        weight = np.tril(similarity[items[:, None], items], -1)  # (events, earlier events)
        total = weight.sum(1)
        opinion = weight @ (values[own] - base[own]) - total * (mean[own] - base[own])
        predicted[own] += opinion / (total + penalty)
    return np.clip(predicted, *limits)


def _own_means(biases: ExplicitFactors, histories: Histories, values: F64) -> F64:
    """Mean + item bias + the bias of the whole history, of each event."""
    base = (biases.mean + biases.item_bias)[histories.items]
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    total = np.bincount(users, values - base, len(histories))
    return base + (total / (histories.lengths + biases.precision[0]))[users]


def _earlier(each: F64, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> F64:
    """Sum over the same user's earlier events, (events, *) to (events, *)."""
    before = np.zeros((len(each) + 1, *each.shape[1:]))
    np.cumsum(each, axis=0, out=before[1:])
    return before[:-1] - np.repeat(before[starts], lengths, axis=0)


def _user_chunks(histories: Histories, events: int) -> list[tuple[int, int]]:
    """Runs of whole users, [start, end), of about `events` events each (at least one user)."""
    part = histories.offsets[:-1] // events
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    return list(pairwise([*starts, len(histories)]))
