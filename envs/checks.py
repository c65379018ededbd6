"""Checks of what reaches an environment from outside; each names the argument and its rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

T = TypeVar("T")


def whole(name: str, value: int, low: int, high: int | None = None) -> int:
    """The setting as an int, where it is a whole number from `low` to `high`."""
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integer or value < low or (high is not None and value > high):
        rule = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be a whole number {rule}, got {value!r}")
    return int(value)


def one_of(name: str, value: T, choices: Sequence[T]) -> T:
    """The setting, where it is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def reset_mask(options: dict[str, Any] | None, num_envs: int) -> NDArray[np.bool_]:
    """Which environments to reset, shape (num_envs,): all, or those of `reset_mask`."""
    unknown = sorted(set(options or {}) - {"reset_mask"})
    if unknown:
        raise ValueError(f"options may hold only 'reset_mask', got {', '.join(unknown)}")
    if not options:
        return np.ones(num_envs, np.bool_)
    mask = options["reset_mask"]
    fits = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (num_envs,)
    if not fits or not mask.any():
        raise ValueError(
            f"options['reset_mask'] must be a bool array of shape ({num_envs},) with at least "
            f"one True, got {mask!r}"
        )
    return mask.copy()


def seeds_of(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """The seed of each environment, from that of the first or from one for each."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int):
        return [seed + i for i in range(num_envs)]
    if len(seed) != num_envs or any(s is not None and s < 0 for s in seed):
        raise ValueError(
            f"seed must be a whole number from 0 on, or one such (or None) for each of the "
            f"{num_envs} environments, got {seed!r}"
        )
    return [None if s is None else int(s) for s in seed]


def catalogue_indices(
    actions: ArrayLike, shape: tuple[int, ...], n_items: int
) -> NDArray[np.int64]:
    """The actions as a new int64 array, where they are catalogue indices of this shape."""
    given = np.asarray(actions)
    if given.shape != shape or given.dtype.kind not in "iu":
        raise ValueError(
            f"actions must be whole numbers of shape {shape}, one catalogue index for each "
            f"place of each user's slate, got {given.dtype} of shape {given.shape}"
        )
    outside = (given < 0) | (given >= n_items)
    if outside.any():
        raise ValueError(
            f"actions must be catalogue indices from 0 to {n_items - 1}, got {given[outside][0]}"
        )
    return given.astype(np.int64)
