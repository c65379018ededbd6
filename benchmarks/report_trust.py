"""How far to trust a comparison, and what it was made with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from audience.benchmarks.report_blocks import (
    Block,
    Cell,
    Code,
    Estimate,
    Folded,
    Section,
    Table,
    number,
)
from audience.benchmarks.report_reading import Results
from audience.reward_models.card import trust
from audience.reward_models.card_tables import NAMES, TITLES

QUALITY = {
    "feedback": {"rmse": "RMSE", "nll": "NLL", "auc": "AUC of a like"},
    "choice": {"ndcg@10": "NDCG@10, next item"},
    "leave": {"nll": "NLL", "auc": "AUC"},
}
"""By part of the card, the measures that are shown, and what they are called."""

SIMULATION = {
    "discriminator_auc": "AUC of telling real from simulated users (.5: cannot)",
    "feedback_tv": "feedback histograms, total variation (0: alike)",
    "session_length_ks": "session lengths, KS (0: alike)",
}

DIGITS = 3


def trust_section(results: Results, cards: Mapping[str, Mapping[str, Any]]) -> Section | None:
    """The key figures of the user models, and the competence of the judges.

    Args:
        results: As in results.json.
        cards: Cards of the simulators by seed, as in card.json.
    """
    blocks: list[Block] = []
    if cards:
        seed, card = next(iter(cards.items()))
        blocks += [
            "A return in simulation is worth as much as the simulated users are like real ones. "
            "The model of the users, beside the best simple baseline on the same events of test "
            f"users{f' (seed {seed})' if len(cards) > 1 else ''}:"
        ]
        if rows := [*_quality(cards), *_simulation(cards)]:
            blocks.append(Table(["users", "model", "model − baseline", "baseline"], rows))
        with contextlib.suppress(KeyError, TypeError):  # a card of another version says less
            blocks.append(Folded("What the card says", [trust(dict(card))]))
        if assumed := card.get("assumptions"):
            blocks.append(Folded("What is assumed", [[str(one) for one in assumed]]))
    judges = results.get("judges")
    if isinstance(judges, Mapping) and judges:
        rows = [row for name, judge in judges.items() for row in _judge(str(name), judge or {})]
        blocks += [
            "A judge counts where it knows real users about as well as what it judges:",
            Table(["judge", "competent", "beside", "kin", "why"], rows, names=5),
        ]
    elif blocks:
        blocks.append("There is no judge: nothing tells these returns from exploited errors.")
    return Section("How far to trust it", blocks) if blocks else None


def settings_section(results: Results) -> Section | None:
    """How to repeat it: the command, all settings, the log, the versions."""
    settings = results.get("settings") or {}
    blocks: list[Block] = []
    if command := command_of(results):
        blocks += ["To repeat it:", Code(command)]
    tables = {"setting": settings, "log": results.get("log"), "package": results.get("versions")}
    for heading, held in tables.items():
        if isinstance(held, Mapping) and held:
            rows: list[list[Cell]] = [[name, value] for name, value in _flat(held)]
            blocks.append(Table([heading, "value"], rows, names=2))
    return Section("Settings and versions", blocks) if blocks else None


def command_of(results: Results) -> str | None:
    """The command that gives these results, None where results.json does not know its settings."""
    from audience.benchmarks.scripted_truth import SCRIPTED
    from audience.reward_models.log_sources import NAMED_LOGS

    settings = dict(results.get("settings") or {})
    if not settings:
        return None
    settings.pop("log", None)
    log = (results.get("log") or {}).get("name")
    own = "--interactions YOUR_EVENTS --items YOUR_ITEMS"
    options = [f"--log {log}" if log in (*NAMED_LOGS, SCRIPTED) else own]
    for name in COMMAND:
        value = settings.get(name)
        if isinstance(value, Mapping):
            options += [f"--{name}.{key} {part}".replace("_", "-") for key, part in value.items()]
        elif value is not None:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            options.append(f"--{name.replace('_', '-')} {text}")
    return f"audience-bench compare {' '.join(options)}"


COMMAND = (
    "preset",
    "agents",
    "seeds",
    "steps",
    "sessions",
    "judge_sessions",
    "slate_size",
    "step_limit",
    "assumptions",
    "partner",
    "inner_judge",
    "encoder",
)
"""Settings that results.json names as the command line does."""


def _quality(cards: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Cell]]:
    for part, measures in QUALITY.items():
        for measure, name in measures.items():
            held = [(card.get(part) or {}) for card in cards.values()]
            own = [(one.get("model") or {}) for one in held]
            if not held or own[0].get(measure) is None:
                continue
            model = Estimate(
                own[0][measure],
                own[0].get(f"{measure}_low"),
                own[0].get(f"{measure}_high"),
                digits=DIGITS,
            )
            gap = (held[0].get("difference") or {}).get(measure) or {}
            best = str(gap.get("against") or "constant")
            cells: list[Cell] = [f"{TITLES[part]}: {name}{_spread(own, measure)}", model]
            if gap.get("mean") is None:
                yield [*cells, "–", "–"]
            else:
                ends = gap.get("low"), gap.get("high")
                difference = Estimate(gap["mean"], *ends, signed=True, digits=DIGITS)
                yield [*cells, difference, NAMES.get(best, best)]


def _simulation(cards: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Cell]]:
    held = [(card.get("simulation") or {}) for card in cards.values()]
    for measure, name in SIMULATION.items():
        if held and held[0].get(measure) is not None:
            low, high = (held[0].get(f"{measure}_{end}") for end in ("low", "high"))
            value = Estimate(held[0][measure], low, high, digits=DIGITS)
            yield [f"Free-running sessions: {name}{_spread(held, measure)}", value, "–", "–"]


def _spread(held: list[Any], measure: str) -> str:
    """The range over seeds, where there are several."""
    values = [one[measure] for one in held if one.get(measure) is not None]
    if len(values) < 2:
        return ""
    return f" (seeds: {number(min(values), DIGITS)} to {number(max(values), DIGITS)})"


def _judge(name: str, judge: Mapping[str, Any]) -> Iterator[list[Cell]]:
    """A row of each rival that the judge is compared with, or one of them all."""
    found, kin = judge.get("competence"), ", ".join(map(str, judge.get("kin") or [])) or "–"
    if isinstance(found, Mapping) and "competent" not in found:
        rivals = {str(key): one for key, one in found.items() if isinstance(one, Mapping)}
    else:
        rivals = {"–": found if isinstance(found, Mapping) else {"competent": found}}
    for rival, one in rivals.items():
        said = {True: "yes", False: "no"}.get(one.get("competent"), "not measured")  # type: ignore[arg-type]
        yield [name, said, rival, kin, str(one.get("sentence") or "–")]


def _flat(held: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in held.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{prefix}{key}", "by default" if value is None else text
