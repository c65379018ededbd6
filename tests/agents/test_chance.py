from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from audience.agents.algorithms import make_algorithm
from audience.agents.chance import Leaving
from audience.agents.training import evaluation_kwargs, training_env
from audience.agents.training_settings import TrainSettings
from audience.agents.vec_env import make_sb3_env
from audience.reward_models.users import Assumptions


def users_that_learned(*what: str) -> Any:
    return SimpleNamespace(learned=frozenset(what))


@pytest.mark.parametrize("on_policy", [True, False])
@pytest.mark.parametrize(("choice", "skip"), [(None, None), (0.1, 0.4), (0.3, 0.2), (0.0, 0.5)])
def test_what_follows_counts_as_much_as_it_was_likely(
    choice: float | None, skip: float | None, on_policy: bool
) -> None:
    before = Assumptions(leave_after_choice=choice, leave_after_skip=skip, acceptance=0.3)
    found = Leaving.of(users_that_learned(), before, on_policy)
    after = found.assumptions
    assert after.acceptance == 0.3
    assert after.leave_after_choice is not None and after.leave_after_skip is not None
    for hazard, rest, counted in (
        (before.stated.leave_after_choice, after.leave_after_choice, found.choice),
        (before.stated.leave_after_skip, after.leave_after_skip, found.skip),
    ):
        assert found.kept * (1 - rest) * (1 - counted) == pytest.approx(1 - hazard)
        assert (rest if on_policy else counted) == 0


def test_what_was_learned_stays_and_so_do_users_who_say_nothing_of_it() -> None:
    given = Assumptions(leave_after_choice=0.1)
    for users in (users_that_learned("leave", "outside"), SimpleNamespace()):
        assert Leaving.of(users, given, on_policy=True) == Leaving(given)
    certain = Assumptions(leave_after_choice=1.0, leave_after_skip=1.0)
    assert Leaving.of(users_that_learned(), certain, on_policy=True) == Leaving(certain)
    both = Assumptions(leave_after_choice=0.1, leave_after_skip=0.3)
    assert Leaving.of(users_that_learned("leave"), both, on_policy=True).kept == 0.9


def test_agents_train_without_it_and_are_evaluated_with_it(
    make_tiny_users: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = make_tiny_users()
    monkeypatch.setattr(users, "learned", frozenset(), raising=False)
    settings = TrainSettings(num_envs=4)
    env = training_env(users, settings)
    assert env.core.assumptions.leave_after_choice == 0.0
    assert env.core.assumptions.leave_after_skip == 0.0
    assert evaluation_kwargs(users, settings)["leave_after_choice"] is None


@pytest.mark.parametrize("algo", ["ppo", "a2c", "maskable_ppo"])
def test_a_rollout_counts_what_follows_a_skip_less(algo: str, make_tiny_users: Any) -> None:
    """Returns are sums of rewards, each times the product of the discounts before it."""
    off = {"leave_after_choice": 0.0, "leave_after_skip": 0.0}
    env = make_sb3_env("audience/Recommend-v0", 3, seed=0, users=make_tiny_users(), **off)
    changes = {} if algo == "a2c" else {"batch_size": 30}
    model: Any = make_algorithm(
        algo, env, device="cpu", n_steps=10, gamma=0.9, gae_lambda=1.0, **changes
    )
    Leaving(Assumptions(), choice=0.25, skip=0.5).count(model)
    taken: list[Any] = []
    found: list[Any] = []

    def look(local: dict[str, Any], _: dict[str, Any]) -> bool:
        taken.append(env.core.last_step.response.choice >= 0)  # type: ignore[union-attr]
        return True

    def train() -> None:
        found.extend([model.rollout_buffer.rewards, model.rollout_buffer.returns])

    model.train = train
    model.learn(30, callback=look)
    chosen, (rewards, returns) = np.array(taken), found
    assert 0 < chosen.mean() < 1
    # With lambda 1 the return of a step is its reward and what follows, to the last value.
    factor = 0.9 * np.where(chosen, 0.75, 0.5)
    np.testing.assert_allclose(returns[:-1], rewards[:-1] + factor[:-1] * returns[1:], atol=1e-5)
