"""The parts of a report, each left out where results.json has nothing for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audience.benchmarks.report_blocks import (
    Block,
    Cell,
    Folded,
    Picture,
    Pictures,
    Section,
    Table,
)
from audience.benchmarks.report_figures import Curve, Row, curves, intervals
from audience.benchmarks.report_reading import (
    Results,
    cell,
    estimate,
    ranked,
    return_of,
    world_name,
    worlds_of,
)
from audience.benchmarks.report_sources import CURVES
from audience.benchmarks.results import cured
from audience.benchmarks.world_names import JUDGE, SIMULATOR

BESIDE = {
    "session_length": "session length (steps)",
    "like_rate": "like rate",
    "acceptance": "acceptance",
    "coverage": "coverage",
    "gini": "Gini",
    "novelty": "novelty (bits)",
    "diversity": "diversity",
    "calibration": "calibration",
    "exploitation_gap": "exploitation gap",
    "exploitation_gap_to_best_cf": "gap to best CF's",
}
"""Figures of an agent beside its return, and what they are called."""


def agents_section(results: Results) -> Section | None:
    """The table of agents, and their returns in the simulator drawn beside it."""
    agents, names, worlds = results.get("agents") or {}, ranked(results), worlds_of(results)
    if not worlds:
        return None
    best = results.get("best_cf")
    with_gap = any((agents[n].get(SIMULATOR) or {}).get("difference_to_best_cf") for n in names)
    headings = ["agent", "kind", *(f"return, {world_name(w)}" for w in worlds)]
    if with_gap:
        headings.insert(3, "to best CF, simulator")
    rows: list[list[Cell]] = []
    for name in names:
        agent = agents[name]
        row: list[Cell] = [name, str(agent.get("kind", ""))]
        for world in worlds:
            mark = "†" if name in _kin(results, world) else ""
            found = return_of(agent, world)
            row.append(dataclasses.replace(found, note=mark) if found else "–")
        if with_gap:
            gap = estimate((agent.get(SIMULATOR) or {}).get("difference_to_best_cf"), signed=True)
            row.insert(3, gap or ("best CF" if name == best else "–"))
        rows.append(row)
    blocks: list[Block] = [
        "Returns of unseen test users' sessions; in brackets the 95 % bootstrap interval over "
        "users and seeds."
        + (f" The best CF agent, {best}, was chosen on validation users." if best else ""),
        Table(headings, rows, names=2),
    ]
    if any("†" in str(cell) for row in rows for cell in row):
        blocks.append("† kin: the judge is of this agent's class, and may favour it.")
    blocks += _beside(agents, names)
    blocks += [cured(row) for row in results.get("exploitation") or []]
    return Section("The agents", [*blocks, *_by_seed(agents, names, worlds)])


def worlds_section(results: Results) -> Section | None:
    """Returns in each world, and how far the worlds rank the agents alike."""
    agents, names, worlds = results.get("agents") or {}, ranked(results), worlds_of(results)
    if not worlds:
        return None
    pictures = []
    for world in worlds:
        rows = [
            Row(name, str(agents[name].get("kind", "")), found)
            for name in names
            if (found := return_of(agents[name], world))
        ]
        best = return_of(agents.get(results.get("best_cf"), {}), world)
        drawing = intervals(f"Return, {world_name(world)}", rows, best.mean if best else None)
        caption = "Mean and 95 % interval." + (" Dashed: the best CF agent." if best else "")
        pictures.append(Picture(f"returns_{world}", caption, drawing))
    blocks: list[Block] = [Pictures(pictures)]
    if len(worlds) > 1:
        blocks.insert(
            0,
            "The agents in the same order in every world. An agent that stands high where it was "
            "trained and low elsewhere lives off its simulator's errors.",
        )
    if table := _correlations(results.get("rank_correlation") or {}, worlds):
        blocks += ["How far the worlds rank the agents alike (1: the same order):", table]
    return Section("The worlds side by side" if len(worlds) > 1 else "Returns", blocks)


def learning_section(results: Results, found: Mapping[str, Sequence[Curve]]) -> Section | None:
    """How the RL agents learned."""
    if not found:
        return None
    best = results.get("best_cf")
    world = (results.get("agents") or {}).get(best, {}).get(SIMULATOR) or {}
    pictures = []
    for tag, lines in found.items():
        line = world.get("validation_return") if tag == "evaluation/return" else None
        drawing = curves(CURVES[tag], lines, line, str(best))
        caption = "Return of evaluations while training."
        if any(len(one.seeds) > 1 for one in lines):
            caption += " Thin: single seeds."
        if line is not None:
            caption += f" Dashed: {best} with validation users."
        pictures.append(Picture(tag, caption, drawing))
    return Section("How they learned", [Pictures(pictures)])


def _beside(agents: Results, names: Sequence[str]) -> Iterator[Block]:
    """Every other figure of the agents."""
    found = [key for key in BESIDE if any(agents[name].get(key) is not None for name in names)]
    if found:
        yield (
            "Beyond the return. Novelty: surprise of what is shown, from its popularity. "
            "Diversity: one minus the cosine of the texts of two items of a session. Calibration: "
            "the cosine of what a session shows to what the user began with. Exploitation gap: "
            "the return in the simulator minus that in the judges; beside the best CF agent's "
            "gap, how much more the simulator promises of an agent than it keeps."
        )
        rows: list[list[Cell]] = [
            [name, *(cell(estimate(agents[name].get(key))) for key in found)] for name in names
        ]
        yield Table(["agent", *(BESIDE[key] for key in found)], rows)


def _by_seed(agents: Results, names: Sequence[str], worlds: Sequence[str]) -> Iterator[Block]:
    for world in worlds:
        held = {n: (agents[n].get(world) or {}).get("return") or {} for n in names}
        seeds = max((len(figures.get("per_seed") or []) for figures in held.values()), default=0)
        if not seeds:
            continue
        rows: list[list[Cell]] = []
        for name, figures in held.items():
            values = [*(figures.get("per_seed") or [])]
            values += [None] * (seeds - len(values))
            rows.append([name, *(cell(estimate(v)) for v in (figures.get("iqm"), *values))])
        headings = ["agent", "interquartile mean", *(f"seed {seed}" for seed in range(seeds))]
        yield Folded(f"Interquartile means and seeds, {world_name(world)}", [Table(headings, rows)])


def _correlations(held: Mapping[str, Any], worlds: Sequence[str]) -> Table | None:
    """Rank correlations, a pair of worlds a row."""
    called = {f"{a}_{b}": f"{world_name(a)}, {world_name(b)}" for a in worlds for b in worlds}
    called["simulator_replay_same_masks"] = "simulator under replay's masks, replay"
    rows: list[list[Cell]] = [
        [
            called.get(pair, pair.replace("_", " ")),
            *(cell(estimate(found.get(measure))) for measure in ("kendall", "spearman")),
            cell(found.get("agents")),
        ]
        for pair, found in held.items()
        if isinstance(found, Mapping)
    ]
    return Table(["worlds", "tau-b", "Spearman", "policies"], rows) if rows else None


def _kin(results: Results, world: str) -> list[str]:
    judge = (results.get("judges") or {}).get(world.removeprefix(JUDGE)) or {}
    return list(judge.get("kin") or []) if world.startswith(JUDGE) else []
