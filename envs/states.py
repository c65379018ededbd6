"""Going back to an earlier moment: the state of an environment as a dict of copies."""

from __future__ import annotations

from abc import abstractmethod
from copy import deepcopy
from typing import Any, Self

from audience.envs.episodes import Episodes

OWN = (
    "steps",
    "session",
    "clock",
    "user_names",
    "last_step",
    "candidates",
    "_finished",
    "_episode_parts",
    "_streams",
    "_observed",
    "_np_random",
    "_np_random_seed",
)
"""Attributes of an environment that change from step to step, beside its sessions."""


class Saved(Episodes):
    """An environment that can be saved, copied and put back."""

    _settings: dict[str, Any]

    def get_state(self) -> dict[str, Any]:
        """A copy of all that the coming episodes depend on, but the settings and the users.

        Raises:
            TypeError: The user model's sessions cannot tell their state.
        """
        sessions = self._sessions
        if not hasattr(sessions, "get_state"):
            raise TypeError(
                f"{type(sessions).__name__} cannot tell its state (it has no get_state and "
                f"set_state), so the environment can be neither saved nor copied while sessions "
                f"run"
            )
        return {
            "of": self._shape(),
            "own": deepcopy({name: getattr(self, name) for name in OWN}),
            "sessions": sessions.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave, here or in an environment of the same settings.

        Raises:
            ValueError: The state is that of an environment of other settings.
        """
        if not isinstance(state, dict) or set(state) != {"of", "own", "sessions"}:
            raise ValueError("state must be what get_state() of an environment gave")
        if state["of"] != self._shape():
            raise ValueError(
                f"state must be that of an environment of the same settings, {self._shape()}, got "
                f"one of {state['of']}"
            )
        sessions: Any = self._sessions
        sessions.set_state(state["sessions"])
        for name, value in deepcopy(state["own"]).items():
            setattr(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        state = self.get_state() if self._streams.keyed.any() else None
        return {"settings": self._settings, "state": state, "spaces": self._spaces()}

    def __setstate__(self, pickled: dict[str, Any]) -> None:
        self._make(pickled["settings"])
        self.__dict__.update(pickled["spaces"])
        if pickled["state"] is not None:
            self.set_state(pickled["state"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = object.__new__(type(self))
        memo[id(self)] = other
        own = self.__getstate__()
        # The users are shared: they hold no state of an environment.
        other.__setstate__({**own, "spaces": deepcopy(own["spaces"], memo)})
        return other

    @abstractmethod
    def _make(self, settings: dict[str, Any]) -> None:
        """Construct anew with these settings, whatever the class of the instance."""

    def _spaces(self) -> dict[str, Any]:
        """The spaces with the state of their generators, and what registration gave."""
        names = ("action_space", "single_action_space", "observation_space", "spec")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _shape(self) -> dict[str, int]:
        """What a state must have in common with the environment that it is put into."""
        return {
            "num_envs": self.num_envs,
            "slate_size": self.slate_size,
            "history_size": self.history_size,
            "items": len(self.users.catalogue),
            "candidates": 0 if self.candidates is None else self.candidates.items.shape[1],
        }
