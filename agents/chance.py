"""Leaving counted as a discount, so that less of what is learned from is chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor

from audience.agents.vec_env import SB3VecEnv
from audience.reward_models.users import Assumptions, UserModel


@dataclasses.dataclass(frozen=True)
class Leaving:
    """How leaving is taken into a training.

    Users of whom a share h leaves after a step are worth as much to a policy as users who stay
    and whose future counts 1 - h as much: every expected discounted return is the same. But a
    session that ends takes with it all that was to come, which is many times what a recommendation
    can win or lose: on movielens, of a policy that had imitated greedy, the squared error of a
    fitted critic is 24 with leaving as it is, 2 where leaving that comes after any step is a
    discount, and 1 where all leaving is.

    Attributes:
        assumptions: Of the training environment.
        kept: Factor on the discount, for leaving that comes whatever is shown.
        choice: Share that further leaves after a choice, which the environment does not let
            happen; 0 where it does.
        skip: The same after a skip.
    """

    assumptions: Assumptions
    kept: float = 1.0
    choice: float = 0.0
    skip: float = 0.0

    @classmethod
    def of(cls, users: UserModel, assumptions: Assumptions, on_policy: bool) -> Leaving:
        """That of users whose leaving is an assumption; else nothing is changed.

        Args:
            users: They say what they learned from the log (`learned`).
            assumptions: Of the environment.
            on_policy: Whether returns are computed in a rollout buffer, where each step can have
                a discount of its own; else only what all steps have in common is one.
        """
        learned = getattr(users, "learned", None)
        given = assumptions.leave_after_choice, assumptions.leave_after_skip
        stated = assumptions.stated
        both = stated.leave_after_choice, stated.leave_after_skip
        if learned is None or ("leave" in learned and None in given) or min(both) >= 1:
            return cls(assumptions)
        kept = 1 - min(both)
        choice, skip = (1 - (1 - hazard) / kept for hazard in both)

        def leaving(choice: float, skip: float) -> Assumptions:
            return dataclasses.replace(
                assumptions, leave_after_choice=choice, leave_after_skip=skip
            )

        if not on_policy:
            return cls(leaving(choice, skip), kept)
        return cls(leaving(0.0, 0.0), kept, choice, skip)

    def count(self, model: OnPolicyAlgorithm) -> None:
        """Let the returns that the algorithm learns from tell of who would have left."""
        env, old = model.get_env(), model.rollout_buffer
        assert isinstance(env, SB3VecEnv)
        if not (self.choice or self.skip):
            return
        masks = isinstance(old, MaskableDictRolloutBuffer)
        buffer: Any = (_MaskableStaying if masks else _Staying)(
            model.n_steps,
            model.observation_space,  # type: ignore[arg-type]
            model.action_space,
            model.device,
            gamma=model.gamma,
            gae_lambda=model.gae_lambda,
            n_envs=model.n_envs,
        )
        core = env.core

        def stay() -> NDArray[np.float32]:
            assert core.last_step is not None
            chosen = core.last_step.response.choice >= 0
            return np.where(chosen, 1 - self.choice, 1 - self.skip).astype(np.float32)

        buffer.stay = stay
        model.rollout_buffer = buffer


class _StayingMixin:
    """A rollout buffer with a factor on the discount of each step.

    Attributes:
        stay: Gives it for the step just taken, (users,).
        stays: Of each step, (steps, users).
    """

    stay: Callable[[], NDArray[np.float32]]
    pos: int
    buffer_size: int
    n_envs: int
    episode_starts: NDArray[np.float32]

    def reset(self) -> None:
        """Empty it."""
        self.stays = np.ones((self.buffer_size, self.n_envs), np.float32)
        super().reset()  # type: ignore[misc]

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Add a step; the environment has taken it."""
        self.stays[self.pos] = self.stay()
        super().add(*args, **kwargs)  # type: ignore[misc]

    def compute_returns_and_advantage(self, last_values: Tensor, dones: NDArray[Any]) -> None:
        """As the base does, for which what follows a step counts 1 less its "end", 0 or 1."""
        starts = self.episode_starts
        self.episode_starts = starts.copy()
        self.episode_starts[1:] = 1 - (1 - starts[1:]) * self.stays[:-1]
        ends = 1 - (1 - np.asarray(dones, np.float32)) * self.stays[-1]
        super().compute_returns_and_advantage(last_values, ends)  # type: ignore[misc]
        self.episode_starts = starts


class _Staying(_StayingMixin, DictRolloutBuffer):
    pass


class _MaskableStaying(_StayingMixin, MaskableDictRolloutBuffer):
    pass
