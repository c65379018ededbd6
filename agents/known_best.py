"""How near an agent comes to the best policy of scripted users, which is computable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.agents.algorithms import algorithm_of
from audience.agents.evaluation import bootstrap_interval, evaluate
from audience.agents.greedy import GreedyAgent
from audience.agents.training import evaluation_kwargs
from audience.agents.training_settings import TrainSettings
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.scripted_plan import best_value

SESSIONS = 20
"""Of each validation user: a session's return varies by about as much as it is worth."""


@dataclass(frozen=True)
class KnownBest:
    """What is known of scripted users, in sessions of slates of one item.

    Attributes:
        users: Whose.
        best: Expected return of the best policy from each validation user's start, (users,).
        greedy: Mean return of greedy on the truth, likewise.
    """

    users: ScriptedUsers
    best: NDArray[np.float64]
    greedy: NDArray[np.float64]

    @classmethod
    def of(cls, users: ScriptedUsers, settings: TrainSettings) -> KnownBest:
        """Compute the best value, and meet the validation users with greedy.

        Raises:
            ValueError: A topic has too few items for the sessions.
        """
        best = best_value(users, users.starts("validation"), settings.step_limit)
        return cls(users, best, _returns(GreedyAgent(users), users, settings, embeds=False))

    def sentence(self, runs: list[TrainSettings]) -> str:
        """The share of the best value that trained agents reach, and their lead over greedy.

        Args:
            runs: Settings of the runs, whose `out` holds each one's model.
        """
        own = np.array([self.returns(run) for run in runs])  # (runs, users)
        # Users are paired; where there are several seeds, a user's mean over them counts.
        low, high = bootstrap_interval((own - self.greedy).mean(0))
        best, mean = self.best.mean(), own.mean()
        return (
            f"Best policy {best:.2f}; greedy on the truth {self.greedy.mean():.2f}; "
            f"{runs[0].algo} {mean:.2f}, {mean / best:.1%} of the best "
            f"({', '.join(f'{one:.1%}' for one in own.mean(1) / best)} by seed); "
            f"lead over greedy {mean - self.greedy.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
        )

    def returns(self, run: TrainSettings) -> NDArray[np.float64]:
        """Mean return of each validation user with a trained agent, (users,)."""
        known = algorithm_of(run.algo)
        archive: Any = known.make
        model = archive.load(f"{run.out}/model.zip", device=run.device)
        return _returns(model, self.users, run, known.embeds)


def _returns(
    agent: Any, users: ScriptedUsers, settings: TrainSettings, embeds: bool
) -> NDArray[np.float64]:
    kwargs = evaluation_kwargs(users, settings) if embeds else settings.env_kwargs
    return evaluate(
        agent,
        users,
        population="validation",
        sessions_per_user=SESSIONS,
        seed=settings.step_limit,  # any draws that are the same for all
        **kwargs,
    ).user_returns()
