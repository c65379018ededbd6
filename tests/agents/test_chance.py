from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from audience.agents.chance import without_chance
from audience.agents.training import evaluation_kwargs, training_env
from audience.agents.training_settings import TrainSettings
from audience.reward_models.users import Assumptions


def users_that_learned(*what: str) -> Any:
    return SimpleNamespace(learned=frozenset(what))


@pytest.mark.parametrize(("choice", "skip"), [(None, None), (0.1, 0.4), (0.3, 0.2), (0.0, 0.5)])
def test_staying_is_as_likely_as_before_with_the_factor_on_the_discount(
    choice: float | None, skip: float | None
) -> None:
    before = Assumptions(leave_after_choice=choice, leave_after_skip=skip, acceptance=0.3)
    after, kept = without_chance(users_that_learned(), before)
    assert after.acceptance == 0.3
    assert after.leave_after_choice is not None and after.leave_after_skip is not None
    for hazard, rest in (
        (before.stated.leave_after_choice, after.leave_after_choice),
        (before.stated.leave_after_skip, after.leave_after_skip),
    ):
        assert kept * (1 - rest) == pytest.approx(1 - hazard)
    assert min(after.leave_after_choice, after.leave_after_skip) == pytest.approx(0)


def test_what_was_learned_stays_and_so_do_users_who_say_nothing_of_it() -> None:
    given = Assumptions(leave_after_choice=0.1)
    assert without_chance(users_that_learned("leave", "outside"), given) == (given, 1.0)
    assert without_chance(SimpleNamespace(), given) == (given, 1.0)  # type: ignore[arg-type]
    certain = Assumptions(leave_after_choice=1.0, leave_after_skip=1.0)
    assert without_chance(users_that_learned(), certain) == (certain, 1.0)
    both = Assumptions(leave_after_choice=0.1, leave_after_skip=0.3)
    assert without_chance(users_that_learned("leave"), both)[1] == 0.9


def test_agents_train_without_it_and_are_evaluated_with_it(
    make_tiny_users: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = make_tiny_users()
    monkeypatch.setattr(users, "learned", frozenset(), raising=False)
    settings = TrainSettings(num_envs=4)
    env = training_env(users, settings)
    assert env.core.assumptions.leave_after_choice == 0.0
    assert evaluation_kwargs(users, settings)["leave_after_choice"] is None
