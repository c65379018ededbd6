"""What an agent is: `predict`; and the base of agents that recommend what they score highest."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Observation: TypeAlias = Mapping[str, NDArray[Any]]
"""`item`, `feedback` (history,), `length` (1,), and where the environment puts them there `mask`
(items,) and `candidates` (C,), which actions and masks then index in the catalogue's stead; each
with a leading axis for a batch."""


@runtime_checkable
class Agent(Protocol):
    """Anything that recommends: Stable-Baselines3's verb, plus the mask of MaskablePPO."""

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """Actions for one observation, shape () or (slate,), or for a batch, (n,) or (n, slate).

        Args:
            observation: One observation or a batch.
            state: Handed back as it came by agents without memory.
            episode_start: Which rows begin a session, shape (n,); for agents with memory.
            deterministic: The most likely action instead of a drawn one.
            action_masks: What may be recommended, beside the observation's own `mask`: shape
                (items,), (n, items), or tiled (n, slate * items), of which the first `items`
                columns count. Where the observation has candidates, these in the items' stead.
        """
        ...


class ScoringAgent(ABC):
    """Recommends the unconsumed items with the highest scores, best first.

    Ties go to the item with the lower index, so the same scores give the same slate anywhere.
    Where fewer than `slate_size` items are left, consumed ones fill the last places.

    Args:
        n_items: Size of the catalogue.
        slate_size: Items to recommend at a step, 1…n_items.

    Raises:
        ValueError: The slate size is out of range.
    """

    def __init__(self, n_items: int, slate_size: int = 1) -> None:
        if not 1 <= slate_size <= n_items:
            raise ValueError(
                f"slate_size must be a number from 1 to the catalogue's {n_items} items, "
                f"got {slate_size!r}"
            )
        self.n_items = n_items
        self.slate_size = slate_size

    def parameters(self) -> dict[str, Any]:
        """What the constructor takes, to be saved: each argument is an attribute of its name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @abstractmethod
    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.floating[Any]]:
        """Score of every item after each of these histories, shape (n, items), higher is better.

        Args:
            items: Catalogue indices, oldest first, shape (n, history).
            levels: Feedback levels of these events, shape (n, history).
            lengths: How many of the places are used, shape (n,).
        """

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        """See `Agent.predict`; a deterministic agent ignores `deterministic`."""
        del episode_start, deterministic
        items, levels, lengths = histories_of(observation)
        scores = self.scores(items, levels, lengths)
        allowed = allowed_choices(observation, items, lengths, self.n_items, action_masks)
        if "candidates" in observation:
            among = np.atleast_2d(np.asarray(observation["candidates"], np.int64))
            scores = np.take_along_axis(np.asarray(scores), among, axis=1)
        actions = top_items(scores, allowed, self.slate_size)
        if self.slate_size == 1:
            actions = actions[:, 0]
        return (actions if np.ndim(observation["item"]) == 2 else actions[0, ...]), state


def histories_of(
    observation: Observation,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Items and levels (n, history) and lengths (n,) of one observation or a batch.

    Raises:
        ValueError: The observation lacks one of them.
    """
    missing = [key for key in ("item", "feedback", "length") if key not in observation]
    if missing:
        raise ValueError(
            f"observation must be a Dict with item, feedback and length, as the audience "
            f"environments give it; it lacks {missing} and has {sorted(observation)}"
        )
    items = np.atleast_2d(np.asarray(observation["item"], np.int64))
    levels = np.atleast_2d(np.asarray(observation["feedback"], np.int64))
    return items, levels, np.asarray(observation["length"], np.int64).reshape(-1)


def allowed_items(
    observation: Observation,
    items: NDArray[np.int64],
    lengths: NDArray[np.int64],
    n_items: int,
    action_masks: NDArray[Any] | None = None,
) -> NDArray[np.bool_]:
    """What may be recommended, shape (n, n_items): not in the history, and in every mask given.

    Raises:
        ValueError: A mask has fewer columns than there are items, or not one row a user.
    """
    allowed = np.ones((len(items), n_items), np.bool_)
    rows, places = np.nonzero(np.arange(items.shape[1]) < lengths[:, None])
    allowed[rows, items[rows, places]] = False
    return allowed & _masks(observation, action_masks, len(items), n_items)


def allowed_choices(
    observation: Observation,
    items: NDArray[np.int64],
    lengths: NDArray[np.int64],
    n_items: int,
    action_masks: NDArray[Any] | None = None,
) -> NDArray[np.bool_]:
    """As `allowed_items`, over what actions index: the candidates where there are any.

    Of several copies of a candidate the first is allowed.

    Raises:
        ValueError: A mask has fewer columns than there are choices, or not one row a user.
    """
    if "candidates" not in observation:
        return allowed_items(observation, items, lengths, n_items, action_masks)
    among = np.atleast_2d(np.asarray(observation["candidates"], np.int64))
    order = np.argsort(among, axis=1, kind="stable")
    ordered = np.take_along_axis(among, order, axis=1)
    again = np.zeros(among.shape, np.bool_)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    allowed = ~again & _masks(observation, action_masks, len(items), among.shape[1])
    # Sorted keys of (user, item): what stands in both is closed.
    used = np.arange(items.shape[1]) < lengths[:, None]
    rows = np.arange(len(items))[:, None] * n_items
    return allowed & ~np.isin(rows + among, (rows + items)[used])


def _masks(
    observation: Observation, action_masks: NDArray[Any] | None, rows: int, choices: int
) -> NDArray[np.bool_]:
    """What all masks given allow, shape (rows or 1, choices)."""
    allowed = np.ones((1, choices), np.bool_)
    for name, mask in (("mask", observation.get("mask")), ("action_masks", action_masks)):
        if mask is None:
            continue
        mask = np.atleast_2d(np.asarray(mask))
        if mask.shape[1] % choices or mask.shape[1] == 0 or len(mask) not in (1, rows):
            raise ValueError(
                f"{name} must have the shape ({choices},), ({rows}, {choices}) or the "
                f"latter tiled by the slate, got {mask.shape}"
            )
        allowed = allowed & (mask[:, :choices] != 0)
    return allowed


def top_items(
    scores: NDArray[np.floating[Any]], allowed: NDArray[np.bool_], count: int
) -> NDArray[np.int64]:
    """The `count` best allowed items of each row, best first, ties by index, shape (n, count).

    Args:
        scores: Shape (n, items); -inf is legal and ranks below every other allowed item.
        allowed: Shape (n, items); what is not allowed ranks last.
        count: At most the number of items.

    Raises:
        ValueError: A score is NaN.
    """
    scores = np.asarray(scores)
    if np.isnan(scores).any():
        raise ValueError(
            f"scores must be numbers, got NaN in row {np.isnan(scores).any(1).argmax()}"
        )
    lowest = np.finfo(scores.dtype).min  # above the -inf of what is not allowed
    scores = np.where(allowed, np.maximum(scores, lowest), -np.inf)
    if count == 1:
        return scores.argmax(1, keepdims=True)
    threshold = np.partition(scores, -count, axis=1)[:, [-count]]
    above, level = scores > threshold, scores == threshold
    # argpartition would break ties at the threshold as its pivots fall; the lowest index wins.
    level &= np.cumsum(level, axis=1) <= count - above.sum(1, keepdims=True)
    best = np.nonzero(above | level)[1].reshape(len(scores), count)  # in the order of indices
    order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
    return np.take_along_axis(best, order, 1)
