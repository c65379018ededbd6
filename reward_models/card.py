"""The card of a fitted user model: what it learned, what it assumes, how far to trust it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Card = dict[str, Any]

NAMES = {
    "model": "this model",
    "user_item_mean": "user-and-item mean",
    "als": "explicit ALS",
    "item_knn": "item-KNN",
    "popularity": "popularity",
    "ease": "EASE",
}

UNMEASURED = {
    "leave": "When users leave is not learned from this log: it follows the assumption below.",
    "cold_items": "Items that nobody rated in fitting have not been measured.",
    "simulation": "Whether free-running sessions look like real ones has not been measured: "
    "do not take a return in simulation for a return from real users.",
}


def card_of(
    log: str, settings: dict[str, Any], measured: dict[str, Any], assumptions: list[str]
) -> Card:
    """A card, with null for what has not been measured.

    Args:
        log: Name of the log.
        settings: Of the fit.
        measured: What `quality` returns.
        assumptions: What the log could not teach, one sentence each.
    """
    parts = dict.fromkeys(("feedback", "choice", *UNMEASURED))
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
            f"Calibration: its probability of a like is off by {_cell(feedback['model'], 'ece')} "
            f"on average (ECE)."
        )
    elif counts.get("users"):
        said.append("Feedback: the log has a single level, so none was learned.")
    if choice := card.get("choice"):
        said.append(_compared("Choice, next item (NDCG@10)", "ndcg@10", choice))
        said.append(_compared("Choice, half against half (NDCG@10)", "half_ndcg@10", choice))
    if simulation := card.get("simulation"):
        said.append(
            f"Free-running sessions: a classifier tells real from simulated users with AUC "
            f"{_cell(simulation, 'discriminator_auc')} (.5 would be by chance; it finds feedback "
            f"permuted between users with {_cell(simulation, 'discriminator_check_auc')}). "
            f"Feedback histograms differ by {_cell(simulation, 'feedback_tv')} (total variation)."
        )
    return said + [text for key, text in UNMEASURED.items() if card.get(key) is None]


def markdown(card: Card) -> str:
    """The card as a page: plain words first, then tables."""
    learned = [
        text
        for key, text in (
            ("feedback", "which feedback a user gives to an item, from the events before"),
            ("choice", "which item of the catalogue a user meets next, from the events before"),
            ("leave", "when a user leaves"),
        )
        if card.get(key)
    ]
    lines = [f"# Users fitted to {_log_name(card.get('log'))}", "", "## What was learned", ""]
    lines += _bullets(learned or ["nothing that could be measured"])
    lines += ["", "## What is assumed", "", *_bullets(card.get("assumptions") or ["nothing"])]
    lines += ["", "## How far to trust it", "", *_bullets(trust(card))]
    if feedback := card.get("feedback"):
        lines += [
            "",
            "## Feedback",
            "",
            "RMSE of the expected value and NLL of the level: lower is better. AUC of a like, "
            "over all events and within users (GAUC): higher is better. ECE, the error of the "
            "probability of a like: lower is better. Baselines get probabilities by an ordinal "
            "regression fitted on validation users. In brackets: 95 % bootstrap intervals over "
            "users.",
            "",
            *_table(feedback, ["rmse", "nll", "auc", "gauc", "ece"]),
            "",
            *_differences(feedback["difference"]),
        ]
    if choice := card.get("choice"):
        measures = ["ndcg@10", "hit@10", "half_ndcg@10", "half_hit@10"]
        lines += [
            "",
            "## Choice",
            "",
            "Ranking of the whole catalogue without what the user met before; means over users; "
            "higher is better. First the next event, then a random half of a user's events given "
            "the other half.",
            "",
            *_table(choice, measures),
            "",
            *_differences(choice["difference"]),
        ]
    settings = card.get("settings") or {}
    lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
    lines += [f"| {_plain(key)} | {_plain(value)} |" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _compared(what: str, measure: str, part: Card, lower: bool = False) -> str:
    difference = part["difference"][measure]
    own, mean = part["model"][measure], difference["mean"]
    if own is None or mean is None:
        return f"{what}: undefined on these users."
    best = NAMES.get(difference["against"], difference["against"])
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return f"{what}: {own:.3f}, {mean:+.3f} against {best}; too few users for an interval."
    found = f"{mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    if low <= 0 <= high:
        return f"{what}: {own:.3f}, not to be told from the best baseline, {best} ({found})."
    word = "better" if (mean < 0) == lower else "WORSE"
    return f"{what}: {own:.3f}, {word} than the best baseline, {best} ({found})."


def _table(part: Card, measures: list[str]) -> list[str]:
    rows = [(NAMES[name], part[name]) for name in NAMES if part.get(name)]
    head = [f"| | {' | '.join(_title(m) for m in measures)} |", "|---" * (1 + len(measures)) + "|"]
    return head + [
        f"| {name} | {' | '.join(_cell(figures, m) for m in measures)} |" for name, figures in rows
    ]


def _differences(difference: Card) -> list[str]:
    head = ["This model minus the best baseline, paired over users:", ""]
    head += ["| measure | difference | against |", "|---|---|---|"]
    flat = {
        name: {name: d["mean"], f"{name}_low": d["low"], f"{name}_high": d["high"]}
        for name, d in difference.items()
    }
    return head + [
        f"| {_title(name)} | {_cell(flat[name], name, '+.4f')} | {NAMES.get(d['against'])} |"
        for name, d in difference.items()
    ]


def _cell(figures: Card, measure: str, form: str = ".3f") -> str:
    figure, low = figures.get(measure), figures.get(f"{measure}_low")
    if figure is None:
        return "undefined"
    if low is None:
        return f"{figure:{form}}"
    return f"{figure:{form}} ({low:{form}} to {figures[f'{measure}_high']:{form}})"


def _title(measure: str) -> str:
    return (
        measure.replace("half_", "half ").replace("ndcg", "NDCG")
        if "@" in measure
        else (measure.upper())
    )


def _log_name(log: Any) -> str:
    return str(log.get("name", "a log")) if isinstance(log, dict) else str(log or "a log")


def _bullets(texts: list[str]) -> list[str]:
    return [f"- {text}" for text in texts]


def _plain(value: Any) -> str:
    """In a table cell: a bar would end the cell, a line break the row."""
    if isinstance(value, dict):
        value = ", ".join(f"{key} {of}" for key, of in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")
