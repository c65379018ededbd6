from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audience.agents.algorithms import make_algorithm
from audience.agents.first_values import fit_critic
from audience.agents.vec_env import make_sb3_env
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import Assumptions, Population, Response

ITEMS, GAMMA = 20, 0.5


class ContentUsers:
    """They take and like all that they are shown; then all leave, or nobody."""

    def __init__(self, leaves: bool) -> None:
        names = np.array([f"i{item}" for item in range(ITEMS)])
        self.catalogue = Catalogue(names, names, np.ones(ITEMS, np.int64), np.full(ITEMS, 0.5))
        self.scale, self.leaves = FeedbackScale((0.0, 1.0)), leaves

    def starts(self, population: Population) -> Histories:
        return Histories.from_lists([[(item, 0)] for item in range(ITEMS)])

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> ContentUsers:
        return self

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        pass

    def respond(
        self, slates: NDArray[np.int64], uniforms: NDArray[np.float64], active: NDArray[np.bool_]
    ) -> Response:
        none = np.zeros(len(slates), np.int64)
        ones = np.ones(len(slates))
        leave = np.full(len(slates), self.leaves)
        return Response(none, slates[:, 0], none + 1, leave, ones, ones * np.nan, ones * 0)


@pytest.mark.parametrize(("leaves", "value"), [(True, 1.0), (False, 1 / (1 - GAMMA))])
@pytest.mark.parametrize("algo", ["ppo", "a2c", "maskable_ppo"])
def test_a_critic_learns_what_follows_and_the_policy_stays(
    algo: str, leaves: bool, value: float
) -> None:
    """What is cut off after two steps would have gone on; what is left is over."""
    settings: dict[str, Any] = {"start": 1, "step_limit": 2}
    users = ContentUsers(leaves)
    env = make_sb3_env("audience/Recommend-v0", 32, seed=0, users=users, **settings)
    model: Any = make_algorithm(algo, env, device="cpu", gamma=GAMMA)
    before = {name: part.clone() for name, part in model.policy.state_dict().items()}
    errors = fit_critic(model, np.random.default_rng(0))
    assert errors[-1] < 0.1 * errors[0]
    seen = {key: torch.as_tensor(part) for key, part in env.reset().items()}
    np.testing.assert_allclose(model.policy.predict_values(seen).detach(), value, rtol=0.1)
    for name, part in model.policy.state_dict().items():
        assert name.startswith("value_net") or torch.equal(part, before[name]), name
