"""Settings of the comparison; the command line of `audience-bench compare` is derived from them."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from audience.benchmarks.roster import DEFAULT, FULL, ROSTER
from audience.benchmarks.scripted_truth import SCRIPTED, scripted_log
from audience.reward_models.users import Assumptions

if TYPE_CHECKING:
    from audience.reward_models.log import InteractionLog

ComparePreset = Literal["tiny", "demo", "full", "all"]


@dataclass(frozen=True)
class Preset:
    """How much is spent. The user model has presets of the same names; that of `all` is `full`.

    Attributes:
        seeds: Halvings of the log, each with its own user model and agents.
        steps: User-steps that RL agents train for.
        num_envs: Users who are recommended to at a time in training.
        evaluations: Evaluations on validation users on the way.
        sessions: Sessions of each test user in the simulator.
        judge_sessions: The same in each judge, and about as many sessions in the inner judge, in
            which few validation users live more of them each.
        grid: Other assumptions that the champions are valued under: one changed at a time
            ("each"), or all together ("product").
        grid_sessions: Sessions of each test user under each of them.
        agents: Who is compared.
        tuning: User-steps in which each baseline chooses its settings by return; at least one
            session of each validation user with each setting.
    """

    seeds: int
    steps: int
    num_envs: int
    evaluations: int
    sessions: int
    judge_sessions: int
    grid: Literal["each", "product"]
    grid_sessions: int
    tuning: int
    agents: str = DEFAULT


PRESETS: dict[ComparePreset, Preset] = {
    # Seconds: shows that everything works, and nothing else.
    "tiny": Preset(
        seeds=1,
        steps=512,
        num_envs=16,
        evaluations=1,
        sessions=2,
        judge_sessions=2,
        grid="each",
        grid_sessions=1,
        tuning=1,
    ),
    # Minutes on 2 cores.
    "demo": Preset(
        seeds=1,
        steps=150_000,
        num_envs=256,
        evaluations=8,
        sessions=4,
        judge_sessions=2,
        grid="each",
        grid_sessions=1,
        tuning=20_000,
    ),
    # Two hours or so on 2 cores.
    "full": Preset(
        seeds=5,
        steps=600_000,
        num_envs=256,
        evaluations=20,
        sessions=4,
        judge_sessions=6,  # where the verdict is decided
        grid="product",
        grid_sessions=1,
        tuning=200_000,
        agents=FULL,
    ),
}
# Overnight.
PRESETS["all"] = dataclasses.replace(PRESETS["full"], agents="all")


SCRIPTED_USERS = (1500, 120)
"""Users of a scripted log, and of one for the smoke test."""


def cores() -> int:
    """Cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else (os.cpu_count() or 1)


@dataclass(frozen=True)
class CompareSettings:
    """Compare RL agents with collaborative filtering in users fitted to a log."""

    log: str | None = None
    """A named log: movielens (the default), ml-100k, scripted (its users are known, so that the
    truth is a further world)."""

    interactions: str | None = None
    """Your own log instead: csv or parquet with user_id, item_id and, where known, feedback and
    timestamp. Needs --items."""

    items: str | None = None
    """Its items: csv or parquet with item_id and text columns."""

    text: str | None = None
    """How an item of your own log reads, such as "{title}. {category}"; by default all text."""

    preset: ComparePreset = "demo"
    """How much to spend: demo (minutes), full (hours, 5 seeds), all (every agent, overnight), tiny
    (seconds; a smoke test)."""

    out: str = "runs/compare"
    """Directory of all results. What is finished there with the same settings is reused."""

    agents: str | None = None
    """Agents to compare, separated by commas, or "all"; by default the preset's."""

    seeds: int | None = None
    """Halvings of the log, each with its own fits and agents; by default the preset's."""

    steps: int | None = None
    """User-steps that RL agents train for; by default the preset's."""

    sessions: int | None = None
    """Sessions of each test user in the simulator; by default the preset's."""

    judge_sessions: int | None = None
    """Sessions of each test user in each judge; by default the preset's."""

    slate_size: int = 1
    """Items shown at a step."""

    step_limit: int = 30
    """Steps after which a session is cut off."""

    assumptions: Assumptions = field(default_factory=Assumptions)
    """What the log could not teach about the users."""

    partner: str | None = "boosted"
    """Class of a second user model of half A (als or boosted), in which agents learn and are tuned
    beside the simulator: what only one of the two believes does not pay. None: there is none."""

    inner_judge: str = "als"
    """Class of the judge inside half A in which champions are picked and trainings are watched:
    another one than the partner's."""

    encoder: str | None = None
    """Encoder of item text, as `audience-fit` takes it; by default bert+tfidf."""

    jobs: int | None = None
    """Cells of the comparison that run at a time, each in a process of its own (a few gigabytes)
    with one thread, so that the number changes no result; by default one a core, 8 at most. 0: all
    in this process."""

    device: str = "auto"
    """Where models live: auto, cpu, cuda."""

    overwrite: bool = False
    """Replace what was finished in the same directory with other settings."""

    def __post_init__(self) -> None:
        if self.preset not in get_args(ComparePreset):
            raise ValueError(
                f"preset must be one of {', '.join(get_args(ComparePreset))}, got {self.preset!r}"
            )
        unknown = [name for name in self.names if name not in ROSTER]
        if unknown or not self.names:
            raise ValueError(
                f"agents must be names from {', '.join(ROSTER)}, separated by commas, "
                f"got {self.agents!r}{f' ({unknown[0]!r} is none)' if unknown else ''}"
            )
        alone = [name for name in self.names if not ROSTER[name].slates]
        if self.slate_size > 1 and alone:
            raise ValueError(
                f"slate_size must be 1 with {', '.join(alone)}, whose actions are single items, "
                f"got {self.slate_size}; leave them out of agents"
            )
        if self.scripted and (self.interactions, self.items) != (None, None):
            raise ValueError("give either log or interactions and items, not both")
        if self.text is not None and self.interactions is None:
            raise ValueError(
                f"text goes with interactions and items, for named logs bring theirs, "
                f"got {self.text!r}"
            )
        for name in ("seeds", "steps", "sessions", "judge_sessions", "slate_size", "step_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
        if self.jobs is not None and self.jobs < 0:
            raise ValueError(f"jobs must be at least 0, got {self.jobs!r}")

    @property
    def names(self) -> list[str]:
        """Names of the agents, each once, in the order of the roster.

        "all" are those that know slates of this size.
        """
        agents = self.budget.agents
        if agents.strip() == "all":
            return [name for name, entry in ROSTER.items() if entry.slates or self.slate_size == 1]
        wanted = [name.strip() for name in agents.split(",") if name.strip()]
        known = list(ROSTER)
        return sorted(set(wanted), key=lambda name: known.index(name) if name in known else -1)

    @property
    def budget(self) -> Preset:
        """The preset, with what was set by hand in its place."""
        by_hand = {"seeds": self.seeds, "steps": self.steps, "agents": self.agents}
        by_hand |= {"sessions": self.sessions, "judge_sessions": self.judge_sessions}
        given = {name: value for name, value in by_hand.items() if value is not None}
        return dataclasses.replace(PRESETS[self.preset], **given)  # type: ignore[arg-type]

    @property
    def scripted(self) -> bool:
        """Whether the log is that of scripted users, who are the truth."""
        return self.log == SCRIPTED

    @property
    def _scripted_users(self) -> int:
        return SCRIPTED_USERS[self.preset == "tiny"]

    @property
    def processes(self) -> int:
        """Cells that run at a time."""
        return min(cores(), 8) if self.jobs is None else self.jobs

    @property
    def users_preset(self) -> Literal["tiny", "demo", "full"]:
        """The preset of the user model."""
        return "full" if self.preset == "all" else self.preset

    def deciding(self) -> dict[str, Any]:
        """What a result depends on: a directory holds results of one such record.

        More seeds or agents add to a directory, so they do not belong to it, nor do the device
        and the places of files: the log's content has its own fingerprint.
        """
        free = {"agents", "seeds", "out", "jobs", "device", "overwrite"}
        free |= {"log", "interactions", "items", "text"}
        record = {k: v for k, v in dataclasses.asdict(self).items() if k not in free}
        budget = dataclasses.asdict(self.budget)
        del budget["seeds"], budget["agents"]
        return {**record, **budget}

    def load_log(self) -> InteractionLog:
        """Read and check the log.

        Raises:
            LogError: It is missing or breaks a rule.
            ValueError: Both a named log and files are given, or only one file.
        """
        from audience.reward_models.fit_settings import FitSettings  # torch only where needed

        if self.scripted:
            return scripted_log(self._scripted_users)
        return FitSettings(
            log=self.log, interactions=self.interactions, items=self.items, text=self.text
        ).read_log()
