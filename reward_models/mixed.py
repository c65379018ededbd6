"""Users of several user models in one population: an error of one is no error of the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.users import Assumptions, Response, Sessions, UserModel, check_alike


class MixedUsers:
    """Several user models of one log, of several classes, behind the contract of one.

    A user model has errors that an agent learns to live off; one of another class has others. An
    agent that is trained in both, and is not told in which it is, keeps to what holds in both
    (Peng et al., "Sim-to-real transfer of robotic control with dynamics randomization", ICRA 2018).

    Slot i of a block lives in model i modulo their number, so an environment wants at least as
    many users at a time as there are models. All that is asked beside sessions (items, starts,
    scores) the first model answers.

    Args:
        models: At least one; of the same items and feedback levels.

    Raises:
        ValueError: There is none, or one knows other items or levels than the first.
    """

    def __init__(self, models: Sequence[UserModel]) -> None:
        if not models:
            raise ValueError("models must be at least one user model, got none")
        first, *others = models
        for number, one in enumerate(others, 1):
            check_alike(f"model {number}", one, first)
        self.models = tuple(models)
        self.card = {"mixed": [getattr(one, "card", None) for one in models]}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "models":  # asked for before they are set, in copies
            raise AttributeError(name)
        return getattr(self.models[0], name)

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> MixedSessions:
        """A block of `slots` sessions that are shown slates of `slate_size` items."""
        count = len(self.models)
        parts: list[Sessions] = []
        for number, one in enumerate(self.models[:slots]):
            own = len(range(number, slots, count))
            parts.append(one.open(own, slate_size, assumptions))
        return MixedSessions(parts)


class MixedSessions:
    """A block of sessions of mixed users; see `audience.reward_models.users.Sessions`.

    Args:
        parts: Blocks of each model: slot i is slot i // parts of part i modulo parts.
    """

    def __init__(self, parts: Sequence[Sessions]) -> None:
        self.parts = parts

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        count = len(self.parts)
        for number, part in enumerate(self.parts):
            own = np.flatnonzero(slots % count == number)
            if len(own):
                part.start(slots[own] // count, histories.take(own))

    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        active: NDArray[np.bool_],
    ) -> Response:
        """Show every active slot its slate; the users of each part answer."""
        count, whole = len(self.parts), Response.nothing(len(slates))
        for number, part in enumerate(self.parts):
            own = slice(number, None, count)
            said = part.respond(slates[own], uniforms[own], active[own])
            for field in dataclasses.fields(Response):
                getattr(whole, field.name)[own] = getattr(said, field.name)
        return whole

    def get_state(self) -> list[Any]:
        """Copies of all that later responses depend on."""
        return [part.get_state() for part in self.parts]  # type: ignore[attr-defined]

    def set_state(self, state: list[Any]) -> None:
        """Go on from what `get_state` gave."""
        for part, own in zip(self.parts, state, strict=True):
            part.set_state(own)  # type: ignore[attr-defined]


def mixed(models: Sequence[UserModel]) -> UserModel:
    """The users of all of these models in one population; of a single one, itself."""
    return models[0] if len(models) == 1 else MixedUsers(models)
