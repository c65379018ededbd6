"""What a comparison answers, in words: the verdict, or plainly that there is none."""

from __future__ import annotations

from typing import Any

from audience.benchmarks.report_blocks import (
    Block,
    Cell,
    Estimate,
    Folded,
    Picture,
    Pictures,
    Section,
    Table,
)
from audience.benchmarks.report_figures import Row, intervals
from audience.benchmarks.report_reading import (
    Results,
    estimate,
    ranked,
    return_of,
    world_name,
    worlds_of,
)
from audience.benchmarks.world_names import INNER, REPLAY, SIMULATOR

UNASKED = {
    "judges": "No judge has valued the agents: no user model of another class, fitted to other "
    "users, says whether they exploit their simulator's errors.",
    "replay": "The agents have not been replayed on the feedback of real users.",
    "assumption_grid": "The comparison has not been repeated with other assumptions about what "
    "the log does not teach (acceptance, leaving, popularity).",
    "rank_correlation": "Whether the worlds rank the agents alike has not been measured.",
    "champion": "The best RL agent was picked by these very returns, which flatters it.",
    "seeds": "One seed only: the intervals cover users, not halving, fitting and training.",
}
"""What is not known, by what is missing."""


def verdict_of(results: Results) -> dict[str, Estimate]:
    """By world, the difference that the verdict rests on; empty where there is no verdict."""
    verdict = results.get("verdict") or {}
    found = {
        world: estimate(figures, signed=True)
        for world, figures in (verdict.get("difference") or {}).items()
    }
    return {world: figures for world, figures in found.items() if figures}


def answer(results: Results) -> str:
    """The answer in one sentence, which is the verdict where there is one."""
    agents = results.get("agents") or {}
    if not agents:
        return "Nothing is known yet: no agent has met a test user."
    verdict = results.get("verdict") or {}
    if verdict_of(results) and verdict.get("sentence"):
        return str(verdict["sentence"])
    best_cf, rl = results.get("best_cf"), best_rl(results)
    if rl is None or best_cf not in agents:
        missing = "RL agent" if rl is None else "collaborative filter"
        return f"There is no verdict: no {missing} has been compared."
    gap = _gap(results, rl)
    if gap is None:
        return f"There is no verdict yet on whether {rl} beats {best_cf}."
    what = compared(gap)
    among = sum(agent.get("kind") == "rl" for agent in agents.values())
    which = f"{rl}, the best of {among} RL agents there," if among > 1 else rl
    return (
        f"There is no verdict yet: in the simulator that it was trained in, {which} {what} "
        f"{best_cf}, the best collaborative filter ({gap.figure} return a session, 95 % interval "
        f"{gap.range.replace(', ', ' to ')}), and what real users would say is not known."
    )


def compared(gap: Estimate) -> str:
    """A difference in words, by its interval."""
    if gap.low is not None and gap.low > 0:
        return "beats"
    if gap.high is not None and gap.high < 0:
        return "falls short of"
    return "cannot be told from"


def best_rl(results: Results) -> str | None:
    """The RL agent of the verdict, else the one with the highest return."""
    agents = results.get("agents") or {}
    chosen = (results.get("verdict") or {}).get("rl")
    if chosen in agents:
        return str(chosen)
    return next((name for name in ranked(results) if agents[name].get("kind") == "rl"), None)


def verdict_section(results: Results) -> Section:
    """What the answer rests on, and what is not known."""
    blocks: list[Block] = []
    verdict, gaps = results.get("verdict") or {}, verdict_of(results)
    if gaps:
        pair = f"{verdict.get('rl') or 'RL'} minus {verdict.get('cf') or 'CF'}"
        shares = {w: _share(gap, results, verdict.get("cf"), w) for w, gap in gaps.items()}
        relative = all(shares.values())
        drawn = {w: share if relative and share else gaps[w] for w, share in shares.items()}
        rows = [Row(world_name(world), "rl", gap) for world, gap in drawn.items()]
        title = f"{pair}, in % of {verdict.get('cf')}'s return" if relative else f"{pair}: return"
        drawing = intervals(title, rows, reference=0)
        caption = "Mean paired difference, with its 95 % interval; right of 0, RL is better."
        blocks.append(Pictures([Picture("verdict", caption, drawing)]))
        table: list[list[Cell]] = [[world_name(world), gap] for world, gap in gaps.items()]
        blocks.append(Table(["world", pair], table))
        blocks += [str(one) for one in verdict.get("grounds") or []]
    elif verdict.get("sentence"):
        blocks.append(str(verdict["sentence"]))
    blocks += _picked(results)
    if missing := unknown(results):
        blocks += [*(["Not known:"] if gaps else []), missing]
    return Section("What is known" if gaps else "What is not known", blocks)


def _picked(results: Results) -> list[Block]:
    """How the two sides of the verdict were picked."""
    agents = results.get("agents") or {}
    found = {name: return_of(agent, INNER) for name, agent in agents.items()}
    held = {name: value for name, value in found.items() if value}
    if not held:
        return []
    order = sorted(held, key=lambda name: -held[name].mean)
    rows: list[list[Cell]] = [[name, str(agents[name].get("kind")), held[name]] for name in order]
    return [
        Folded(
            "How the two were picked",
            [
                "The RL agent and the collaborative filter of the verdict are those that did best "
                "with validation users in the inner judge, which is of the simulator's half. "
                "Neither test users nor the judges of the other half have a say.",
                *_learned_in(results),
                Table(["agent", "kind", "return, inner judge"], rows, names=2),
            ],
        )
    ]


def _learned_in(results: Results) -> list[str]:
    """In which users the agents learned."""
    seeds = [list(kinds) for kinds in results.get("learned_in") or []]
    partners = sorted({kind for kinds in seeds for kind in kinds if kind != SIMULATOR})
    if not seeds or not partners:
        return ["Agents learned, and filters were tuned, in the simulator alone."] if seeds else []
    count = sum(len(kinds) > 1 for kinds in seeds)
    return [
        "Agents learned, and filters were tuned, in the simulator and in users of class "
        f"{' and '.join(partners)}, fitted to the same half, in turn: what only one of them "
        f"believes does not pay ({count} of {len(seeds)} seeds)."
    ]


def unknown(results: Results) -> list[str]:
    """What a reader might take for known and is not."""
    agents = (results.get("agents") or {}).values()
    lacking = {
        key: not results.get(key) for key in ("judges", "assumption_grid", "rank_correlation")
    }
    lacking["replay"] = REPLAY not in worlds_of(results)
    per_seed = [((a.get(SIMULATOR) or {}).get("return") or {}).get("per_seed") for a in agents]
    rivals = sum(agent.get("kind") == "rl" for agent in agents)
    lacking["champion"] = rivals > 1 and not (results.get("verdict") or {}).get("rl")
    lacking["seeds"] = any(seeds is not None and len(seeds) == 1 for seeds in per_seed)
    told = {key: text for key, text in UNASKED.items() if lacking[key]}
    if "replay" in told and (why := results.get("no_replay")):
        told["replay"] = f"{told['replay'][:-1]}: {why}."
    return list(told.values())


def _gap(results: Results, name: str) -> Estimate | None:
    world = results["agents"][name].get(SIMULATOR) or {}
    return estimate(world.get("difference_to_best_cf"), signed=True)


def _share(gap: Estimate, results: Results, cf: Any, world: str) -> Estimate | None:
    """A difference in percent of CF's return there: worlds differ in length and unit."""
    base = return_of((results.get("agents") or {}).get(cf) or {}, world)
    if base is None or base.mean <= 0 or gap.low is None or gap.high is None:
        return None
    low, mean, high = (100 * end / base.mean for end in (gap.low, gap.mean, gap.high))
    return Estimate(mean, low, high, signed=True, digits=1)
