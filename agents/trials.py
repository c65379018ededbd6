"""Settings tried in the simulator: agents race in sessions of validation users."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import Agent
from audience.agents.one_episode import OneEpisodeEnv
from audience.reward_models.users import UserModel

KEPT = 3
"""One of so many agents goes on to the next round of a race, with as many times the sessions
(Jamieson & Talwalkar, "Non-stochastic Best Arm Identification", AISTATS 2016)."""

DRAWS = 2**31
"""Distance of the draws of trials from those of training, which uses the keys from 0 on."""

SLOTS = 4096
"""Sessions at a time at most: one step of many costs little more than one of few."""


@dataclass(frozen=True)
class Trials:
    """Where settings are tried, and how much is spent on it.

    Attributes:
        users: The simulator.
        steps: User-steps to spend on one baseline at most, all its settings together: RL's budget,
            or less. But every setting gets one session of each validation user at least.
        env_kwargs: Settings of the environment, those of RL.
        seed: Of the draws, which all settings share.
    """

    users: UserModel
    steps: int
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def race(self, agents: Sequence[Agent]) -> list[dict[str, Any]]:
        """Let agents meet the same sessions; the better third of each round goes on.

        Returns:
            Of each agent `return` (mean over its sessions), `sessions` (of each validation user)
            and `steps` (user-steps that it took). The winner is the one with the highest return
            among those with the most sessions.
        """
        n_users = max(len(self.users.starts("validation").at_least(1)), 1)
        longest = int(self.env_kwargs.get("step_limit", 30))
        rounds = max(1, math.ceil(math.log(len(agents), KEPT) - 1e-9))
        total, steps = np.zeros(len(agents)), np.zeros(len(agents), np.int64)
        met = np.zeros(len(agents), np.int64)
        left = np.arange(len(agents))
        for turn in range(rounds):
            share = (self.steps - int(steps.sum())) // (rounds - turn)
            sessions = max(1, share // (len(left) * n_users * longest))
            seed = DRAWS * (1 + self.seed) + int(met.max()) * n_users
            group = max(1, SLOTS // (sessions * n_users))
            for at in range(0, len(left), group):
                part = left[at : at + group]
                returns, taken = self._live([agents[i] for i in part], sessions * n_users, seed)
                total[part] += returns.mean(1) * sessions
                steps[part] += taken
            met[left] += sessions
            ranked = left[np.argsort(-total[left], kind="stable")]
            left = np.sort(ranked[: math.ceil(len(left) / KEPT)])
        return [
            {"return": float(t / m), "sessions": int(m), "steps": int(s)}
            for t, m, s in zip(total, met, steps, strict=True)
        ]

    def _live(
        self, agents: list[Agent], slots: int, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns (agents, slots) and user-steps (agents,): all agents at once, slots for each."""
        settings = {"mask_in_observation": True, **self.env_kwargs}
        env = OneEpisodeEnv(
            len(agents) * slots,
            users=self.users,
            population="validation",
            in_order=True,
            **settings,
        )
        # Slot i of each agent lives the same session, as far as the agents do the same.
        seeds = [seed + slot for slot in range(slots)] * len(agents)
        observation, _ = env.reset(seed=seeds)
        running = np.ones(env.num_envs, np.bool_)
        total, length = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        actions = np.zeros((env.num_envs, *(env.single_action_space.shape or ())), np.int64)
        for _ in range(env.step_limit):
            for at, agent in enumerate(agents):
                own = at * slots + np.flatnonzero(running[at * slots : (at + 1) * slots])
                if len(own):
                    seen = {key: value[own] for key, value in observation.items()}
                    actions[own] = agent.predict(seen, deterministic=True)[0]
            observation, reward, terminated, truncated, _ = env.step(actions)
            total += reward
            length += running
            running &= ~(terminated | truncated)
            if not running.any():
                break
        env.close()
        shape = (len(agents), slots)
        return total.reshape(shape), length.reshape(shape).sum(1)
