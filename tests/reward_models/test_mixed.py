"""Users of several models in one population: who lives where, and what is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.envs.vector import RecommendVectorEnv
from audience.reward_models.mixed import MixedUsers, mixed
from audience.reward_models.users import Assumptions, UserModel

STEPS = 12


class Grumpy:
    """Users who like everything least, and otherwise are as others are."""

    def __init__(self, users: Any) -> None:
        self.users = users

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "users":
            raise AttributeError(name)
        return getattr(self.users, name)

    def open(self, *arguments: Any) -> Any:
        sessions = self.users.open(*arguments)
        respond = sessions.respond

        def grumpily(*shown: Any) -> Any:
            response = respond(*shown)
            response.level[response.level > 0] = 0
            return response

        sessions.respond = grumpily
        return sessions


def played(env: RecommendVectorEnv, seed: int = 5) -> list[NDArray[np.float64]]:
    """Rewards of every step, of the first open items in their order; sessions begin anew."""
    _, info = env.reset(seed=seed)
    rewards = []
    for _ in range(STEPS):
        _, reward, _, _, info = env.step(info["action_mask"].argmax(1))
        rewards.append(reward)
    return rewards


@pytest.mark.parametrize("slots", [1, 5])
def test_slots_live_in_turn_in_each_model(tiny_users: Any, slots: int) -> None:
    models: list[UserModel] = [tiny_users, Grumpy(tiny_users)]
    alone = [played(RecommendVectorEnv(slots, users=one)) for one in models]
    both = played(RecommendVectorEnv(slots, users=MixedUsers(models)))
    for slot in range(slots):
        for step in range(STEPS):
            assert both[step][slot] == alone[slot % 2][step][slot]
    if slots > 1:  # the test could tell
        assert np.sum(alone[0]) > np.sum(both) > np.sum(alone[1]) == 0


def test_all_else_the_first_model_says(tiny_users: Any) -> None:
    users: Any = MixedUsers([tiny_users, Grumpy(tiny_users)])
    assert users.catalogue is tiny_users.catalogue and users.scale is tiny_users.scale
    assert users.starts("test") is tiny_users.starts("test")
    assert users.vectors is tiny_users.vectors and isinstance(users, UserModel)
    assert mixed([tiny_users]) is tiny_users and type(mixed([tiny_users] * 2)) is MixedUsers
    assert len(copy.deepcopy(users).models) == len(pickle.loads(pickle.dumps(users)).models) == 2


def test_what_is_assumed_holds_for_all(tiny_users: Any) -> None:
    wanted = Assumptions(acceptance=0.9, leave_after_skip=0.25)
    for part in MixedUsers([tiny_users, tiny_users]).open(2, 1, wanted).parts:
        assert part.stated == wanted.stated  # type: ignore[attr-defined]


def test_a_state_is_gone_on_from(tiny_users: Any) -> None:
    env = RecommendVectorEnv(5, users=MixedUsers([tiny_users, tiny_users]))
    _, info = env.reset(seed=1)
    for _ in range(3):
        _, _, _, _, info = env.step(info["action_mask"].argmax(1))
    state, mask = env.get_state(), info["action_mask"]
    found = []
    for _ in range(2):
        env.set_state(state)
        found.append(env.step(mask.argmax(1))[1])
    np.testing.assert_array_equal(*found)


def test_models_of_other_items_or_levels_are_refused(
    tiny_users: Any, make_tiny_users: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match="at least one user model, got none"):
        MixedUsers([])
    for other in (make_tiny_users(items=31), make_tiny_users(levels=4)):
        with pytest.raises(ValueError, match="model 1 must have the .* of the users"):
            MixedUsers([tiny_users, other])
