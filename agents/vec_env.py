"""A Stable-Baselines3 view of the vector environment."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

import audience.envs  # noqa: F401  registers the ids
from audience.envs.flat import FlatEncoder
from audience.envs.observations import Observation
from audience.envs.vector import RecommendVectorEnv


def make_sb3_env(
    env_id: str = "audience/MovieLens-v0",
    num_envs: int = 256,
    *,
    seed: int | None = None,
    mask_in_observation: bool = True,
    flat_history: bool = False,
    **settings: Any,
) -> SB3VecEnv:
    """Make an environment of many users for Stable-Baselines3.

    Args:
        env_id: A registered id whose vector form is a `RecommendVectorEnv`.
        num_envs: Number of users at a time.
        seed: User i is seeded with `seed + i` at the first reset.
        mask_in_observation: Whether the observation holds `mask`; for algorithms without
            masks our policies obey it.
        flat_history: Whether observations are flat (`audience.envs.flat.FlatEncoder`), for
            "MlpPolicy"; then without `mask`.
        **settings: Further settings of `RecommendVectorEnv`.
    """
    env = gym.make_vec(
        env_id,
        num_envs=num_envs,
        mask_in_observation=mask_in_observation,
        autoreset_mode=AutoresetMode.SAME_STEP,
        **settings,
    )
    view = SB3VecEnv(env.unwrapped, flat_history)
    if seed is not None:
        view.seed(seed)
    return view


class SB3VecEnv(VecEnv):
    """A `RecommendVectorEnv` with `SAME_STEP` autoreset, under Stable-Baselines3's `VecEnv`.

    The infos of a step are empty but for finished sessions, which have `terminal_observation`,
    `TimeLimit.truncated` and, as with a `Monitor`, `episode` (return `r`, length `l`, seconds
    since construction `t`), and `episode_parts`, the parts of that return. All else that the step
    told stands in `step_info`.

    Args:
        env: The environment.
        flat_history: See `make_sb3_env`.

    Attributes:
        core: The environment viewed.
        step_info: The info of the core's last step or reset: arrays of shape (num_envs, ...)
            with masks `_key`; that of finished sessions under `final_info`.

    Raises:
        ValueError: The environment is of another class or autoreset mode.
    """

    def __init__(
        self, env: gym.vector.VectorEnv[Any, Any, Any], flat_history: bool = False
    ) -> None:
        if not isinstance(env, RecommendVectorEnv):
            raise ValueError(f"env must be a RecommendVectorEnv, got {type(env).__name__}")
        if env.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                f"env must be made with autoreset_mode=AutoresetMode.SAME_STEP, "
                f"got {env.autoreset_mode}"
            )
        self.core = env
        self.step_info: dict[str, Any] = {}
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, np.int64)
        self._began = time.time()
        self._flat = FlatEncoder(env) if flat_history else None
        space = env.single_observation_space if self._flat is None else self._flat.space
        super().__init__(env.num_envs, space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Begin new sessions, with the seeds and options set before; they serve once."""
        # `user` and `history` are each environment's own; an unknown key is the core's to refuse.
        keys = sorted({key for given in self._options for key in given})
        options = {key: [given.get(key) for given in self._options] for key in keys}
        observation, self.step_info = self.core.reset(seed=self._seeds, options=options)
        self._returns[:], self._lengths[:] = 0, 0
        self._reset_seeds()
        self._reset_options()
        return self._seen(observation)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions, shape (num_envs,) or (num_envs, slate_size), for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step; a finished session has made place for the next one already."""
        observation, reward, terminated, truncated, self.step_info = self.core.step(self._actions)
        done = terminated | truncated
        self._returns += reward
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        elapsed = round(time.time() - self._began, 6)
        for slot in np.flatnonzero(done).tolist():
            parts = self.step_info["final_info"]["episode_parts"]
            infos[slot] = {
                "terminal_observation": self._seen(self.step_info["final_obs"][slot]),
                "TimeLimit.truncated": bool(truncated[slot]),
                "episode": {
                    "r": float(self._returns[slot]),
                    "l": int(self._lengths[slot]),
                    "t": elapsed,
                },
                "episode_parts": {
                    name: float(part[slot])
                    for name, part in parts.items()
                    if not name.startswith("_")
                },
            }
        self._returns[done], self._lengths[done] = 0, 0
        return self._seen(observation), reward.astype(np.float32), done, infos

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seed environment i with `seed + i` at the next reset; None draws fresh entropy."""
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self._seeds = [seed + slot for slot in range(self.num_envs)]
        return self._seeds

    def get_state(self) -> dict[str, Any]:
        """A copy of all that the coming steps depend on; see `RecommendVectorEnv.get_state`."""
        own = {"returns": self._returns.copy(), "lengths": self._lengths.copy()}
        return {"core": self.core.get_state(), **own}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        self.core.set_state(state["core"])
        self._returns[:], self._lengths[:] = state["returns"], state["lengths"]

    def close(self) -> None:
        """Close the core."""
        self.core.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The core's attribute, once for each index.

        Raises:
            AttributeError: The core has no such attribute.
        """
        value = getattr(self.core, attr_name)
        return [value for _ in self._slots(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set the core's attribute, for all environments at once.

        Raises:
            ValueError: `indices` leaves environments out, which share the core.
        """
        if len(set(self._slots(indices))) < self.num_envs:
            raise ValueError(
                f"indices must be None or name all {self.num_envs} environments, for they share "
                f"one core, got {indices!r}"
            )
        setattr(self.core, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the core once; the row of its result that belongs to each index.

        Raises:
            AttributeError: The core has no such method.
            ValueError: The method does not answer with one row an environment.
        """
        result = getattr(self.core, method_name)(*method_args, **method_kwargs)
        if not isinstance(result, (np.ndarray, list, tuple)) or len(result) != self.num_envs:
            raise ValueError(
                f"env_method calls what answers with one row an environment, such as "
                f"'action_masks'; {method_name!r} does not: call it on `core`"
            )
        return [result[slot] for slot in self._slots(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """True for `Monitor`, whose work this class does itself; else False."""
        return [wrapper_class is Monitor for _ in self._slots(indices)]

    def _seen(self, observation: Observation) -> Any:
        return observation if self._flat is None else self._flat.encode(observation)

    def _slots(self, indices: VecEnvIndices) -> list[int]:
        return [int(slot) for slot in self._get_indices(indices)]
