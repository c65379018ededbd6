"""The stages of one seed of a comparison: agents, their sessions, and the checks of the judges."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

from audience.agents.base import ScoringAgent
from audience.agents.diversified import DiversifiedAgent
from audience.agents.evaluation import Evaluation, evaluate
from audience.agents.saving import load_agent, save_agent
from audience.agents.training import TrainSettings
from audience.agents.tuning import TunedAgent
from audience.benchmarks.beyond import Known
from audience.benchmarks.files import load_sessions, read_json, save_sessions, write_json
from audience.benchmarks.grid import Setting, settings_of, taught_by
from audience.benchmarks.judging import competences
from audience.benchmarks.masked import masked_values
from audience.benchmarks.roster import ROSTER, World
from audience.benchmarks.settings import CompareSettings
from audience.benchmarks.world_names import INNER, JUDGE, REPLAY, SIMULATOR
from audience.benchmarks.worlds import OTHER, Worlds, digest_of
from audience.reward_models.fit_data import FitData
from audience.reward_models.judges import JUDGES
from audience.reward_models.log import InteractionLog
from audience.reward_models.replay import PICKS
from audience.reward_models.users import START_EVENTS, Assumptions, Population

EVALUATION_DRAWS = 2**32
"""Distance between the draws of one seed's sessions and the next's: training, which uses the
keys from 0 on, and other seeds never meet them."""

NOTE = "comparison.json"
"""File beside a saved baseline's own that says what it depends on."""


class Stages:
    """The stages of one seed; each is reused where its files say that it is finished.

    Args:
        settings: Of the comparison.
        log: The log.
        data: Its half that is fitted on.
        seed: Of the halving and all else.
        record: What every stage depends on.
        say: Tells of progress.
    """

    def __init__(
        self,
        settings: CompareSettings,
        log: InteractionLog,
        data: FitData,
        seed: int,
        record: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.settings, self.seed, self._data = settings, seed, data
        self._record = {**record, "seed": seed}
        self._tell = say
        self.worlds = Worlds(settings, log, data, seed, self._record, self._say)
        self._out = self.worlds.out
        self._agents: dict[str, Any] = {}

    def in_half_a(self, name: str) -> dict[tuple[str, str], Evaluation]:
        """Make an agent; its sessions by ("validation" or "test", world).

        What is chosen is chosen with validation users: the best filter and the best RL agent in
        the inner judge. In the simulator filters show what a learning curve is held against.
        """
        kind = ROSTER[name].kind
        worlds = [SIMULATOR] if kind == "cf" else []
        worlds += [INNER] if kind in ("cf", "rl") else []
        found = {("validation", w): self.sessions(name, w, "validation") for w in worlds}
        return {**found, ("test", SIMULATOR): self.sessions(name, SIMULATOR)}

    def opened(self, name: str) -> dict[str, Evaluation]:
        """By world, an agent's sessions with test users where no agent was made."""
        return {world: self.sessions(name, world) for world in self.worlds.opened}

    @cached_property
    def assumed(self) -> list[Setting]:
        """The settings of the assumptions that champions are valued under."""
        grid = self.settings.budget.grid
        return settings_of(self.settings.assumptions, grid, taught_by(self.worlds.log))

    def turned(self, name: str, world: str, row: int) -> Evaluation:
        """An agent's sessions in a judge under one of the `assumed` settings."""
        assumptions, sessions = self.assumed[row].assumptions, self.settings.budget.grid_sessions
        return self.sessions(name, world, assumptions=assumptions, per_user=sessions)

    def varied(self, name: str, world: str, weight: float) -> Evaluation:
        """An agent's sessions when it is re-ranked with this weight on diversity."""
        return self.sessions(
            name, world, per_user=self.settings.budget.grid_sessions, diversity=weight
        )

    @cached_property
    def known(self) -> Known:
        """What is known of the items and the test users."""
        return Known.of(self.worlds.simulator, self._data.histories["test"])

    def competences(self) -> dict[str, dict[str, Any]]:
        """By judge and rival, whether the judge knows real users as well as it."""
        judges = {kind: self.worlds.judge(OTHER, kind) for kind in JUDGES}
        record = {
            **self._of_simulator,
            "judges": {kind: self.worlds.digest(f"{JUDGE}{kind}") for kind in judges},
        }

        def measured() -> dict[str, dict[str, Any]]:
            self._say("competence of the judges on real test users")
            return competences(judges, self.worlds.simulator, self.worlds.own_half)

        return self._once("competence.json", record, measured)

    def masked(self) -> dict[str, Any] | None:
        """What `masked_values` says of this seed's agents, None where it cannot be asked."""
        users: Any = self.worlds.simulator
        if self.worlds.replay is None or not hasattr(users, "feedback"):
            return None
        names = self.settings.names
        record = {**self._of_simulator, "agents": {name: self._trained(name) for name in names}}

        def valued() -> dict[str, Any] | None:
            self._say("all agents and more in the simulator under replay's masks")
            made = {name: _fresh(self.agent(name)) for name in names}
            window = START_EVENTS + self.world.training.step_limit
            return masked_values(made, users, self._data, self.seed, window)

        return self._once("masked.json", record, valued)

    def forget(self) -> None:
        """Free the memory of models; whatever is asked for later is loaded again."""
        self.__dict__.pop("world", None)
        self._agents.clear()
        self.worlds.forget()

    def sessions(
        self,
        name: str,
        world: str,
        population: Population = "test",
        assumptions: Assumptions | None = None,
        per_user: int | None = None,
        diversity: float = 0.0,
    ) -> Evaluation:
        """Sessions of every user of the population with the agent.

        Args:
            name: Of the agent.
            world: SIMULATOR, INNER, REPLAY, TRUTH, or JUDGE and a class.
            population: "validation" or "test".
            assumptions: Other assumptions than the comparison's own, which the agent was made
                under.
            per_user: Sessions of each test user; by default as many as the settings say.
            diversity: Weight with which the agent is re-ranked, see `DiversifiedAgent`; 0: the
                agent itself.
        """
        training = self.world.training
        wanted = self._sessions_of(world, population, per_user)
        record = {
            **self._of_simulator,
            "world": [world, self.worlds.digest(world)],
            "agent": self._trained(name),
            "population": population,
            "sessions_per_user": wanted,
            "assumptions": dataclasses.asdict(assumptions or self.settings.assumptions),
        }
        label = _label(assumptions) + (f"-diversity-{diversity:g}" if diversity else "")
        if diversity:
            record["diversity"] = diversity
        path = self._out / "sessions" / f"{name}-{world}-{population}{label}.npz"
        kept = load_sessions(path, record)
        if kept is not None:
            self._say(f"{name}, {population} users, {world}: reused: {path}")
            return kept
        agent = _fresh(self.agent(name))
        if diversity:
            agent = self._diversified(name, agent, diversity)
        self._say(f"{name} meets the {population} users: {world}{label}")
        settings = training.env_kwargs | record["assumptions"]
        if world == REPLAY:
            settings |= {"step_limit": PICKS, "history_size": START_EVENTS + training.step_limit}
        users = self.worlds.users_of(world)
        sessions = evaluate(
            agent,
            ROSTER[name].simulator(users) if world == SIMULATOR else users,
            population=population,
            sessions_per_user=wanted,
            seed=EVALUATION_DRAWS * (self.seed + 1),
            **settings,
        )
        save_sessions(path, sessions, record)
        return sessions

    def _sessions_of(self, world: str, population: Population, per_user: int | None) -> int:
        if world == REPLAY:
            return 1  # nothing is drawn
        budget = self.settings.budget
        wanted = per_user
        if wanted is None:
            judge = world == INNER or world.startswith(JUDGE)
            wanted = budget.judge_sessions if judge else budget.sessions
        if population == "validation":  # about as many sessions of fewer users
            users = self.worlds.simulator
            test, few = (len(users.starts(p).at_least(1)) for p in ("test", "validation"))
            wanted = -(-wanted * test // max(few, 1))
        return wanted

    @cached_property
    def world(self) -> World:
        """What agents are made in: the simulator, and what watches trainings in it."""
        settings, budget = self.settings, self.settings.budget
        training = TrainSettings(
            users=str(self._out / "users"),
            out=str(self._out),
            steps=budget.steps,
            num_envs=budget.num_envs,
            evaluations=budget.evaluations,
            slate_size=settings.slate_size,
            step_limit=settings.step_limit,
            assumptions=settings.assumptions,
            seed=self.seed,
            device=settings.device,
            overwrite=settings.overwrite,
        )
        fitting, validation = (self._data.histories[part] for part in ("fitting", "validation"))
        replay = self.worlds.replay
        return World(
            self.worlds.simulator,
            fitting,
            validation,
            training,
            budget.tuning,
            inner_judge=self.worlds.inner_judge,
            replay=replay if replay and len(replay.starts("validation")) else None,
            checked=self.worlds.checked,
            partners=self.worlds.partners,
        )

    def agent(self, name: str) -> Any:
        """The agent, trained or fitted, or loaded."""
        if name not in self._agents:
            self._agents[name] = self._kept(name) or self._made(name)
        return self._agents[name]

    def _diversified(self, name: str, agent: Any, weight: float) -> DiversifiedAgent:
        """An agent re-ranked; of a trained one, its policy's scores."""
        scorer = agent
        if ROSTER[name].kind == "rl":
            from audience.agents.trained import load_trained  # torch only where needed

            scorer = load_trained(self.world.directory(name), self.settings.device)[0]
        vectors = self.known.vectors
        assert vectors is not None  # asked for only where there are texts
        return DiversifiedAgent(scorer, vectors, weight, self.settings.slate_size)

    def _trained(self, name: str) -> str | None:
        """Hash of a trained agent; the others follow from the record."""
        if ROSTER[name].kind == "rl":
            self.agent(name)  # training reuses what is trained
        return digest_of(self.world.directory(name))

    def _kept(self, name: str) -> Any:
        """A baseline that an earlier run saved, None where there is none of this record."""
        directory = self._out / "baselines" / name
        if read_json(directory / NOTE) != _as_read(self._of_simulator):
            return None
        try:
            return load_agent(directory, self.settings.device)[0]
        except ValueError:
            return None

    def _made(self, name: str) -> Any:
        verb = "training" if ROSTER[name].kind == "rl" else "fitting"
        self._say(f"{verb} {name}")
        users = self.world.users
        agent = ROSTER[name].make(ROSTER[name].made_in(self.world))
        if isinstance(agent, TunedAgent):
            spent = sum(row.get("steps", 0) for row in agent.tuning)
            self._say(
                f"{name}: chosen on validation users in {spent:,} user-steps: {agent.settings}"
            )
        directory = self._out / "baselines" / name
        if isinstance(agent, ScoringAgent) and "users" not in vars(agent):
            # To be taken away; greedy ones are in the directory of the users themselves.
            save_agent(agent, directory, users.catalogue, users.scale)
            write_json(directory / NOTE, self._of_simulator)
        return agent

    @property
    def _of_simulator(self) -> dict[str, Any]:
        """What all that is made in the simulator and its partners depends on."""
        found = {"users": self.worlds.digest(SIMULATOR), "partners": self.worlds.partner_digests}
        return {**self._record, **found}

    def _once(self, file: str, record: dict[str, Any], make: Callable[[], Any]) -> Any:
        """What `make` gives, or gave under the same record."""
        kept = read_json(self._out / file)
        if kept is not None and kept["record"] == _as_read(record):
            return kept["found"]
        found = make()
        write_json(self._out / file, {"record": record, "found": found})
        return found

    def _say(self, message: str) -> None:
        self._tell(f"seed {self.seed}: {message}")


def _as_read(record: dict[str, Any]) -> Any:
    """A record as it comes back from its file."""
    return json.loads(json.dumps(record))


def _fresh(agent: Any) -> Any:
    """The agent with its own draws begun anew, so that it does the same whatever it did before."""
    if isinstance(agent, ScoringAgent) and "users" not in vars(agent):
        return type(agent)(**agent.parameters())
    return agent


def _label(assumptions: Assumptions | None) -> str:
    """Other assumptions as a part of a file's name."""
    if assumptions is None:
        return ""
    values = dataclasses.asdict(assumptions).values()
    return "-" + "-".join("default" if value is None else f"{value:g}" for value in values)
