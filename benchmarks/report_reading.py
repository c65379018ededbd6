"""How a report reads results.json, of which any key may be missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from audience.benchmarks.report_blocks import Cell, Estimate
from audience.benchmarks.world_names import JUDGE, REPLAY, SIMULATOR, TRUTH

Results = Mapping[str, Any]


def estimate(figures: Any, signed: bool = False) -> Estimate | None:
    """A figure of results.json that has a mean and perhaps an interval."""
    if isinstance(figures, (int, float)) and not isinstance(figures, bool):
        return Estimate(float(figures), signed=signed)
    if not isinstance(figures, Mapping) or figures.get("mean") is None:
        return None
    return Estimate(float(figures["mean"]), figures.get("low"), figures.get("high"), signed)


def return_of(agent: Results, world: str) -> Estimate | None:
    """An agent's return in a world, None where it has not been there."""
    held = agent.get(world)
    return estimate(held.get("return")) if isinstance(held, Mapping) else None


def worlds_of(results: Results) -> list[str]:
    """The worlds that some agent has been in: the simulator, judges, the truth, replay."""
    agents = (results.get("agents") or {}).values()
    names = [name for agent in agents for name in agent if return_of(agent, name)]
    judges = sorted({name for name in names if name.startswith(JUDGE)})
    known = [SIMULATOR, *judges, TRUTH, REPLAY]
    return [name for name in known if name in names]


def world_name(world: str) -> str:
    """What a world is called."""
    named = {SIMULATOR: "simulator", TRUTH: "the truth", REPLAY: "replay of real users"}
    return named.get(world, f"judge {world.removeprefix(JUDGE)}")


def ranked(results: Results) -> list[str]:
    """Agents, the highest return in the first world first."""
    agents, worlds = results.get("agents") or {}, worlds_of(results)

    def key(name: str) -> tuple[float, ...]:
        found = [return_of(agents[name], world) for world in worlds]
        return tuple(one.mean if one else float("-inf") for one in found)

    return sorted(agents, key=key, reverse=True)


def leaves(held: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and what they hold; figures with a mean are one estimate."""
    for key, value in held.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            signed = "difference" in name.split(".")
            found = estimate(value, signed)
            if found:
                yield name, found
            else:
                yield from leaves(value, f"{name}.")
        elif value is not None:
            yield name, value


def cell(value: Any) -> Cell:
    """A cell of a table: "–" for nothing."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}".replace("-", "−")
    return value if isinstance(value, Estimate) else str(value)
