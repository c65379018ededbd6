"""The card of a fitted user model: what it learned, what it assumes, how far to trust it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from audience.reward_models.card_tables import NAMES, Card, cell, plain, sections

UNMEASURED = {
    "slates": "What is chosen of a slate, and when nothing is, has not been learned from slates: "
    "it is an assumption, stated in the card.",
    "leave": "When users leave is not learned from this log: it is an assumption, stated in the "
    "card.",
    "cold_items": "Items that nobody rated in fitting have not been measured.",
    "simulation": "Whether free-running sessions look like real ones has not been measured: "
    "do not take a return in simulation for a return from real users.",
}

BASELINE, CONSTANT = "the best baseline, ", "a "
"""What a difference is against, before the rival's name."""


def card_of(
    log: str, settings: dict[str, Any], measured: dict[str, Any], assumptions: list[str]
) -> Card:
    """A card, with null for what has not been measured.

    Further parts may be put into it: `judges` (by name, what `competence` returns) and `ablation`
    (by what was changed, by variant, figures as in the other parts).

    Args:
        log: Name of the log.
        settings: Of the fit.
        measured: What `quality` returns.
        assumptions: What the log could not teach, one sentence each.
    """
    parts = dict.fromkeys(("feedback", "choice", "dwell", *UNMEASURED))
    return {"log": log, "settings": settings, **parts, **measured, "assumptions": assumptions}


def write_card(directory: Path, card: Card) -> None:
    """Write card.json and card.md into an existing directory.

    Raises:
        ValueError: The card holds a NaN or an infinite number, which JSON has not.
    """
    text = json.dumps(card, indent=2, allow_nan=False)
    (directory / "card.json").write_text(text + "\n", encoding="utf-8")
    (directory / "card.md").write_text(markdown(card), encoding="utf-8")


def summary(card: Card) -> str:
    """The card in a few lines for a terminal."""
    return "\n".join(trust(card))


def trust(card: Card) -> list[str]:
    """What the numbers say of how far to trust the model, one sentence or two a string."""
    said = []
    counts = card.get("measured") or {}
    if counts.get("users"):
        said.append(
            f"Measured on {counts['events']:,} events of {counts['users']:,} users that it was "
            f"not fitted to, each event from a user's number {counts['first_event']} on predicted "
            f"from that user's own earlier events."
        )
    else:
        said.append("Not measured: no test user has enough events. Do not rely on this model.")
    if feedback := card.get("feedback"):
        said.append(_compared("Feedback, error (RMSE)", "rmse", feedback, lower=True))
        said.append(_compared("Feedback, surprise (NLL)", "nll", feedback, lower=True))
        said.append(_compared("Feedback, telling likes from others (AUC)", "auc", feedback))
        said.append(
            f"Calibration: its probability of a like is off by {cell(feedback['model'], 'ece')} "
            f"on average (ECE)."
        )
    elif counts.get("users"):
        said.append("Feedback: the log has a single level, so none was learned.")
    if choice := card.get("choice"):
        said.append(_compared("Choice, next item (NDCG@10)", "ndcg@10", choice))
        said.append(_compared("Choice, half against half (NDCG@10)", "half_ndcg@10", choice))
    said += _responses(card)
    if cold := card.get("cold_items"):
        part = {"model": cold["text"], "difference": cold["difference"]}
        what = "Items never met in fitting, telling likes from others by text (AUC)"
        said.append(_compared(what, "auc", part, rival="fitting with "))
    if simulation := card.get("simulation"):
        said += _simulated(simulation)
    for name, judge in (card.get("judges") or {}).items():
        verdict = "competent" if judge["competent"] else "NOT competent"
        said.append(f"Judge {name}: {judge.get('sentence') or verdict}.")
    return said + [text for key, text in UNMEASURED.items() if card.get(key) is None]


def _responses(card: Card) -> list[str]:
    """What is said of slates, leaving and dwell times, where they are learned."""
    said = []
    if slates := card.get("slates"):
        said.append(_compared("Slates, surprise (NLL)", "nll", slates, True, CONSTANT))
    if leave := card.get("leave"):
        said.append(_compared("Leaving, surprise (NLL)", "nll", leave, True, CONSTANT))
        said.append(
            f"Calibration: its probability of leaving is off by {cell(leave['model'], 'ece')} on "
            f"average (ECE)."
        )
    if dwell := card.get("dwell"):
        said.append(_compared("Dwell time, log-seconds (NLL)", "nll", dwell, True, CONSTANT))
    return said


def _simulated(simulation: Card) -> list[str]:
    """What is said of free-running sessions."""
    if simulation.get("discriminator_auc") is None:
        said = ["Free-running sessions: too few users to compare them with real ones."]
    else:
        said = [
            f"Free-running sessions: a classifier tells real from simulated users with AUC "
            f"{cell(simulation, 'discriminator_auc')} (.5 would be by chance; it finds feedback "
            f"permuted between users with {cell(simulation, 'discriminator_check_auc')}). "
            f"Feedback histograms differ by {cell(simulation, 'feedback_tv')} (total variation)."
        ]
    if simulation.get("session_length_ks") is not None:
        means = simulation.get("session_length") or {}
        steps = (
            f", mean {means['real']:.1f} steps real, {means['simulated']:.1f} simulated"
            if means
            else ""
        )
        said.append(
            f"Session lengths: {cell(simulation, 'session_length_ks')} apart (KS distance, 0 is "
            f"the same{steps})."
        )
    return said


def markdown(card: Card) -> str:
    """The card as a page: plain words first, then tables."""
    learned = [
        text
        for key, text in (
            ("feedback", "which feedback a user gives to an item, from the events before"),
            ("choice", "which item of the catalogue a user meets next, from the events before"),
            ("slates", "which item of a slate a user chooses, by its place too, or that none is"),
            ("leave", "when a user leaves"),
            ("dwell", "how long a user spends with an item"),
        )
        if card.get(key)
    ]
    lines = [f"# Users fitted to {_log_name(card.get('log'))}", "", "## What was learned", ""]
    lines += _bullets(learned or ["nothing that could be measured"])
    lines += ["", "## What is assumed", "", *_bullets(card.get("assumptions") or ["nothing"])]
    lines += ["", "## How far to trust it", "", *_bullets(trust(card))]
    lines += sections(card)
    settings = card.get("settings") or {}
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {plain(key)} | {plain(value)} |" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _compared(
    what: str, measure: str, part: Card, lower: bool = False, rival: str = BASELINE
) -> str:
    difference = part["difference"][measure]
    own, mean = part["model"][measure], difference["mean"]
    if own is None or mean is None:
        return f"{what}: undefined on these users."
    best = rival + NAMES.get(difference["against"], difference["against"])
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return f"{what}: {own:.3f}, {mean:+.3f} against {best}; too few users for an interval."
    found = f"{mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    if low <= 0 <= high:
        return f"{what}: {own:.3f}, not to be told from {best} ({found})."
    word = "better" if (mean < 0) == lower else "WORSE"
    return f"{what}: {own:.3f}, {word} than {best} ({found})."


def _log_name(log: Any) -> str:
    return str(log.get("name", "a log")) if isinstance(log, dict) else str(log or "a log")


def _bullets(texts: list[str]) -> list[str]:
    return [f"- {text}" for text in texts]
