"""Every agent of the comparison is made in a small world, and plays."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audience import agents
from audience.agents.baselines import BASELINES, TextKNNAgent
from audience.agents.evaluation import evaluate
from audience.agents.training_settings import TrainSettings
from audience.agents.tuning import TunedAgent
from audience.benchmarks.roster import PESSIMISM, ROSTER, World
from audience.reward_models.histories import Histories
from audience.reward_models.mixed import MixedUsers

FITTED = [name for name in ROSTER if name not in ("choice", "greedy") and name in BASELINES]
TRAINED = ["ppo_ids", "dqn", "sac"]
"""One of each kind of action: of items, of single items, of points."""


def world(users: Any, out: Path, **changes: Any) -> World:
    settings: dict[str, Any] = {"steps": 64, "num_envs": 8, "evaluations": 0, "step_limit": 5}
    training = TrainSettings(
        users="none", out=str(out), sessions_per_user=1, device="cpu", **(settings | changes)
    )
    return World(users, users.starts("fitting"), users.starts("validation"), training, 1)


def test_every_baseline_stands_in_the_roster() -> None:
    assert set(BASELINES) <= set(ROSTER)
    assert {ROSTER[name].kind for name in BASELINES} == {"cf", "bandit", "reference"}


@pytest.mark.parametrize("name", FITTED)
def test_baselines_are_tuned_by_return_and_play(tiny_users: Any, name: str, tmp_path: Path) -> None:
    small = world(tiny_users, tmp_path, slate_size=2)
    agent: Any = ROSTER[name].make(small)
    assert type(agent) is BASELINES[name] and agent.slate_size == 2
    if isinstance(agent, TunedAgent):
        best = max(agent.tuning, key=lambda row: (row["sessions"], row["return"]))
        assert agent.settings.items() <= best.items()
    found = evaluate(agent, tiny_users, population="test", slate_size=2, step_limit=5)
    assert found.length.min() >= 1


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("name", TRAINED)
def test_rl_agents_are_trained_and_play_with_items(
    tiny_users: Any, name: str, tmp_path: Path
) -> None:
    agent: Any = ROSTER[name].make(world(tiny_users, tmp_path))
    found = evaluate(agent, tiny_users, population="test", step_limit=5)
    assert found.length.min() >= 1 and (tmp_path / name / "model.zip").exists()


def test_who_is_careful_asks_witnesses(tiny_users: Any, tmp_path: Path) -> None:
    """Greedy takes off what they disagree on as it scores, PPO as it is paid."""
    asked: list[float] = []

    class Checked:
        """The tiny users, counted each time that they are asked for with witnesses."""

        def __init__(self, pessimism: float) -> None:
            asked.append(pessimism)

        def __getattr__(self, name: str) -> Any:
            return getattr(tiny_users, name)

        def score(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    small = dataclasses.replace(world(tiny_users, tmp_path), checked=Checked)
    assert type(ROSTER["greedy_pessimism"].make(small).users) is Checked  # type: ignore[union-attr]
    assert asked == [PESSIMISM] and ROSTER["greedy_pessimism"].witnesses
    with pytest.raises(NotImplementedError):  # it begins with what greedy does
        ROSTER["ppo_pessimism"].make(small)
    assert asked == [PESSIMISM, 0.0]


def test_agents_learn_and_are_tuned_in_the_partners_too(
    tiny_users: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def train(users: Any, settings: TrainSettings, **_: Any) -> Path:
        seen[Path(settings.out).name] = users
        raise StopIteration

    monkeypatch.setattr(agents, "train", train)
    small = dataclasses.replace(world(tiny_users, tmp_path), partners=[tiny_users])
    for name in ("ppo", "ppo_cold", "dqn", "ppo_alone", "ppo_exploit"):
        with pytest.raises(StopIteration):
            ROSTER[name].make(ROSTER[name].made_in(small))
        assert isinstance(seen[name], MixedUsers) is not ROSTER[name].alone
    assert ROSTER["ppo_alone"].alone and seen["ppo_alone"] is tiny_users

    class Counted:
        """The tiny users, whose blocks of sessions are counted."""

        opened = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(tiny_users, name)

        def open(self, *arguments: Any) -> Any:
            Counted.opened += 1
            return tiny_users.open(*arguments)

    ROSTER["followers"].make(dataclasses.replace(small, partners=[Counted()]))
    assert Counted.opened


def test_text_is_the_users_own(tiny_users: Any, tmp_path: Path) -> None:
    class WithText:
        text_vectors = np.random.default_rng(0).normal(size=(30, 7)).astype(np.float32)

        def __getattr__(self, name: str) -> Any:
            return getattr(tiny_users, name)

    agent = ROSTER["text_knn"].make(world(WithText(), tmp_path))
    assert isinstance(agent, TextKNNAgent) and agent.vectors.shape == (30, 7)


def test_the_budget_is_that_of_rl_where_none_is_given(tiny_users: Any, tmp_path: Path) -> None:
    starts: Histories = tiny_users.starts("fitting")
    training = world(tiny_users, tmp_path, steps=6000).training
    rich = World(tiny_users, starts, tiny_users.starts("validation"), training)
    agent: Any = ROSTER["followers"].make(rich)
    spent = sum(row["steps"] for row in agent.tuning)
    assert 2000 < spent <= 6000


def test_who_is_made_to_exploit_has_a_simulator_of_one_member(tiny_users: Any) -> None:
    class Ensemble:
        def alone(self, member: int) -> str:
            return f"member {member}"

    users: Any = Ensemble()
    assert ROSTER["ppo_exploit"].simulator(users) == "member 0"
    assert ROSTER["ppo_pessimism"].simulator(users) is users
    assert ROSTER["ppo_exploit"].simulator(tiny_users) is tiny_users  # they are one


@pytest.mark.filterwarnings("ignore:.*")
def test_it_is_trained_for_longer_than_the_others(tiny_users: Any, tmp_path: Path) -> None:
    class Scoring:
        """The tiny users, who find every item alike."""

        def __getattr__(self, name: str) -> Any:
            return getattr(tiny_users, name)

        def score(self, items: Any, *_: Any, **__: Any) -> Any:
            return np.zeros((len(items), 30), np.float32)

    small = world(Scoring(), tmp_path)
    for name, steps, pessimism in (("ppo_exploit", 192, 0.0), ("ppo_pessimism", 192, PESSIMISM)):
        ROSTER[name].make(small)
        told = json.loads((tmp_path / name / "training.json").read_text())
        assert told["settings"]["steps"] == steps and told["settings"]["pessimism"] == pessimism
