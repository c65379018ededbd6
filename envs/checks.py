"""Checks of what reaches an environment from outside; each names the argument and its rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audience.reward_models.users import POPULATIONS

T = TypeVar("T")

RESET_OPTIONS = ("reset_mask", "user", "history")
"""Keys of `reset(options=...)`; a single environment has no `reset_mask`."""


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


def amount(name: str, value: float, low: float = 0.0) -> float:
    """The setting as a float, where it is a finite number of at least `low`."""
    number = isinstance(value, (int, float, np.integer, np.floating))
    if not number or isinstance(value, bool) or not np.isfinite(value) or value < low:
        raise ValueError(f"{name} must be a finite number of at least {low:g}, got {value!r}")
    return float(value)


def population_of(value: Any) -> Any:
    """The setting, where it is the name of a population or a list of pseudonyms."""
    if isinstance(value, str):
        return one_of("population", value, POPULATIONS)
    if not isinstance(value, (Sequence, np.ndarray)) or not all(
        isinstance(name, str) for name in value
    ):
        raise ValueError(
            f"population must be one of {', '.join(map(repr, POPULATIONS))}, or a list of users' "
            f"pseudonyms, got {value!r}"
        )
    return [str(name) for name in value]


def reset_mask(options: dict[str, Any] | None, num_envs: int) -> NDArray[np.bool_]:
    """Which environments to reset, shape (num_envs,): all, or those of `reset_mask`."""
    unknown = sorted(map(str, set(options or {}) - set(RESET_OPTIONS)))
    if unknown:
        raise ValueError(
            f"options may hold only {', '.join(map(repr, RESET_OPTIONS))}, got {', '.join(unknown)}"
        )
    if not options or "reset_mask" not in options:
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


def indices(
    actions: ArrayLike, shape: tuple[int, ...], n_choices: int, what: str
) -> NDArray[np.int64]:
    """The actions as a new int64 array, where they are indices of this shape, below `n_choices`.

    Args:
        actions: As they came.
        shape: What they must have.
        n_choices: How many there are to choose from.
        what: What they are, such as "catalogue indices".
    """
    given = as_array(actions)
    if given.shape != shape or given.dtype.kind not in "iu":
        raise ValueError(
            f"actions must be whole numbers of shape {shape}, {what}, one for each place of each "
            f"user's slate, got {given.dtype} of shape {given.shape}"
        )
    outside = (given < 0) | (given >= n_choices)
    if outside.any():
        raise ValueError(
            f"actions must be {what} from 0 to {n_choices - 1}, got {given[outside][0]}"
        )
    return given.astype(np.int64)


def points(actions: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The actions as a new float64 array, where they are numbers in -1…1 of this shape."""
    given = as_array(actions)
    if given.shape != shape or given.dtype.kind not in "fiu":
        raise ValueError(
            f"actions must be numbers of shape {shape}, an embedding for each place of each "
            f"user's slate, got {given.dtype} of shape {given.shape}"
        )
    outside = ~(np.abs(given) <= 1.0 + 1e-6)  # nan is outside; 1 may have been rounded
    if outside.any():
        raise ValueError(f"actions must be numbers from -1 to 1, got {given[outside][0]}")
    return given.astype(np.float64)


def as_array(actions: ArrayLike) -> NDArray[Any]:
    """The actions as an array; ragged lists become one of objects, which no check passes."""
    try:
        return np.asarray(actions)
    except ValueError:
        return np.array(None, np.object_)
