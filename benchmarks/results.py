"""What a comparison says: figures with intervals, and the tables made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from audience.agents.evaluation import Evaluation
from audience.benchmarks.exploitation import cures, gaps
from audience.benchmarks.paired import difference, return_figures
from audience.benchmarks.roster import Kind
from audience.benchmarks.verdict import verdict
from audience.benchmarks.world_names import INNER, JUDGE, REPLAY, SIMULATOR, TRUTH

FIGURES = ("session_length", "like_rate", "acceptance", "coverage", "gini")
"""Figures of `Evaluation.summary` beside the return; of several seeds, their mean."""

BEYOND = ("novelty", "diversity", "calibration")
"""Figures of `beyond`, likewise."""


@dataclass
class Outcome:
    """What an agent did in each seed that it has met so far.

    Attributes:
        kind: What the agent is.
        test: Sessions with test users, by world and seed.
        validation: Sessions with validation users, by world (the simulator and the inner judge)
            and seed.
        beyond: What `beyond` says of the sessions with test users in the simulator, by seed.
        segments: What `segments_of` says.
    """

    kind: Kind
    test: dict[str, dict[int, Evaluation]] = field(default_factory=dict)
    validation: dict[str, dict[int, Evaluation]] = field(default_factory=dict)
    beyond: dict[int, dict[str, float]] = field(default_factory=dict)
    segments: dict[str, Any] = field(default_factory=dict)

    def keep(self, part: str, world: str, seed: int, sessions: Evaluation) -> None:
        """Add sessions to `test` or `validation`."""
        getattr(self, part).setdefault(world, {})[seed] = sessions


def champion(outcomes: Mapping[str, Outcome], kind: Kind) -> str | None:
    """The agent of a kind with the highest return with validation users in the inner judge.

    Where none was there, in the simulator; no test user has a say. None without such agents.
    """
    for world in (INNER, SIMULATOR):
        found = {
            name: _mean_return(outcome.validation[world])
            for name, outcome in outcomes.items()
            if outcome.kind == kind and world in outcome.validation
        }
        if found:
            return max(found, key=lambda name: found[name])
    return None


def results_of(
    outcomes: Mapping[str, Outcome],
    judges: Mapping[str, Any] | None = None,
    grid: list[dict[str, Any]] | None = None,
    correlations: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of `results.json`; agents that have not met test users yet are left out.

    Each agent is compared with the best collaborative filter in pairs, session by session.

    Args:
        outcomes: By agent.
        judges: By class, `competent`, `competence` and `kin`, where they are known.
        grid: Rows of `assumption_grid`.
        correlations: The part `rank_correlation`.
    """
    done = {name: outcome for name, outcome in outcomes.items() if outcome.test}
    best = champion(done, "cf")
    return {
        "agents": {name: _agent(name, done, best) for name in done},
        "best_cf": best,
        "judges": judges,
        "verdict": _verdict(done, judges or {}, grid or []),
        "exploitation": cures({name: outcome.test for name, outcome in done.items()}),
        "assumption_grid": grid,
        "rank_correlation": correlations,
    }


def _agent(name: str, done: Mapping[str, Outcome], best: str | None) -> dict[str, Any]:
    outcome = done[name]
    told: dict[str, Any] = {"kind": outcome.kind}
    for world, by_seed in outcome.test.items():
        told[world] = {"return": return_figures(by_seed), "difference_to_best_cf": None}
        if best not in (None, name) and world in done[best].test:
            told[world]["difference_to_best_cf"] = difference(by_seed, done[best].test[world])
    if SIMULATOR in outcome.validation:
        told[SIMULATOR]["validation_return"] = _mean_return(outcome.validation[SIMULATOR])
    if INNER in outcome.validation:
        told[INNER] = {"return": return_figures(outcome.validation[INNER])}
    summaries = [sessions.summary() for sessions in outcome.test[SIMULATOR].values()]
    told |= {key: float(np.mean([s[key] for s in summaries])) for key in FIGURES}
    for key in BEYOND:
        values = [found[key] for found in outcome.beyond.values() if key in found]
        told[key] = float(np.mean(values)) if values else None
    told |= gaps(outcome.test, None if best in (None, name) else done[best].test)
    if outcome.segments:
        told["segments"] = outcome.segments
    return told


def _verdict(
    done: Mapping[str, Outcome], judges: Mapping[str, Any], grid: list[dict[str, Any]]
) -> dict[str, Any]:
    rl, cf = champion(done, "rl"), champion(done, "cf")
    differences: dict[str, Any] = {}
    bases: dict[str, float] = {}
    seeds = 0
    if rl is not None and cf is not None:
        ours, theirs = done[rl].test, done[cf].test
        seeds = len(ours[SIMULATOR])
        for world in ours:
            if world != SIMULATOR and world in theirs:
                gap = difference(ours[world], theirs[world])
                if gap is not None:
                    differences[world] = gap
                    bases[world] = return_figures(theirs[world])["mean"]
    return verdict(rl, cf, differences, bases, judges, seeds, grid)


def _mean_return(by_seed: Mapping[int, Evaluation]) -> float:
    return float(np.mean([sessions.return_.mean() for sessions in by_seed.values()]))


BESIDE = {
    "session_length": ("length", 1),
    "like_rate": ("like rate", 2),
    "coverage": ("coverage", 2),
    "gini": ("gini", 2),
    "novelty": ("novelty", 1),
    "diversity": ("diversity", 2),
    "calibration": ("calibration", 2),
}
"""Figures of the table beside returns: what they are called, and their digits."""


def headings(results: Mapping[str, Any]) -> list[str]:
    """The table's headings."""
    names = [world.replace("_", " ") for world in _worlds(results)]
    return ["agent", "kind", *names, "gap to CF", *(name for name, _ in BESIDE.values())]


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The table's cells, the highest return first."""
    worlds = _worlds(results)
    ranked = sorted(
        results["agents"].items(), key=lambda item: -item[1]["simulator"]["return"]["mean"]
    )
    table = []
    for name, agent in ranked:
        gap = agent["exploitation_gap_to_best_cf"]
        returns = [(agent.get(world) or {}).get("return") for world in worlds]
        best = "best CF" if name == results["best_cf"] else "-"
        table.append(
            [
                name,
                agent["kind"],
                *("-" if r is None else _interval(r, ".2f") for r in returns),
                _interval(gap, "+.2f") if gap else best,
                *(
                    "-" if agent[key] is None else f"{agent[key]:.{digits}f}"
                    for key, (_, digits) in BESIDE.items()
                ),
            ]
        )
    return table


def markdown(results: Mapping[str, Any]) -> str:
    """The table in Markdown, with the verdict below."""
    titles = headings(results)
    lines = [titles, ["---", "---", *["---:"] * (len(titles) - 2)], *rows(results)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{said(results)}\n"


def said(results: Mapping[str, Any]) -> str:
    """The verdict, what it stands on, and what cures of exploitation do."""
    told = [results["verdict"]["sentence"], *results["verdict"]["grounds"]]
    told += [cured(row) for row in results.get("exploitation") or []]
    return " ".join(told)


def cured(row: Mapping[str, Any]) -> str:
    """A row of `exploitation` in words."""
    gap = _interval(row["gap_difference"], "+.2f")
    return f"Exploitation gap of {row['cure']} minus that of {row['agent']}: {gap}."


def screen(results: Mapping[str, Any]) -> Table:
    """The table for a terminal."""
    log, seeds = (
        results["log"],
        max(
            (len(a["simulator"]["return"]["per_seed"]) for a in results["agents"].values()),
            default=0,
        ),
    )
    table = Table(
        title=f"{log['name']}: returns of unseen test users' sessions by world, "
        f"{seeds} seed{'s' * (seeds != 1)}",
        box=box.SIMPLE_HEAD,
        caption=said(results).replace("[", r"\["),
        caption_justify="left",
    )
    shown = len(headings(results)) - len(BESIDE)  # what a terminal is wide enough for
    for place, heading in enumerate(headings(results)[:shown]):
        table.add_column(heading, justify="right" if place > 1 else "left")
    for row in rows(results):
        table.add_row(*(cell.replace("[", r"\[") for cell in row[:shown]))
    return table


def _worlds(results: Mapping[str, Any]) -> list[str]:
    """The worlds that test users were met in, as some agent names them."""
    named = dict.fromkeys(key for agent in results["agents"].values() for key in agent)
    return [key for key in named if key in (SIMULATOR, TRUTH, REPLAY) or key.startswith(JUDGE)]


def _interval(found: Mapping[str, float], form: str) -> str:
    mean, low, high = (format(found[end], form) for end in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def write_summary(directory: Path, results: Mapping[str, Any]) -> None:
    """Final returns of each agent and the table as TensorBoard files, in place of older ones."""
    from torch.utils.tensorboard import SummaryWriter

    for old in directory.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(directory)) as writer:
        for name, agent in results["agents"].items():
            for world in _worlds(results):
                per_seed = agent[world]["return"]["per_seed"] if world in agent else []
                for seed, value in enumerate(per_seed):
                    writer.add_scalar(f"return_{world}/{name}", value, seed)
            for figure in (*FIGURES, *BEYOND):
                if agent[figure] is not None:
                    writer.add_scalar(f"{figure}/{name}", agent[figure], 0)
        writer.add_text("comparison", markdown(results))
