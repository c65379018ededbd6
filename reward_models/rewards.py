"""Rewards: small objects that turn what happened at a step into named numbers, and add up.

    FeedbackReward() + 0.2 * DiversityReward() + 0.01 * DwellReward()

An environment pays the sum of the parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import Response

F64 = NDArray[np.float64]
Parts: TypeAlias = dict[str, F64]

DWELL_UNIT = float(np.log1p(60.0))
"""log(1 + seconds) of one minute, which a dwell reward of 1 stands for."""


@dataclass(frozen=True)
class RewardContext:
    """What a response answered, one row a slot.

    Attributes:
        scale: The levels that `response.level` indexes.
        slates: Catalogue indices shown, shape (slots, slate size), int64.
        items: Catalogue indices of the last events before the response, oldest first,
            left-aligned, shape (slots, history); as many as the environment observes.
        levels: Their feedback levels, likewise.
        lengths: Used places of these, shape (slots,).
        find_vectors: Gives the vectors of the catalogue's items; called only where needed.
    """

    scale: FeedbackScale
    slates: NDArray[np.int64]
    items: NDArray[np.int64]
    levels: NDArray[np.int64]
    lengths: NDArray[np.int64]
    find_vectors: Callable[[], NDArray[np.float32] | None] = field(default=lambda: None)

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """Vectors of the catalogue's items, of norm 1 (or 0), shape (items, dim).

        Raises:
            ValueError: There are none.
        """
        found = self.find_vectors()
        if found is None:
            raise ValueError(
                "this reward compares items by their vectors, but the environment has none: pass "
                "item_vectors (items, dim) to the environment, or vectors to the reward"
            )
        return found


RewardFunction: TypeAlias = Callable[[Response, RewardContext], Parts]
"""Anything that an environment takes as a reward."""


class Reward(ABC):
    """What an agent is paid at a step, in named parts. Rewards add up, and can be scaled.

    Parts of one name in a sum are added.
    """

    @abstractmethod
    def __call__(self, response: Response, context: RewardContext) -> Parts:
        """Named parts of the reward, each of shape (slots,).

        Args:
            response: What the users did, one row a slot.
            context: What they were shown, and what they did before.
        """

    def __add__(self, other: RewardFunction) -> Reward:
        return _Sum((self, other))

    def __radd__(self, other: RewardFunction | int) -> Reward:
        return self if isinstance(other, int) and other == 0 else _Sum((_callable(other), self))

    def __mul__(self, weight: float) -> Reward:
        return _Scaled(self, weight)

    __rmul__ = __mul__


@dataclass(frozen=True)
class _Sum(Reward):
    rewards: tuple[RewardFunction, ...]

    def __post_init__(self) -> None:
        for reward in self.rewards:
            _callable(reward)

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        total: Parts = {}
        for reward in self.rewards:
            for name, part in reward(response, context).items():
                total[name] = total[name] + part if name in total else part
        return total


@dataclass(frozen=True)
class _Scaled(Reward):
    reward: RewardFunction
    weight: float

    def __post_init__(self) -> None:
        number = isinstance(self.weight, (int, float, np.number))
        if not number or not np.isfinite(self.weight):
            raise ValueError(
                f"a reward can be multiplied by a finite number, got {self.weight!r}; rewards are "
                f"added, not multiplied, with each other"
            )

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        return {name: self.weight * part for name, part in self.reward(response, context).items()}


@dataclass(frozen=True)
class FeedbackReward(Reward):
    """Part `feedback`: that on the chosen item, scaled to 0…1 (0 the lowest level); else 0."""

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        """See `Reward`."""
        given = context.scale.scaled[response.level]
        return {"feedback": np.where(response.choice >= 0, given, 0.0)}


@dataclass(frozen=True)
class LikeReward(Reward):
    """Part `like`: 1 where the chosen item was liked (`FeedbackScale.likes`), else 0."""

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        """See `Reward`."""
        liked = (response.choice >= 0) & context.scale.likes[response.level]
        return {"like": liked.astype(np.float64)}


@dataclass(frozen=True)
class ChoiceReward(Reward):
    """Part `choice`: 1 where something was chosen, else 0."""

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        """See `Reward`."""
        del context
        return {"choice": (response.choice >= 0).astype(np.float64)}


@dataclass(frozen=True)
class DwellReward(Reward):
    """Part `dwell`: log(1 + seconds) with the chosen item, 1 for a minute; 0 where unknown."""

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        """See `Reward`."""
        del context
        return {"dwell": np.nan_to_num(np.log1p(response.dwell_seconds) / DWELL_UNIT, nan=0.0)}


@dataclass(frozen=True)
class StayBonus(Reward):
    """Part `stay`: 1 where the user does not leave after the step, else 0."""

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        """See `Reward`."""
        del context
        return {"stay": (~response.leave).astype(np.float64)}


@dataclass(frozen=True, eq=False)
class DiversityReward(Reward):
    """Part `diversity`: 1 minus the mean cosine of the slate's pairs; 0 for slates of one item.

    The intra-list diversity of Ziegler et al., "Improving recommendation lists through topic
    diversification", WWW 2005.

    Args:
        vectors: Of the catalogue's items, shape (items, dim); None: the environment's.
    """

    vectors: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        _normalise(self)

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        """See `Reward`."""
        size = context.slates.shape[1]
        if size == 1:
            return {"diversity": np.zeros(len(context.slates))}
        vectors = _vectors_of(self, context)
        shown = vectors[context.slates].astype(np.float64)
        # The sum over pairs is that of the products with the whole, less each with itself.
        whole = np.square(shown.sum(axis=1)).sum(axis=1) - np.square(shown).sum(axis=(1, 2))
        return {"diversity": 1.0 - whole / (size * (size - 1))}


@dataclass(frozen=True, eq=False)
class RepetitionPenalty(Reward):
    """Part `repetition`: minus how near the slate is to the last events, 0…1.

    The mean cosine, 0 where negative, between the slate's items and each of the last events;
    with one-hot vectors of topics it is the share of pairs that have one topic.

    Args:
        recent: How many of the last events count, at least 1.
        vectors: Of the catalogue's items, shape (items, dim); None: the environment's.
    """

    recent: int = 5
    vectors: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        if self.recent < 1:
            raise ValueError(f"recent must be at least 1 event, got {self.recent!r}")
        _normalise(self)

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        """See `Reward`."""
        vectors = _vectors_of(self, context)
        place = context.lengths[:, None] - 1 - np.arange(self.recent)  # (slots, recent)
        used = place >= 0
        events = np.take_along_axis(context.items, np.maximum(place, 0), axis=1)
        shown, before = vectors[context.slates], vectors[events]
        near = np.maximum(shown @ before.transpose(0, 2, 1), 0.0) * used[:, None]
        pairs = np.maximum(used.sum(axis=1), 1) * context.slates.shape[1]
        return {"repetition": -near.sum(axis=(1, 2)).astype(np.float64) / pairs}


@dataclass(frozen=True)
class UncertaintyPenalty(Reward):
    """Part `uncertainty`: minus `pessimism` times `Response.disagreement`.

    Agents exploit the errors of a learned simulator; where the members of its ensemble
    disagree, it does not know.
    """

    pessimism: float = 1.0

    def __call__(self, response: Response, context: RewardContext) -> Parts:
        """See `Reward`."""
        del context
        return {"uncertainty": -self.pessimism * response.disagreement}


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """The rows scaled to norm 1, shape (items, dim); rows of zeros stay.

    Raises:
        ValueError: They are no finite numbers of this shape.
    """
    given = np.asarray(vectors)
    if given.ndim != 2 or given.dtype.kind not in "fiu" or not np.isfinite(given).all():
        raise ValueError(
            f"vectors must be finite numbers of shape (items, dim), got {given.dtype} of shape "
            f"{given.shape}"
        )
    norms = np.linalg.norm(given.astype(np.float64), axis=1, keepdims=True)
    return (given / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def _vectors_of(
    reward: DiversityReward | RepetitionPenalty, context: RewardContext
) -> NDArray[np.floating]:
    if reward.vectors is None:
        return context.vectors
    if len(reward.vectors) <= context.slates.max(initial=0):
        raise ValueError(
            f"{type(reward).__name__} has vectors of {len(reward.vectors)} items, but item "
            f"{context.slates.max()} was shown: give one row for each of the catalogue's items"
        )
    return reward.vectors


def _normalise(reward: DiversityReward | RepetitionPenalty) -> None:
    if reward.vectors is not None:
        object.__setattr__(reward, "vectors", unit_rows(reward.vectors))  # frozen to others


def _callable(reward: object) -> RewardFunction:
    if not callable(reward):
        raise TypeError(f"rewards are added to rewards, got {reward!r}")
    return reward
