"""The verdict: does RL beat collaborative filtering, and may it be believed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from audience.benchmarks.world_names import TRUTH

MARGIN = 0.02
"""A lower bound above minus this share of CF's return is "not below"."""

LEAST_SEEDS = 5
"""Halvings of the log, each with its own fits and agents, that a verdict needs."""

Figures = Mapping[str, float]
"""`mean`, `low` and `high`."""

Outcome = Literal["ahead", "behind", "level", "open"]


def outcome(gap: Figures, base: float) -> Outcome:
    """What a difference RL minus CF says, by its interval; `base` is CF's own return."""
    margin = MARGIN * abs(base)
    if gap["low"] > 0:
        return "ahead"
    if gap["high"] < 0:
        return "behind"
    return "level" if gap["low"] > -margin and gap["high"] < margin else "open"


def deciding_judges(
    judges: Mapping[str, Mapping[str, Any]], rl: str, cf: str
) -> tuple[list[str], str]:
    """The judges that a verdict may rest on, and why these, or why there are none.

    A competent judge that is kin of neither side, or else all competent judges together, of
    which there must be two: one alone that is kin of a side is a party.

    Args:
        judges: `<class>.{competent|kin[]}`.
        rl: Name of the RL agent.
        cf: Name of the collaborative filter.
    """
    competent = [name for name, judge in judges.items() if judge["competent"]]
    neutral = [name for name in competent if not {rl, cf} & set(judges[name]["kin"])]
    if neutral:
        return neutral, f"decided by {_names(neutral)}, competent and kin of neither side"
    if len(competent) > 1:
        return (
            competent,
            f"decided by {_names(competent)}, all competent judges, each kin of a side",
        )
    if competent:
        return [], f"the only competent judge, {competent[0]}, is kin of a side"
    return [], "no judge is competent" if judges else "there is no judge"


def verdict(
    rl: str | None,
    cf: str | None,
    differences: Mapping[str, Figures],
    bases: Mapping[str, float],
    judges: Mapping[str, Mapping[str, Any]],
    seeds: int,
    grid: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The part `verdict` of results.json.

    Args:
        rl: The best RL agent, by the inner judge; None where none was compared.
        cf: The best collaborative filter, likewise.
        differences: RL minus CF in `judge_<class>` and, where they are known, `truth` and `replay`.
        bases: CF's return there.
        judges: `<class>.{competent|kin[]}`.
        seeds: Number of seeds.
        grid: Rows of `assumption_grid`.

    Returns:
        `rl`, `cf`, `difference`, `sentence`, and beside these `winner` (`rl`, `cf`, `level`, or
        None where no verdict can be given), `judges` (that it rests on), `why`, `grounds` (further
        sentences), and `assumptions`: the number of `settings`, of those whose sign is the
        verdict's (`hold`), and the others (`turn`).
    """
    found: dict[str, Any] = {
        "rl": rl,
        "cf": cf,
        "difference": dict(differences) or None,
        "winner": None,
        "judges": [],
        "why": "",
        "assumptions": None,
        "grounds": [],
    }
    if rl is None or cf is None:
        lacking = "RL agent" if rl is None else "collaborative filter"
        return found | {
            "why": f"no {lacking} was compared",
            "sentence": f"No verdict can be given: no {lacking} was compared.",
        }
    measured = {n: j for n, j in judges.items() if f"judge_{n}" in differences}
    deciding, reason = deciding_judges(measured, rl, cf)
    told = ", ".join(_told(world, differences[world], bases[world]) for world in differences)
    winner, why = None, reason
    if deciding:
        winner, why = _winner(deciding, differences, bases, reason)
    names = [f"judge_{name}" for name in deciding]
    assumed = _assumptions(grid, names, winner) if winner in ("rl", "cf") else None
    early = (
        f"Preliminary ({seeds} of the {LEAST_SEEDS} seeds that a verdict needs): "
        if seeds < LEAST_SEEDS
        else ""
    )
    if winner is None:
        sentence = f"No verdict can be given on {rl} against {cf}: {why}."
        grounds = [f"In figures, as a share of what {cf} earns: {told}."]
    else:
        verb = {"rl": "beats", "cf": "falls short of", "level": "is level with"}[winner]
        limit = ""
        if assumed and assumed["turn"]:
            limit = f"; in {assumed['hold']} of {assumed['settings']} settings of the assumptions"
        sentence = f"{early}{rl} {verb} {cf}: {told}{limit}."
        grounds = [f"It is {why}.", *_turns(assumed)]
    grounds += _truth(differences, bases, winner)
    return found | {
        "winner": winner,
        "judges": deciding,
        "why": why,
        "assumptions": assumed,
        "sentence": sentence,
        "grounds": grounds,
    }


def _winner(
    deciding: Sequence[str],
    differences: Mapping[str, Figures],
    bases: Mapping[str, float],
    reason: str,
) -> tuple[str | None, str]:
    """Who wins, and why, or why nobody does."""
    held = {name: f"judge_{name}" for name in deciding}
    said = {name: outcome(differences[world], bases[world]) for name, world in held.items()}
    kinds = set(said.values())
    if len(kinds) > 1:
        parts = ", ".join(f"{_WORDS[one]} in judge {name}" for name, one in said.items())
        return None, f"the judges do not agree, RL is {parts}"
    (one,) = kinds
    if one == "open":
        return None, "the judges cannot tell the two apart, nor that they are alike"
    if one == "level":
        return "level", reason
    winner = "rl" if one == "ahead" else "cf"
    replay = differences.get("replay")
    if replay is None:
        return winner, f"{reason}; there is no replay of real users to hold against it"
    margin = MARGIN * abs(bases["replay"])
    ahead = winner == "rl"
    kept = replay["low"] > -margin if ahead else replay["high"] < margin
    if kept:
        side = "below" if ahead else "above"
        return winner, f"{reason}; in replay of real users RL is not {side} CF"
    judged = f"RL is {_WORDS[one]} in every judge that counts, but"
    real = outcome(replay, bases["replay"])
    if real in ("ahead", "behind"):
        return None, f"{judged} {real} in replay of real users"
    return None, (
        f"{judged} in replay of real users it cannot be said to be not "
        f"{'below' if ahead else 'above'}"
    )


def _truth(
    differences: Mapping[str, Figures], bases: Mapping[str, float], winner: str | None
) -> list[str]:
    """What the truth says of a verdict, where it is known: it has no part in it."""
    if TRUTH not in differences:
        return []
    one = outcome(differences[TRUTH], bases[TRUTH])
    said = f"In the truth, the scripted users who wrote the log, RL is {_WORDS[one]}"
    if winner is None:
        return [f"{said}."]
    same = {"ahead": "rl", "behind": "cf", "level": "level"}.get(one) == winner
    return [f"{said}: the verdict is {'right' if same else 'not that of the truth'}."]


def _names(judges: Sequence[str]) -> str:
    return f"judge{'s' * (len(judges) > 1)} {' and '.join(judges)}"


_WORDS = {"ahead": "ahead", "behind": "behind", "level": "level", "open": "not to be told from CF"}


def _told(world: str, gap: Figures, base: float) -> str:
    """A difference in words, as a share of CF's return: worlds differ in length and unit."""
    judge = world.startswith("judge_")
    where = f"judge {world.removeprefix('judge_')}" if judge else world
    if base <= 0:
        return f"{gap['mean']:+.2f} in {where}"
    return f"{100 * gap['mean'] / base:+.1f} % in {where}"


def _assumptions(
    grid: Sequence[Mapping[str, Any]], worlds: Sequence[str], winner: str | None
) -> dict[str, Any] | None:
    """In how many settings the sign is that of the verdict in every deciding judge."""
    rows = [row for row in grid if all(world in row["difference"] for world in worlds)]
    if not rows:
        return None
    sign = 1 if winner == "rl" else -1
    turn = [
        {name: value for name, value in row.items() if name != "difference"}
        for row in rows
        if not all(sign * row["difference"][world]["mean"] > 0 for world in worlds)
    ]
    return {"settings": len(rows), "hold": len(rows) - len(turn), "turn": turn}


def _turns(assumed: Mapping[str, Any] | None) -> list[str]:
    if assumed is None:
        return []
    if not assumed["turn"] and assumed["settings"] == 1:
        return ["The log teaches what others leave to assumptions: nothing was set otherwise."]
    if not assumed["turn"]:
        return [f"Its sign holds in all {assumed['settings']} settings of the assumptions tried."]
    where = "; ".join(
        ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in row.items())
        for row in assumed["turn"][:3]
    )
    more = " and others" if len(assumed["turn"]) > 3 else ""
    return [
        f"It is stated only for the {assumed['hold']} of {assumed['settings']} settings of the "
        f"assumptions in which its sign holds; it turns at {where}{more}."
    ]
