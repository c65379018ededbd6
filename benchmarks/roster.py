"""Who can be compared, and how each is made in the world of one seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from audience import agents
from audience.reward_models.histories import Histories
from audience.reward_models.users import UserModel

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from audience.agents.base import Agent
    from audience.agents.training import TrainSettings

Kind = Literal["rl", "cf", "bandit", "reference"]


@dataclass(frozen=True)
class World:
    """What the agents of one seed are fitted on and trained in.

    Attributes:
        users: The simulator, fitted to half A of the users who are not test users.
        fitting: Whole histories of its fitting users, which the baselines are fitted on.
        validation: Whole histories of its validation users, which settings are chosen on.
        training: Settings of RL agents; `out` is the directory that holds theirs.
    """

    users: UserModel
    fitting: Histories
    validation: Histories
    training: TrainSettings

    def directory(self, name: str) -> Path:
        """Where a trained agent lies."""
        return Path(self.training.out) / name


@dataclass(frozen=True)
class Entry:
    """An agent that can be compared.

    Attributes:
        kind: What it is: `rl`; `cf`, made from other users' events (popularity and mean feedback
            count as its simplest forms, so the best CF agent is never worse than those);
            `reference`, what shows where the others stand.
        make: Fits it in a world.
    """

    kind: Kind
    make: Callable[[World], Agent | BaseAlgorithm]


def _random(world: World) -> Agent:
    training = world.training
    n_items = len(world.users.catalogue)
    return agents.RandomAgent(n_items, training.slate_size, training.seed)


def _constant(name: str) -> Callable[[World], Agent]:
    def make(world: World) -> Agent:
        users, size = world.users, world.training.slate_size
        agent: Agent = getattr(agents, name).fit(world.fitting, users.catalogue, users.scale, size)
        return agent

    return make


def _tuned(name: str) -> Callable[[World], Agent]:
    def make(world: World) -> Agent:
        users, training = world.users, world.training
        agent: Agent = getattr(agents, name).tune(
            world.fitting,
            world.validation,
            users.catalogue,
            users.scale,
            training.slate_size,
            training.seed,
        )
        return agent

    return make


def _greedy(world: World) -> Agent:
    training = world.training
    return agents.GreedyAgent(world.users, training.assumptions, training.slate_size)


def _ppo(world: World) -> BaseAlgorithm:
    from stable_baselines3 import PPO

    settings = trained_with(world, "ppo")
    directory = agents.train(world.users, settings)
    return PPO.load(directory / "model.zip", device=settings.device)


def trained_with(world: World, name: str) -> TrainSettings:
    """Settings of the training of an RL agent."""
    return dataclasses.replace(world.training, algo=name, out=str(world.directory(name)))


ROSTER: dict[str, Entry] = {
    "random": Entry("reference", _random),
    "popularity": Entry("cf", _constant("PopularityAgent")),
    "mean_feedback": Entry("cf", _constant("MeanFeedbackAgent")),
    "als": Entry("cf", _tuned("ALSAgent")),
    "ease": Entry("cf", _tuned("EASEAgent")),
    "greedy": Entry("reference", _greedy),
    "ppo": Entry("rl", _ppo),
}
"""Every agent by name, in the order in which they are run: the cheap ones first."""
