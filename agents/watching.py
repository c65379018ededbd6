"""Watching a training from other worlds, so that it does not live off its simulator's errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from audience.agents.evaluation import Evaluation, evaluate
from audience.reward_models.replay import PICKS
from audience.reward_models.users import Population, UserModel, check_alike

SIMULATOR, INNER_JUDGE, REPLAY = "simulator", "inner_judge", "validation_replay"


class EvaluationCallback(BaseCallback):
    """Evaluates the policy every so often, on users who are not trained on.

    Logs `evaluation/return`, `evaluation/session_length`, `evaluation/like_rate` and
    `evaluation/coverage` in the training simulator at the first rollout's end after each multiple
    of `every`; with an inner judge also `evaluation/inner_judge_return` and
    `evaluation/exploitation_gap`, the first return less the second; with replayed users
    `evaluation/replay_return`, of real feedback in 10 picks.

    Args:
        users: The user model of the training environment.
        every: User-steps between evaluations, at least 1.
        population: Whom to evaluate on; test users are for the final evaluation only.
        seed: Of the users' draws, the same at every evaluation.
        inner_judge: An independent user model of the same catalogue.
        replay: Real users of the same catalogue.
        early_stop: Stop after so many evaluations without a better return in the inner judge's
            world; 0 for never.
        best: Where to keep the model that did best there (an archive of Stable-Baselines3).
        **env_kwargs: Settings of the environment.

    Raises:
        ValueError: `every` is below 1, or another world has another catalogue.
    """

    def __init__(
        self,
        users: UserModel,
        every: int,
        *,
        population: Population = "validation",
        seed: int = 0,
        inner_judge: UserModel | None = None,
        replay: UserModel | None = None,
        early_stop: int = 0,
        best: Path | None = None,
        **env_kwargs: Any,
    ) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1 user-step, got {every!r}")
        for name, other in (("inner_judge", inner_judge), ("replay", replay)):
            check_alike(name, other, users)
        self.users, self.every = users, every
        self.population: Population = population
        self.seed, self.env_kwargs = seed, env_kwargs
        self.inner_judge, self.replay = inner_judge, replay
        self.early_stop, self.best = early_stop, best
        self._next = -1
        self._best_return, self._worse = -np.inf, 0

    def get_state(self) -> dict[str, Any]:
        """What a resumed training goes on with."""
        return {"next": self._next, "best": self._best_return, "worse": self._worse}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `get_state` gave."""
        self._next, self._best_return, self._worse = state["next"], state["best"], state["worse"]

    @property
    def stopped(self) -> bool:
        """Whether the inner judge has seen no progress for too long."""
        return bool(self.early_stop) and self._worse >= self.early_stop

    def _on_training_start(self) -> None:
        if self._next < 0:
            self._next = self.num_timesteps + self.every

    def _on_step(self) -> bool:
        return not self.stopped

    def _on_rollout_end(self) -> None:
        if self.num_timesteps < self._next:
            return
        self._next += self.every * (1 + (self.num_timesteps - self._next) // self.every)
        results = worlds(
            self.model,
            self.users,
            self.inner_judge,
            self.replay,
            population=self.population,
            seed=self.seed,
            **self.env_kwargs,
        )
        found = {name: result.summary() for name, result in results.items()}
        own = found[SIMULATOR]
        self.logger.record("evaluation/return", own["return"]["mean"])
        for name in ("session_length", "like_rate", "coverage"):
            self.logger.record(f"evaluation/{name}", own[name])
        if REPLAY in found:
            self.logger.record("evaluation/replay_return", found[REPLAY]["return"]["mean"])
        if INNER_JUDGE in found:
            there = found[INNER_JUDGE]["return"]["mean"]
            self.logger.record("evaluation/inner_judge_return", there)
            gap = own["return"]["mean"] - there
            self.logger.record("evaluation/exploitation_gap", gap)
            self._keep_best(there)

    def _keep_best(self, value: float) -> None:
        self._worse += 1
        if value > self._best_return:
            self._best_return, self._worse = value, 0
            if self.best is not None:
                save_model(self.model, self.best)


def worlds(
    agent: Any,
    users: UserModel,
    inner_judge: UserModel | None,
    replay: UserModel | None,
    **settings: Any,
) -> dict[str, Evaluation]:
    """The agent's sessions in its simulator and, where they are, with the judge and real users.

    Args:
        agent: As `evaluate` takes it.
        users: The simulator.
        inner_judge: A judge of the same catalogue, or None.
        replay: Real users of the same catalogue, or None; they meet slates of one item only.
        **settings: Of `evaluate`.
    """
    found = {SIMULATOR: evaluate(agent, users, **settings)}
    if inner_judge is not None:
        found[INNER_JUDGE] = evaluate(agent, inner_judge, **settings)
    if replay is not None and settings.get("slate_size", 1) == 1:
        one = {**settings, "step_limit": PICKS}
        if "history_size" not in one:
            one["history_size"] = settings.get("start", 8) + settings["step_limit"]
        found[REPLAY] = evaluate(agent, replay, **one)
    return found


def save_model(model: BaseAlgorithm, path: Path) -> None:
    """Write the archive of an algorithm in one step; `path` ends in .zip."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.zip")
    model.save(temporary)
    temporary.replace(path)
