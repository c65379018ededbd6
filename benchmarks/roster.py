"""Who can be compared, and how each is made in the world of one seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from audience import agents
from audience.agents.baselines import BASELINES as KINDS
from audience.agents.greedy import ChoiceAgent, GreedyAgent, ScoringUsers
from audience.agents.trials import Trials
from audience.reward_models.histories import Histories
from audience.reward_models.mixed import mixed
from audience.reward_models.users import UserModel

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from audience.agents.base import Agent
    from audience.agents.training import TrainSettings

Kind = Literal["rl", "cf", "bandit", "reference"]

BASELINES: dict[str, Any] = dict(KINDS)
"""Their constructors and fits differ in what they take."""


@dataclass(frozen=True)
class World:
    """What the agents of one seed are fitted on and trained in.

    Attributes:
        users: The simulator, fitted to half A of the users who are not test users.
        fitting: Whole histories of its fitting users, which the baselines are fitted on.
        validation: Whole histories of its validation users, which settings are chosen on.
        training: Settings of RL agents; `out` is the directory that holds theirs.
        tuning_steps: User-steps in the simulator in which a baseline chooses its settings, by
            return; by default as many as RL trains for.
        inner_judge: A user model of another class, fitted to half A too, that trainings are
            watched in.
        replay: Real validation users that trainings are watched with.
        checked: The same users with witnesses, who say where choice and feedback are not known;
            by a call, for witnesses are fitted only where they are asked for. None: there are
            none, and the users' own ensemble has to do.
        partners: User models of other classes of half A, in which agents learn and are tuned in
            turn with the simulator.
    """

    users: UserModel
    fitting: Histories
    validation: Histories
    training: TrainSettings
    tuning_steps: int | None = None
    inner_judge: UserModel | None = None
    replay: UserModel | None = None
    checked: Callable[[float], UserModel] | None = None
    partners: Sequence[UserModel] = ()

    @property
    def learned_in(self) -> UserModel:
        """The simulator and its partners in one population."""
        return mixed([self.users, *self.partners])

    def directory(self, name: str) -> Path:
        """Where a trained agent lies."""
        return Path(self.training.out) / name


@dataclass(frozen=True)
class Entry:
    """An agent that can be compared.

    Attributes:
        kind: What it is: `rl`; `cf`, made from other users' events (popularity and mean feedback
            count as its simplest forms, so the best CF agent is never worse than those; text-KNN
            is the one that knows texts); `bandit`; `reference`, what shows where the others
            stand.
        make: Fits it in a world.
        slates: Whether it recommends slates of more than one item.
        scorers: What it ranks items by, as judges name their kin.
        model: Whether the simulator is inside it beside: it reads it, or learned from its users.
        member: The member of the simulator's ensemble that alone is its simulator; None: all.
        witnesses: Whether it asks witnesses, who have to be fitted.
        cures: The agent whose exploits it is to do without.
        alone: Whether it learns in the simulator alone, without partners.
    """

    kind: Kind
    make: Callable[[World], Agent | BaseAlgorithm]
    slates: bool = True
    scorers: tuple[str, ...] = ()
    model: bool = False
    member: int | None = None
    witnesses: bool = False
    cures: str | None = None
    alone: bool = False

    def made_in(self, world: World) -> World:
        """The world of one seed as this agent is made in it."""
        partners = () if self.alone else world.partners
        return dataclasses.replace(world, users=self.simulator(world.users), partners=partners)

    def simulator(self, users: UserModel) -> UserModel:
        """Its simulator: one of the ensemble's members alone, or all of them."""
        alone = getattr(users, "alone", None)
        if self.member is None or alone is None:
            return users
        found: UserModel = alone(self.member)
        return found

    @property
    def simulates(self) -> bool:
        """Whether what the simulator takes in is inside the agent, too."""
        return self.model or self.kind == "rl"


def _random(world: World) -> Agent:
    training = world.training
    n_items = len(world.users.catalogue)
    return BASELINES["random"](n_items, training.slate_size, training.seed)


def _constant(name: str) -> Callable[[World], Agent]:
    def make(world: World) -> Agent:
        users, size, kind = world.users, world.training.slate_size, BASELINES[name]
        agent: Agent = kind.fit(world.fitting, users.catalogue, users.scale, size)
        return agent

    return make


def _tuned(name: str) -> Callable[[World], Agent]:
    def make(world: World) -> Agent:
        users, training, kind = world.users, world.training, BASELINES[name]
        steps = training.steps if world.tuning_steps is None else world.tuning_steps
        # Equal information: where the policies read the users' text vectors, so do these.
        text = {"text_vectors": getattr(users, "text_vectors", None)} if kind.USES_TEXT else {}
        agent: Agent = kind.tune(
            world.fitting,
            world.validation,
            users.catalogue,
            users.scale,
            training.slate_size,
            training.seed,
            Trials(world.learned_in, steps, training.env_kwargs, training.seed),
            **text,
        )
        return agent

    return make


def _greedy(world: World) -> Agent:
    training = world.training
    return GreedyAgent(world.users, training.assumptions, training.slate_size)


def _careful(world: World) -> Agent:
    """Greedy, less what witnesses disagree on."""
    return _greedy(dataclasses.replace(world, users=_checked(world, PESSIMISM)))


def _checked(world: World, pessimism: float) -> UserModel:
    return world.users if world.checked is None else world.checked(pessimism)


def _choice(world: World) -> Agent:
    return ChoiceAgent(world.users, world.training.slate_size)


def _rl(
    name: str,
    algo: str,
    *,
    warm: bool = False,
    longer: int = 1,
    checked: bool = False,
    **changes: Any,
) -> Callable[[World], Agent | BaseAlgorithm]:
    """An RL agent.

    Args:
        name: Of the agent.
        algo: Of `ALGORITHMS`.
        warm: Whether it begins with what greedy on the simulator does, where that can be asked.
        longer: How many times the steps of the others it is trained for.
        checked: Whether witnesses say what is not known of the users. What it imitates, if
            anything, does not ask them.
        **changes: Other settings of the training.
    """

    def make(world: World) -> Agent | BaseAlgorithm:
        from audience.agents.trained import load_agent_of  # torch only where needed

        chosen, steps = dict(changes), world.training.steps
        users = world.learned_in
        if checked:
            users = _checked(world, 0.0)
        if warm and isinstance(users, ScoringUsers):
            imitated = min(WARM_STEPS, -(-steps // 1000))
            chosen |= {"warm_start": "greedy", "warm_start_steps": imitated}
        settings = trained_with(world, name, algo, steps=longer * steps, **chosen)
        out = agents.train(
            users,
            settings,
            inner_judge=world.inner_judge,
            replay=world.replay,
        )
        return load_agent_of(out, settings.device)

    return make


def trained_with(world: World, name: str, algo: str, **changes: Any) -> TrainSettings:
    """Settings of the training of an RL agent, with at most as many users as suit it."""
    from audience.agents.algorithms import algorithm_of  # torch only where needed

    training = world.training
    several = algorithm_of(algo).num_envs
    users = several if training.num_envs is None else min(training.num_envs, several)
    out = str(world.directory(name))
    return dataclasses.replace(training, algo=algo, num_envs=users, out=out, **changes)


WARM_STEPS = 300
"""Gradient steps of a warm start, at most; short trainings take one for every 1,000 user-steps."""

PESSIMISM = 4.0
"""Times the disagreement of witnesses that is subtracted from a reward."""

LONG = 3
"""Times the steps of the others that the exploiting agent and its cure are trained for."""

ROSTER: dict[str, Entry] = {
    "random": Entry("reference", _random),
    "popularity": Entry("cf", _constant("popularity")),
    "mean_feedback": Entry("cf", _constant("mean_feedback")),
    "item_knn": Entry("cf", _tuned("item_knn"), scorers=("item_knn",)),
    "user_knn": Entry("cf", _tuned("user_knn"), scorers=("user_knn",)),
    "text_knn": Entry("cf", _tuned("text_knn"), scorers=("text_knn",)),
    "explicit_als": Entry("cf", _tuned("explicit_als"), scorers=("als",)),
    "als": Entry("cf", _tuned("als"), scorers=("als",)),
    "bpr": Entry("cf", _tuned("bpr"), scorers=("bpr",)),
    "ease": Entry("cf", _tuned("ease"), scorers=("ease",)),
    "ease_feedback": Entry("cf", _tuned("ease_feedback"), scorers=("ease", "als")),
    "followers": Entry("cf", _tuned("followers"), scorers=("followers",)),
    "linucb": Entry("bandit", _tuned("linucb")),
    "thompson": Entry("bandit", _tuned("thompson")),
    "choice": Entry("reference", _choice, model=True),
    "greedy": Entry("reference", _greedy, model=True),
    "greedy_pessimism": Entry("reference", _careful, model=True, witnesses=True, cures="greedy"),
    "ppo": Entry("rl", _rl("ppo", "ppo", warm=True)),
    "ppo_alone": Entry("rl", _rl("ppo_alone", "ppo", warm=True), alone=True),
    "ppo_cold": Entry("rl", _rl("ppo_cold", "ppo")),
    "ppo_ids": Entry("rl", _rl("ppo_ids", "ppo", warm=True, item_text=False)),
    "ppo_exploit": Entry(
        "rl", _rl("ppo_exploit", "ppo", warm=True, longer=LONG), member=0, alone=True
    ),
    "ppo_pessimism": Entry(
        "rl",
        _rl("ppo_pessimism", "ppo", warm=True, longer=LONG, checked=True, pessimism=PESSIMISM),
        witnesses=True,
        cures="ppo_exploit",
        alone=True,
    ),
    "maskable_ppo": Entry("rl", _rl("maskable_ppo", "maskable_ppo", warm=True)),
    "a2c": Entry("rl", _rl("a2c", "a2c", warm=True)),
    "dqn": Entry("rl", _rl("dqn", "dqn"), slates=False),
    "qr_dqn": Entry("rl", _rl("qr_dqn", "qr_dqn"), slates=False),
    "sac": Entry("rl", _rl("sac", "sac")),
    "td3": Entry("rl", _rl("td3", "td3")),
}
"""Every agent by name, in the order in which they are run: the cheap ones first. `followers` and
`choice` are the sequential models. What has probabilities begins with what greedy on the simulator
does, but for `ppo_cold`; `ppo_ids` is PPO without the items' texts, `ppo_alone` PPO that learns in
the simulator alone, without a partner. `ppo_exploit` is made to live off the simulator's errors:
its simulator is one member of the ensemble, whom no other checks, and it is trained for long;
`ppo_pessimism` as long, by all of them, but what witnesses disagree on counts less. `greedy` lives
off errors without any training; `greedy_pessimism` is its cure."""

FULL = (
    "random,popularity,mean_feedback,item_knn,user_knn,text_knn,explicit_als,als,bpr,ease,"
    "ease_feedback,followers,greedy,ppo,maskable_ppo,a2c"
)
"""Agents of the preset `full`."""

DEFAULT = "random,popularity,mean_feedback,item_knn,user_knn,als,ease,ease_feedback,greedy,ppo"
"""Agents that are compared where none are named: what usually does best, and what it costs little
to know."""
