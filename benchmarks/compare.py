"""The comparison: fit users, train and fit agents in them, and let all meet unseen users.

All happens in half A of the users who are not test users, until every agent is made; then the
judges are fitted on half B, and test users meet the agents in the simulator, in the judges, and
in replay.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audience.agents.evaluation import Evaluation
from audience.agents.training import VERSIONED
from audience.agents.tuning import halves
from audience.benchmarks.beyond import Known, beyond, segments_of
from audience.benchmarks.cells import Pool, making, turning
from audience.benchmarks.correlations import rank_correlations, under_masks
from audience.benchmarks.files import read_json, write_json, write_text
from audience.benchmarks.front import WEIGHTS, front
from audience.benchmarks.judging import kin_of, summary
from audience.benchmarks.paired import difference
from audience.benchmarks.report import write_report
from audience.benchmarks.results import Outcome, champion, markdown, results_of, write_summary
from audience.benchmarks.roster import ROSTER, Kind
from audience.benchmarks.settings import CompareSettings
from audience.benchmarks.stages import Stages
from audience.benchmarks.world_names import JUDGE, SIMULATOR
from audience.benchmarks.worlds import HALF
from audience.reward_models.device import resolve_device
from audience.reward_models.fit_data import FitData
from audience.reward_models.judges import JUDGES
from audience.reward_models.log import InteractionLog
from audience.reward_models.users import START_EVENTS

VERSIONS = (*VERSIONED, "implicit", "scikit-learn", "scipy", "transformers")
"""Packages whose versions decide what a comparison gives."""

WORLDS = tuple(f"{JUDGE}{kind}" for kind in JUDGES)
"""The judges' worlds."""


def compare(settings: CompareSettings) -> dict[str, Any]:
    """Run the comparison, or what is missing of it, in `settings.out`.

    Writes `settings.json`, `results.json` (as far as it is known, first when all agents of a seed
    are made), `table.md`, `report.html`, `report.md`, TensorBoard files in `summary`, and of each
    seed, in `seed-S`, the user model (`users`), the inner judge (`inner-judge`), the trained
    agents, the fitted baselines (`baselines/*`), the judges (`judges/*`, `competence.json`), and
    all sessions (`sessions/*.npz`). A run that was killed goes on with what it had finished.

    With `settings.jobs` other than 0 it starts processes, so a script that calls it needs the
    guard `if __name__ == "__main__"`.

    Args:
        settings: Of the comparison.

    Returns:
        What `results.json` says.

    Raises:
        LogError: The log is missing, breaks a rule or is too small.
        ValueError: The directory holds a comparison with other settings and `overwrite` is not
            set, or the slate leaves no room in the catalogue.
    """
    started = time.time()

    def say(message: str) -> None:
        print(f"[{time.time() - started:6.1f} s] {message}", flush=True)

    def told_by_cells(message: str) -> None:
        if not settings.processes:
            say(message)

    out = Path(settings.out)
    resolve_device(settings.device)
    log = settings.load_log()
    say(f"log {log.name}: {log.n_users} users, {log.n_items} items, {log.n_events} events")
    record = _record(settings, log)
    _refuse_another(out, record, settings.overwrite)
    seeds = [
        Stages(
            settings,
            log,
            _checked(FitData.of(log, HALF, seed), settings),
            seed,
            record,
            told_by_cells,
        )
        for seed in range(settings.budget.seeds)
    ]
    chosen = {"agents": settings.names, "seeds": len(seeds), "device": settings.device}
    told = {**record, "settings": {**record["settings"], **chosen}}
    write_json(out / "settings.json", told)
    pool = Pool(settings.processes, settings, record, started)
    try:
        for cells, ahead in making(settings):
            pool.run(cells, ahead)
        run = _Run(settings, seeds, told, pool)
        for stages in seeds:
            run.in_half_a(stages)
            run.opened(stages)
            if len(seeds) > 1:
                stages.forget()
        results = run.concluded()
    finally:
        pool.close()
    write_text(out / "table.md", markdown(results))
    write_summary(out / "summary", results)
    write_report(out)
    say(f"finished: {out / 'results.json'}")
    return results


class _Run:
    """What is known so far, over all seeds; results.json says it after each stage."""

    def __init__(
        self, settings: CompareSettings, seeds: list[Stages], told: dict[str, Any], pool: Pool
    ) -> None:
        self._settings, self._seeds, self._told, self._pool = settings, seeds, told, pool
        self._outcomes = {name: Outcome(ROSTER[name].kind) for name in settings.names}
        self._known: dict[int, Known] = {}
        self._competences: list[dict[str, Any]] = []
        self._masked: list[dict[str, Any] | None] = []
        self._kin: dict[str, list[str]] = {}
        self._learned_in: list[list[str]] = []

    def in_half_a(self, stages: Stages) -> None:
        """Make every agent."""
        seed = stages.seed
        for name, outcome in self._outcomes.items():
            for (part, world), sessions in stages.in_half_a(name).items():
                outcome.keep(part, world, seed, sessions)
            outcome.beyond[seed] = beyond(outcome.test[SIMULATOR][seed], stages.known)
            if not self._pool.jobs:  # else this agent was made long ago
                self._write()
        self._known[seed] = stages.known

    def opened(self, stages: Stages) -> None:
        """Let all agents meet test users in the worlds that none of them was made in."""
        for name, outcome in self._outcomes.items():
            for world, sessions in stages.opened(name).items():
                outcome.keep("test", world, stages.seed, sessions)
            outcome.segments = segments_of(outcome.test, self._known)
        self._competences.append(stages.competences())
        self._masked.append(stages.masked())
        roster = {name: ROSTER[name] for name in self._outcomes}
        inputs = getattr(stages.worlds.simulator, "inputs", ())
        self._learned_in.append([SIMULATOR, *(one.kind for one in stages.worlds.partners)])
        partners = {kind for kinds in self._learned_in for kind in kinds[1:]}
        self._kin = {kind: kin_of(kind, roster, inputs, sorted(partners)) for kind in JUDGES}
        self._write()

    def concluded(self) -> dict[str, Any]:
        """The verdict, where it turns, and whether the worlds agree."""
        worlds: dict[str, dict[str, Any]] = {}
        for name, outcome in self._outcomes.items():
            for world, by_seed in outcome.test.items():
                worlds.setdefault(world, {})[name] = by_seed
        correlations = rank_correlations(worlds) | under_masks(self._masked)
        grid, fronts = self._champions()
        return self._write(grid, fronts, correlations, complete=True)

    def _champions(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Both under other assumptions than they were made under, and re-ranked for diversity."""
        kinds: tuple[Kind, ...] = ("rl", "cf")
        names = {kind: name for kind in kinds if (name := champion(self._outcomes, kind))}
        settings = self._seeds[0].assumed if len(names) == 2 else []
        with_texts = all(known.vectors is not None for known in self._known.values())
        weights = WEIGHTS if with_texts else ()
        self._pool.run(turning(self._settings, [*names.values()], len(settings), weights))
        turned: dict[tuple[str, int, str], dict[int, Evaluation]] = {}
        varied: dict[tuple[str, float, str], dict[int, Evaluation]] = {}
        for stages in self._seeds:
            for kind, name in names.items():
                for world in WORLDS:
                    for row in range(len(settings)):
                        found = stages.turned(name, world, row)
                        turned.setdefault((kind, row, world), {})[stages.seed] = found
                for weight in weights:
                    for world in (SIMULATOR, *WORLDS):
                        found = stages.varied(name, world, weight)
                        varied.setdefault((kind, weight, world), {})[stages.seed] = found
            if len(self._seeds) > 1:
                stages.forget()
        grid = [
            {
                **setting.told,
                "difference": {
                    world: difference(turned["rl", row, world], turned["cf", row, world])
                    for world in WORLDS
                },
            }
            for row, setting in enumerate(settings)
        ]
        fronts: list[dict[str, Any]] = []
        for kind, name in names.items() if weights else ():
            own = {w: self._outcomes[name].test[w] for w in (SIMULATOR, *WORLDS)}
            by_weight = {w: {of: varied[kind, w, of] for of in own} for w in weights}
            fronts += front(name, kind, {0.0: own, **by_weight}, self._known)
        return grid, fronts

    def _write(
        self,
        grid: list[dict[str, Any]] | None = None,
        fronts: list[dict[str, Any]] | None = None,
        correlations: Mapping[str, Any] | None = None,
        complete: bool = False,
    ) -> dict[str, Any]:
        judges = summary(self._competences, self._kin) if self._competences else None
        results = results_of(self._outcomes, judges, grid, correlations) | self._told
        results["diversity_front"] = fronts
        results["test_users"] = {
            world: max(sessions.n_users for sessions in by_seed.values())
            for outcome in self._outcomes.values()
            for world, by_seed in outcome.test.items()
        }
        results["learned_in"] = self._learned_in
        results["no_replay"] = self._seeds[0].worlds.no_replay
        results["complete"] = complete
        write_json(Path(self._settings.out) / "results.json", results)
        return results


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
    if settings.inner_judge not in JUDGES:
        raise ValueError(
            f"inner_judge must be one of {', '.join(JUDGES)}, got {settings.inner_judge!r}"
        )
    if settings.partner is not None and settings.partner not in JUDGES:
        raise ValueError(
            f"partner must be one of {', '.join(JUDGES)}, or None, got {settings.partner!r}"
        )
    if settings.partner == settings.inner_judge:
        raise ValueError(
            f"inner_judge must be of another class than the partner that agents learn in, got "
            f"{settings.partner!r} for both; give another partner, or None"
        )
    halves(data.histories["validation"], len(data.catalogue), seed=0)
    return data
