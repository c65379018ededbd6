"""What TensorBoard shows of a training run: its users, its recommendations, and validation."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from tqdm.auto import tqdm

from audience.agents.evaluation import evaluate, gini
from audience.envs.steps import Step
from audience.reward_models.users import Population, UserModel


class ProgressCallback(BaseCallback):
    """A progress bar in user-steps; Stable-Baselines3's own is an experiment of tqdm that warns."""

    def _on_training_start(self) -> None:
        self._bar = tqdm(total=self.locals["total_timesteps"], unit="step", desc="training")

    def _on_step(self) -> bool:
        self._bar.update(self.training_env.num_envs)
        return True

    def _on_training_end(self) -> None:
        self._bar.close()


class UsersCallback(BaseCallback):
    """Logs, of every rollout, what the users did and what was recommended to them.

    `users/like_rate`, `users/acceptance`, `users/leave_rate`: share of steps with a like, with
    a choice, with a leave. `users/session_length`: steps for each session that ended.
    `recommendations/coverage`: share of the catalogue that was shown; `recommendations/gini`: of
    how often. `charts/steps_per_second`: user-steps, updates included.
    """

    def _on_training_start(self) -> None:
        users: UserModel = self.training_env.get_attr("users", 0)[0]
        self._likes, self._n_items = users.scale.likes, len(users.catalogue)
        self._clock, self._counted = time.perf_counter(), self.num_timesteps
        self._forget()

    def _on_step(self) -> bool:
        step: Step = self.training_env.get_attr("last_step", 0)[0]
        chosen = step.response.choice >= 0
        self._totals += [
            len(chosen),
            chosen.sum(),
            (chosen & self._likes[step.response.level]).sum(),
            step.terminated.sum(),
            step.finished.sum(),
        ]
        self._shown += np.bincount(step.slates.ravel(), minlength=self._n_items)
        return True

    def _on_rollout_end(self) -> None:
        steps, chosen, liked, left, finished = self._totals
        self.logger.record("users/like_rate", liked / steps)
        self.logger.record("users/acceptance", chosen / steps)
        self.logger.record("users/leave_rate", left / steps)
        if finished:
            # Not the mean over those that ended: after a rollout, long ones still run.
            self.logger.record("users/session_length", steps / finished)
        self.logger.record("recommendations/coverage", (self._shown > 0).mean())
        self.logger.record("recommendations/gini", gini(self._shown))
        now = time.perf_counter()
        self.logger.record(
            "charts/steps_per_second",
            (self.num_timesteps - self._counted) / max(now - self._clock, 1e-9),
        )
        self._clock, self._counted = now, self.num_timesteps
        self._forget()

    def _forget(self) -> None:
        self._totals: NDArray[np.int64] = np.zeros(5, np.int64)
        self._shown: NDArray[np.int64] = np.zeros(self._n_items, np.int64)


class EvaluationCallback(BaseCallback):
    """Evaluates the policy every so often, on users who are not trained on.

    Logs `evaluation/return`, `evaluation/session_length`, `evaluation/like_rate` and
    `evaluation/coverage` at the first rollout's end after each multiple of `every`.

    Args:
        users: The user model of the training environment.
        every: User-steps between evaluations, at least 1.
        population: Whom to evaluate on; test users are for the final evaluation only.
        seed: Of the users' draws, the same at every evaluation.
        **env_kwargs: Settings of the environment.
    """

    def __init__(
        self,
        users: UserModel,
        every: int,
        *,
        population: Population = "validation",
        seed: int = 0,
        **env_kwargs: Any,
    ) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1 user-step, got {every!r}")
        self.users, self.every = users, every
        self.population: Population = population
        self.seed, self.env_kwargs = seed, env_kwargs

    def _on_training_start(self) -> None:
        self._next = self.num_timesteps + self.every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps < self._next:
            return
        self._next += self.every * (1 + (self.num_timesteps - self._next) // self.every)
        result = evaluate(
            self.model, self.users, population=self.population, seed=self.seed, **self.env_kwargs
        ).summary()
        self.logger.record("evaluation/return", result["return"]["mean"])
        for name in ("session_length", "like_rate", "coverage"):
            self.logger.record(f"evaluation/{name}", result[name])
