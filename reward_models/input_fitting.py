"""Fitting what collaborative filtering knows of users, one fold of them at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.collaborative import (
    FORGETTING,
    LINEAR_ITEMS,
    ExplicitFactors,
    adjusted_cosine,
    cosine_matrix,
    ease_matrix,
    explicit_als,
    only_items,
)
from audience.reward_models.coming import FLOOR, coming_matrix, mean_top
from audience.reward_models.fit_threads import fits
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import TEXT_AXES, CollaborativeInputs
from audience.reward_models.query_features import BIAS_PRIOR, LEVEL_PRIOR
from audience.reward_models.text_prior import level_prior, with_text_prior


def fit_inputs(
    parts: list[tuple[Histories, NDArray[np.float64]]],
    n_items: int,
    level_values: NDArray[np.float64],
    *,
    factors: int,
    penalty: float,
    ease_l2: float,
    seed: int,
    vectors: NDArray[np.float32],
    cold: NDArray[np.bool_] | None = None,
) -> CollaborativeInputs:
    """Fit one fold on each part: (histories, values of their events).

    Args:
        parts: The folds' users.
        n_items: Size of the catalogue.
        level_values: Value of each level, shape (levels,).
        factors: Of the explicit ALS.
        penalty: Of the explicit ALS.
        ease_l2: Of EASE.
        seed: Of the explicit ALS.
        vectors: Of the items' texts, shape (items, dim): the prior of items' factors and
            levels, and axes beside the factors.
        cold: Items whose feedback each fold does without, shape (folds, items): of that it knows
            the text alone. Which items go together is learned of all.
    """
    counts = np.bincount(np.concatenate([h.items for h, _ in parts]), minlength=n_items)
    head = np.sort(np.argsort(-counts, kind="stable")[:LINEAR_ITEMS])
    n_levels = len(level_values)
    inputs = CollaborativeInputs(len(parts), n_items, n_levels, factors + TEXT_AXES, len(head))
    inputs.head.copy_(torch.from_numpy(head))
    inputs.place.fill_(-1)
    inputs.place[inputs.head] = torch.arange(len(head))
    every = np.concatenate([values for _, values in parts])
    shares = np.bincount(np.concatenate([h.levels for h, _ in parts]), minlength=n_levels)
    shares = (shares + 1.0) / (shares + 1.0).sum()
    inputs.level_shares.copy_(torch.from_numpy(shares))
    inputs.unit.copy_(torch.tensor([every.mean(), max(every.std(), 1e-6)]))

    def fit(fold: int) -> None:
        histories, values = parts[fold]
        warm = np.ones(len(values), bool) if cold is None else ~cold[fold, histories.items]
        of_warm = histories.events(warm), values[warm]
        als = explicit_als(*of_warm, n_items, factors, penalty=penalty, seed=seed)
        _set_factors(inputs, fold, with_text_prior(als, *of_warm, vectors, TEXT_AXES))
        _set_facts(inputs, fold, *of_warm, vectors)
        part = only_items(histories, head, n_items)
        ease = ease_matrix(part, len(head), ease_l2)
        inputs.ease[fold] = torch.from_numpy(ease)
        inputs.floors[fold, 0] = FLOOR * mean_top(part, ease, 1.0)

    fits(fit, range(len(parts)))
    return inputs


def set_coming(
    inputs: CollaborativeInputs,
    parts: list[Histories],
    vectors: NDArray[np.float32],
    mix: NDArray[np.float64],
) -> None:
    """Learn what comes next; where events stand in no order, nothing does.

    Args:
        inputs: Changed in place.
        parts: Users of each fold.
        vectors: Of the items' texts, shape (items, dim).
        mix: Weights of kinds, as `fit_mix` finds them.
    """
    head = inputs.head.numpy()

    def fit(fold: int) -> None:
        part = only_items(parts[fold], head, len(vectors))
        coming = coming_matrix(part, vectors[head], mix)
        inputs.coming[fold] = torch.from_numpy(coming)
        inputs.floors[fold, 1] = FLOOR * mean_top(part, coming, FORGETTING)

    fits(fit, range(len(parts)))


def _set_factors(inputs: CollaborativeInputs, fold: int, als: ExplicitFactors) -> None:
    inputs.base[fold] = torch.from_numpy(als.mean + als.item_bias)
    inputs.design[fold] = torch.from_numpy(als.design)
    inputs.precision.copy_(torch.from_numpy(als.precision))
    inputs.noise[fold] = als.noise


def _set_facts(
    inputs: CollaborativeInputs,
    fold: int,
    histories: Histories,
    values: NDArray[np.float64],
    vectors: NDArray[np.float32],
) -> None:
    """Means over each item's events, and its neighbours."""
    n_items, n_levels = inputs.item_levels.shape[1:]
    shares, std = inputs.level_shares.double().numpy(), float(inputs.unit[1])
    cells = histories.items * n_levels + histories.levels
    table = np.bincount(cells, minlength=n_items * n_levels).reshape(n_items, n_levels)
    count = table.sum(1)
    odds = level_prior(table, shares, vectors, LEVEL_PRIOR)
    inputs.item_levels[fold] = torch.from_numpy(odds)
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    residual = values - inputs.base[fold].double().numpy()[histories.items]
    square = np.bincount(histories.items, residual**2, n_items)
    spread = np.sqrt((square + LEVEL_PRIOR * std**2) / (count + LEVEL_PRIOR)) / std
    facts = np.column_stack([spread, np.log1p(count) / 4])
    inputs.item_facts[fold] = torch.from_numpy(facts)
    own = np.bincount(users, residual, len(histories)) / (histories.lengths + BIAS_PRIOR)
    head = inputs.head.numpy()
    kept = inputs.place.numpy()[histories.items] >= 0
    part = only_items(histories, head, n_items)
    near = adjusted_cosine(part, (residual - own[users])[kept], len(head))
    inputs.neighbours[fold] = torch.from_numpy(near)
    inputs.company[fold] = torch.from_numpy(cosine_matrix(part, len(head)))
