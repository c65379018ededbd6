"""One simulated user: a thin view of the vector core."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray

from audience.envs.actions import IndexActions
from audience.envs.checks import RESET_OPTIONS, one_of
from audience.envs.infos import Info, of_slot
from audience.envs.observations import Observation
from audience.envs.picture import picture
from audience.envs.screen import screen
from audience.envs.vector import RecommendVectorEnv


class RecommendEnv(gym.Env[Observation, NDArray[Any] | np.int64 | int]):
    """Recommend items to one simulated user at a time.

    Observation, action, reward, start, termination, truncation, randomness and state are those
    of one environment of `RecommendVectorEnv`, without the batch axis: `Discrete(items)`,
    `MultiDiscrete([items] * slate_size)` for slates, or a `Box` of embeddings.

    Info: as there, with Python's own numbers. `action_mask` is what
    `action_space.sample(mask)` takes: int8 (items,), or for slates a tuple of one such array a
    place; with embeddings, which know no mask, int8 (items,). `feedback` is absent after a step
    at which nothing was chosen, `dwell_seconds` also where the users know no dwell times.

    Args:
        render_mode: None; "ansi", where `render()` returns a screen of text; "human", which
            prints the screen at each reset and step; or "rgb_array", where `render()` returns a
            picture, uint8 (height, width, 3).
        **settings: All settings of `RecommendVectorEnv` but `num_envs` and `autoreset_mode`.

    Raises:
        ValueError: A setting breaks its rule.
        UserModelError: `users` is a directory that holds no sound user model.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "human", "rgb_array"], "render_fps": 1}

    def __init__(self, *, render_mode: str | None = None, **settings: Any) -> None:
        modes = (None, *self.metadata["render_modes"])
        self.render_mode = one_of("render_mode", render_mode, modes)
        self.core = RecommendVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, **settings)
        self.observation_space = self.core.single_observation_space
        self.action_space = self.core.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin a new episode; without a seed, the next one of the same key.

        Args:
            seed: See `RecommendVectorEnv.reset`.
            options: `user`, a pseudonym, or `history`, [(item id, feedback), ...]: likewise.

        Raises:
            ValueError: An option is unknown or breaks its rule.
        """
        own = dict(options or {})
        unknown = sorted(map(str, set(own) - set(RESET_OPTIONS[1:])))
        if unknown:
            raise ValueError(f"options may hold only 'user' or 'history', got {', '.join(unknown)}")
        super().reset(seed=seed)
        self.core.np_random = self.np_random  # where a first key without a seed comes from
        # One for each environment, of which there is one: [x] for x cannot be misread.
        each = {key: None if value is None else [value] for key, value in own.items()}
        observation, info = self.core.reset(seed=seed, options=each)
        self._show()
        return _unbatched(observation), self._own(info)

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, Info]:
        """Show the user an item or a slate.

        Raises:
            ValueError: The action is of the wrong kind or shape, or out of range.
            ResetNeeded: `reset` has not been called, or not after the episode finished.
        """
        chosen = self.core.actions.checked(action, ())
        observation, reward, terminated, truncated, info = self.core.taken(chosen[None])
        self._show()
        ends = bool(terminated[0]), bool(truncated[0])
        return _unbatched(observation), float(reward[0]), *ends, self._own(info)

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions are open, bool (slate_size * items,), as MaskablePPO takes them."""
        return self.core.action_masks()[0]

    def render(self) -> str | NDArray[np.uint8] | None:
        """The screen or picture, with "ansi" or "rgb_array"; prints the screen with "human"."""
        if self.render_mode == "ansi":
            return screen(self.core, 0)
        if self.render_mode == "rgb_array":
            return picture(self.core, 0)
        self._show()
        return None

    def get_state(self) -> dict[str, Any]:
        """See `RecommendVectorEnv.get_state`."""
        return self.core.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """See `RecommendVectorEnv.set_state`."""
        self.core.set_state(state)
        self.np_random = self.core.np_random

    def _show(self) -> None:
        if self.render_mode == "human":
            print(screen(self.core, 0), end="\n\n", flush=True)

    def _own(self, info: Info) -> Info:
        own = of_slot(info, 0)
        if self.core.slate_size > 1 and isinstance(self.core.actions, IndexActions):
            mask = own["action_mask"]
            own["action_mask"] = tuple(mask.copy() for _ in range(self.core.slate_size))
        return own


def _unbatched(observation: Observation) -> Observation:
    return {key: value[0] for key, value in observation.items()}
