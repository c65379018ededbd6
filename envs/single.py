"""One simulated user: a thin view of the vector core."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import ArrayLike, NDArray

from audience.envs.checks import catalogue_indices, one_of
from audience.envs.infos import Info, of_slot
from audience.envs.observations import Observation
from audience.envs.screen import screen
from audience.envs.vector import RecommendVectorEnv


class RecommendEnv(gym.Env[Observation, NDArray[np.int64] | np.int64 | int]):
    """Recommend items to one simulated user at a time.

    Observation, action, reward, start, termination, truncation and randomness are those of one
    environment of `RecommendVectorEnv`, without the batch axis: `Discrete(items)`, or
    `MultiDiscrete([items] * slate_size)` for slates.

    Info: as there, with Python's own numbers. `action_mask` is what
    `action_space.sample(mask)` takes: int8 (items,), or for slates a tuple of one such array a
    place. `feedback` is absent after a step at which nothing was chosen.

    Args:
        render_mode: None; "ansi", where `render()` returns a screen of text; or "human", which
            prints the screen at each reset and step.
        **settings: All settings of `RecommendVectorEnv` but `num_envs` and `autoreset_mode`.

    Raises:
        ValueError: A setting breaks its rule.
        UserModelError: `users` is a directory that holds no sound user model.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "human"], "render_fps": 1}

    def __init__(self, *, render_mode: str | None = None, **settings: Any) -> None:
        modes = (None, *self.metadata["render_modes"])
        self.render_mode = one_of("render_mode", render_mode, modes)
        self.core = RecommendVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, **settings)
        self.observation_space = self.core.single_observation_space
        self.action_space = self.core.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin a new session; without a seed, the next one of the same key.

        Raises:
            ValueError: An option is given; this version knows none.
        """
        super().reset(seed=seed)
        if options:
            raise ValueError(f"options must be empty or None, got {', '.join(sorted(options))}")
        self.core.np_random = self.np_random  # where a first key without a seed comes from
        observation, info = self.core.reset(seed=seed)
        self._show()
        return _unbatched(observation), self._own(info)

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, Info]:
        """Show the user an item or a slate.

        Raises:
            ValueError: The action is no whole number, out of range or of the wrong shape.
            ResetNeeded: `reset` has not been called, or not after the session finished.
        """
        n_items = len(self.core.users.catalogue)
        chosen = catalogue_indices(action, self.action_space.shape or (), n_items)
        observation, reward, terminated, truncated, info = self.core.step(chosen[None])
        self._show()
        ends = bool(terminated[0]), bool(truncated[0])
        return _unbatched(observation), float(reward[0]), *ends, self._own(info)

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions are open, bool (slate_size * items,), as MaskablePPO takes them."""
        return self.core.action_masks()[0]

    def render(self) -> str | None:
        """The screen, with `render_mode="ansi"`; prints it with "human"."""
        if self.render_mode == "ansi":
            return screen(self.core, 0)
        self._show()
        return None

    def _show(self) -> None:
        if self.render_mode == "human":
            print(screen(self.core, 0), end="\n\n", flush=True)

    def _own(self, info: Info) -> Info:
        own = of_slot(info, 0)
        if self.core.slate_size > 1:
            mask = own["action_mask"]
            own["action_mask"] = tuple(mask.copy() for _ in range(self.core.slate_size))
        return own


def _unbatched(observation: Observation) -> Observation:
    return {key: value[0] for key, value in observation.items()}
