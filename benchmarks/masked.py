"""The simulator under replay's masks against replay: the same users, items and picks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.agents.base import Agent, Observation
from audience.benchmarks.picks import (
    PICKS,
    FeedbackUsers,
    ModelFeedbackAgent,
    Pools,
    values_by_user,
)
from audience.benchmarks.policies import log_policies
from audience.reward_models.fit_data import FitData
from audience.reward_models.users import START_EVENTS

F64 = NDArray[np.float64]

WORLDS = ("simulator", "truth")

LEFT_OUT = "model_"
"""Beginning of the names of mixtures with the model, which cost most of the time."""


def masked_values(
    agents: Mapping[str, Agent], users: FeedbackUsers, data: FitData, seed: int, window: int
) -> dict[str, Any] | None:
    """Mean feedback of each test user's picks, by policy: in the simulator and in truth.

    Args:
        agents: Of the comparison; further policies join them, good and bad ones.
        users: The simulator, whose test users these are.
        data: What it was fitted on.
        seed: Of all draws.
        window: Events in the observations that the agents were made for.

    Returns:
        `users`, their places among the test users, and `values`, by policy a list of each world;
        None where no test user has events enough.
    """
    try:
        pools = Pools.replay(data.histories["test"], data.values["test"], seed)
    except ValueError:
        return None
    model = ModelFeedbackAgent(users, data.scale)
    others = log_policies(model, data.histories["fitting"], data.catalogue, data.scale, seed)
    policies = {n: policy for n, policy in others.items() if not n.startswith(LEFT_OUT)}
    width = max(window, START_EVENTS + PICKS)
    policies |= {name: _Wide(agent, width) for name, agent in agents.items()}
    n_items = len(data.catalogue)
    values = {
        name: [
            values_by_user(
                policy,
                pools,
                "truth" if world == "truth" else "simulator",
                users,
                data.scale,
                n_items,
                seed,
            ).tolist()
            for world in WORLDS
        ]
        for name, policy in policies.items()
    }
    place = {user: at for at, user in enumerate(data.histories["test"].users.tolist())}
    users_picked = [place[user] for user in pools.histories.users.tolist()]
    return {"users": users_picked, "values": values}


class _Wide:
    """An agent whose observations have the places that its policy was trained with."""

    def __init__(self, agent: Agent, width: int) -> None:
        self._agent, self._width = agent, width

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
        action_masks: NDArray[Any] | None = None,
    ) -> tuple[NDArray[np.int64], Any]:
        wide = {
            name: np.pad(part, ((0, 0), (0, self._width - part.shape[1])))
            if name in ("item", "feedback")
            else part
            for name, part in observation.items()
        }
        wide["mask"] = wide["mask"].astype(np.int8)
        del action_masks  # they are in the observation, where every policy obeys them
        return self._agent.predict(
            wide, state=state, episode_start=episode_start, deterministic=deterministic
        )
