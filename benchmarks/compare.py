"""The comparison: fit users, train and fit agents in them, and let all meet unseen users."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from audience.agents.base import ScoringAgent
from audience.agents.evaluation import Evaluation, evaluate
from audience.agents.saving import save_agent
from audience.agents.training import VERSIONED, TrainSettings
from audience.agents.tuning import TunedAgent, halves
from audience.benchmarks.files import (
    load_sessions,
    read_json,
    save_sessions,
    write_json,
    write_text,
)
from audience.benchmarks.report import write_report
from audience.benchmarks.results import Outcome, markdown, results_of, write_summary
from audience.benchmarks.roster import ROSTER, World
from audience.benchmarks.settings import CompareSettings
from audience.reward_models.bert_users import BertUserModel, resolve_device
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import FitSettings
from audience.reward_models.fitting import fit, settings_of
from audience.reward_models.log import InteractionLog
from audience.reward_models.users import START_EVENTS, Population, UserModel

HALF: Literal["a"] = "a"
"""The users who are fitted on: the other half is kept for judges of other classes."""

EVALUATION_DRAWS = 2**32
"""Distance between the draws of one seed's sessions and the next's: training, which uses the
keys from 0 on, and other seeds never meet them."""

VERSIONS = (*VERSIONED, "implicit", "transformers")
"""Packages whose versions decide what a comparison gives."""


def compare(settings: CompareSettings) -> dict[str, Any]:
    """Run the comparison, or what is missing of it, in `settings.out`.

    Writes `settings.json`, `results.json` after each stage, `table.md`, TensorBoard files in
    `summary`, and of each seed, in `seed-S`, the user model (`users`), the trained agents, the
    fitted baselines (`baselines/*`), and all sessions (`sessions/*.npz`).

    Args:
        settings: Of the comparison.

    Returns:
        What `results.json` says.

    Raises:
        LogError: The log is missing, breaks a rule or is too small.
        ValueError: The directory holds a comparison with other settings and `overwrite` is not
            set, or the slate leaves no room in the catalogue.
    """
    began = time.perf_counter()

    def say(message: str) -> None:
        print(f"[{time.perf_counter() - began:6.1f} s] {message}", flush=True)

    out = Path(settings.out)
    resolve_device(settings.device)
    log = settings.load_log()
    say(f"log {log.name}: {log.n_users} users, {log.n_items} items, {log.n_events} events")
    record = _record(settings, log)
    _refuse_another(out, record, settings.overwrite)
    worlds = [_checked(FitData.of(log, HALF, seed), settings) for seed in _seeds(settings)]
    chosen = {"agents": settings.names, "seeds": len(worlds), "device": settings.device}
    told = {**record, "settings": {**record["settings"], **chosen}}
    write_json(out / "settings.json", told)

    outcomes = {name: Outcome(ROSTER[name].kind) for name in settings.names}
    results: dict[str, Any] = {}
    for seed, data in zip(_seeds(settings), worlds, strict=True):
        stages = _Stages(settings, log, data, seed, record, say)
        for name, outcome in outcomes.items():
            if outcome.kind == "cf":  # which of them is the best is not asked of test users
                outcome.validation[seed] = stages.sessions(name, "validation")
            outcome.test[seed] = stages.sessions(name, "test")
            results = results_of(outcomes) | told
            results["complete"] = seed == len(worlds) - 1 and name == settings.names[-1]
            write_json(out / "results.json", results)
    write_text(out / "table.md", markdown(results))
    write_summary(out / "summary", results)
    write_report(out)
    say(f"finished: {out / 'results.json'}")
    return results


class _Stages:
    """The stages of one seed; each is reused where its files say that it is finished."""

    def __init__(
        self,
        settings: CompareSettings,
        log: InteractionLog,
        data: FitData,
        seed: int,
        record: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._settings, self._log, self._data = settings, log, data
        self._seed, self._record, self._say = seed, record, say
        self._out = Path(settings.out) / f"seed-{seed}"
        self._agents: dict[str, Any] = {}
        self._world = self._make_world()
        self._users_digest = _digest(self._out / "users")

    def sessions(self, name: str, population: Population) -> Evaluation:
        """Sessions of every user of the population with the agent."""
        world, seed = self._world, self._seed
        wanted = self._settings.budget.sessions
        if population == "validation":  # about as many sessions of fewer users
            test, few = (len(world.users.starts(p).at_least(1)) for p in ("test", "validation"))
            wanted = -(-wanted * test // max(few, 1))
        if ROSTER[name].kind == "rl":
            self._agent(name)  # training reuses what is trained
        record = {
            **self._record,
            "seed": seed,
            "users": self._users_digest,
            "agent": _digest(world.directory(name)),
            "population": population,
            "sessions_per_user": wanted,
        }
        path = self._out / "sessions" / f"{name}-{population}.npz"
        kept = load_sessions(path, record)
        if kept is not None:
            self._say(f"seed {seed}: {name}, {population} users: reused: {path}")
            return kept
        agent = self._agent(name)
        self._say(f"seed {seed}: {name} meets the {population} users")
        sessions = evaluate(
            agent,
            world.users,
            population=population,
            sessions_per_user=wanted,
            seed=EVALUATION_DRAWS * (seed + 1),
            **world.training.env_kwargs,
        )
        save_sessions(path, sessions, record)
        return sessions

    def _agent(self, name: str) -> Any:
        if name not in self._agents:
            verb = "training" if ROSTER[name].kind == "rl" else "fitting"
            self._say(f"seed {self._seed}: {verb} {name}")
            agent = self._agents[name] = ROSTER[name].make(self._world)
            if isinstance(agent, TunedAgent):
                spent = sum(row.get("steps", 0) for row in agent.tuning)
                self._say(
                    f"seed {self._seed}: {name}: chosen on validation users in {spent:,} "
                    f"user-steps: {agent.settings}"
                )
            users = self._world.users
            if isinstance(agent, ScoringAgent) and "users" not in vars(agent):
                # To be taken away; greedy ones are in the directory of the users themselves.
                save_agent(agent, self._out / "baselines" / name, users.catalogue, users.scale)
        return self._agents[name]

    def _make_world(self) -> World:
        settings, budget = self._settings, self._settings.budget
        training = TrainSettings(
            users=str(self._out / "users"),
            out=str(self._out),
            steps=budget.steps,
            num_envs=budget.num_envs,
            evaluations=budget.evaluations,
            slate_size=settings.slate_size,
            step_limit=settings.step_limit,
            assumptions=settings.assumptions,
            seed=self._seed,
            device=settings.device,
            overwrite=settings.overwrite,
        )
        histories = self._data.histories
        fitting, validation = histories["fitting"], histories["validation"]
        return World(self._users(), fitting, validation, training, budget.tuning)

    def _users(self) -> UserModel:
        """The user model of this seed, fitted or loaded."""
        directory = self._out / "users"
        settings = FitSettings(
            preset=self._settings.preset,
            half=HALF,
            seed=self._seed,
            device=self._settings.device,
            encoder=self._settings.encoder,
            out=str(directory),
        )
        if read_json(directory / "settings.json") == settings_of(self._log, settings):
            self._say(f"seed {self._seed}: user model: reused: {directory}")
            return BertUserModel.from_pretrained(directory, device=settings.device)
        for name, entry in ROSTER.items():
            if entry.kind == "rl":  # what was trained in other users is void
                shutil.rmtree(self._out / name, ignore_errors=True)
        self._say(f"seed {self._seed}: fitting the user model (preset {settings.preset})")
        return fit(self._log, settings)


def _record(settings: CompareSettings, log: InteractionLog) -> dict[str, Any]:
    """What the files of a directory depend on."""
    return {
        "settings": settings.deciding(),
        "log": {
            "name": log.name,
            "fingerprint": log.fingerprint,
            "users": log.n_users,
            "items": log.n_items,
            "events": log.n_events,
        },
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }


def _seeds(settings: CompareSettings) -> range:
    return range(settings.budget.seeds)


def _refuse_another(out: Path, record: dict[str, Any], overwrite: bool) -> None:
    """Refuse a directory that holds a comparison with other settings."""
    earlier = read_json(out / "settings.json")
    if earlier is None or overwrite:
        return
    differing = [
        f"{key} was {was!r} and is now {value!r}"
        for part, wanted in json.loads(json.dumps(record)).items()
        for key, value in wanted.items()
        if (was := earlier.get(part, {}).get(key)) != value
    ]
    if differing:
        raise ValueError(
            f"{out} holds a comparison with other settings ({'; '.join(differing)}); pass "
            f"another out, or overwrite to replace it"
        )


def _checked(data: FitData, settings: CompareSettings) -> FitData:
    """What would only show after minutes, at once."""
    most = len(data.catalogue) - START_EVENTS
    if settings.slate_size > most:
        raise ValueError(
            f"slate_size must be at most {most} (the {len(data.catalogue)} items of the catalogue "
            f"less the {START_EVENTS} that a user starts with), got {settings.slate_size}"
        )
    halves(data.histories["validation"], len(data.catalogue), seed=0)
    return data


def _digest(path: Path) -> str | None:
    """Hash of a model's files (weights, tables and configurations), None where there is none."""
    if not path.is_dir():
        return None
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()):
        if file.suffix in (".safetensors", ".parquet", ".zip") or file.name == "config.json":
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
