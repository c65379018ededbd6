"""A card in TensorBoard: figures of real against predicted and simulated, scalars, and its text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.card import markdown
from audience.reward_models.card_tables import NAMES, Card

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL, OTHER, REAL = "#0072B2", "#E69F00", "#4D4D4D"
"""Blue and orange of Okabe and Ito, which the colour-blind tell apart, and grey for real users."""

PANEL = (6.4, 4.6)
"""Width and height of a panel in inches, at DPI dots an inch."""

DPI = 110

PARTS = {
    "feedback": "model",
    "choice": "model",
    "leave": "model",
    "slates": "model",
    "dwell": "model",
    "cold_items": "text",
    "simulation": None,
}
"""Parts of the card that hold numbers, and whose are shown as scalars; None: they are its own."""

RANKED = {"ndcg@10": "the next event", "half_ndcg@10": "half against half"}
"""What rankings are measured on, by the name in the card."""


def write_figures(directory: Path, card: Card) -> None:
    """Write figures, scalars and the text of a card as TensorBoard files, in place of older ones.

    What the card lacks is left out.

    Args:
        directory: Of the user model; the files go into `logs/card` below it.
        card: As in card.json.
    """
    from torch.utils.tensorboard import SummaryWriter

    folder = directory / "logs" / "card"
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        for name, figure in figures(card).items():
            writer.add_figure(f"card/{name}", figure, 0)
        for name, value in scalars(card).items():
            writer.add_scalar(f"card/{name}", value, 0)
        writer.add_text("card", markdown(card), 0)


def scalars(card: Card) -> dict[str, float]:
    """The numbers of a card by `part/measure`, and of differences by `part/difference/measure`."""
    found = {}
    for part, own in PARTS.items():
        held = card.get(part) or {}
        for measure, value in ((held if own is None else held.get(own)) or {}).items():
            if type(value) in (int, float) and not measure.endswith(("_low", "_high")):
                found[f"{part}/{measure}"] = float(value)
        for measure, difference in (held.get("difference") or {}).items():
            if difference and difference["mean"] is not None:
                found[f"{part}/difference/{measure}"] = float(difference["mean"])
    return {name.replace("@", "_at_"): value for name, value in found.items()}  # no @ in a tag


def figures(card: Card) -> dict[str, Figure]:
    """Figures by the name of their tag, of what the card holds."""
    feedback, choice = card.get("feedback") or {}, card.get("choice") or {}
    simulation = card.get("simulation") or {}
    said, ran = feedback.get("curves") or {}, simulation.get("curves") or {}
    found: dict[str, Figure] = {}
    if bins := said.get("reliability"):
        found["reliability"] = _reliability(card, bins)
    if levels := said.get("levels"):
        figure, (axes,) = _figure(card, "Feedback of real users, and what was predicted of it")
        _histogram(axes, levels, "predicted")
        found["feedback"] = figure
    if feedback:
        found["feedback_difference"] = _differences(card)
    if choice:
        found["choice"] = _rankings(card)
    if levels := ran.get("feedback"):
        apart = simulation["feedback_tv"]
        title = f"Feedback, real against simulated: total variation {apart:.3f}"
        figure, (axes,) = _figure(card, title, simulation)
        _histogram(axes, levels, "simulated")
        found["simulated_feedback"] = figure
    if curve := ran.get("popularity"):
        figure, (axes,) = _figure(card, "How much the most popular items draw", simulation)
        items = 100 * np.array([0.0, *curve["items"]])
        _curves(axes, items, {name: [0.0, *curve[name]] for name in ("real", "simulated")})
        axes.set_xlabel("most popular items (% of the catalogue)")
        axes.set_ylabel("share of all events (%)")
        axes.legend(loc="lower right", frameon=False)
        found["simulated_popularity"] = figure
    if curve := ran.get("session_length"):
        sessions = (simulation.get("session_length") or {}).get("sessions", 0)
        title = f"How long {sessions:,} real sessions last, and as many simulated ones"
        figure, (axes,) = _figure(card, title, {"users": simulation.get("users")})
        _curves(axes, np.array(curve["steps"]), curve)
        axes.set_xlabel("session length (steps)")
        axes.set_ylabel("sessions that last at least as long (%)")
        axes.legend(loc="upper right", frameon=False)
        found["session_length"] = figure
    return found


def _figure(
    card: Card, title: str, counts: Card | None = None, panels: int = 1
) -> tuple[Figure, list[Axes]]:
    """Panels side by side; `counts` holds the users and events shown, by default those measured."""
    # Not by pyplot, which keeps every figure; imported here, for it takes a second.
    from matplotlib.figure import Figure

    counts = (card.get("measured") or {}) if counts is None else counts
    figure = Figure(figsize=(panels * PANEL[0], PANEL[1]), dpi=DPI, layout="constrained")
    shown = [f"{counts[name]:,} {name}" for name in ("events", "users") if counts.get(name)]
    whose = f"{card.get('log') or 'a log'}: {' of '.join(shown)} not fitted to"
    figure.suptitle(f"{title}\n{whose}", fontsize=11)
    every = [figure.add_subplot(1, panels, place + 1) for place in range(panels)]
    for axes in every:
        axes.spines["top"].set_visible(False)
        axes.spines["right"].set_visible(False)
        axes.grid(color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, every


def _reliability(card: Card, bins: dict[str, Card]) -> Figure:
    figure, (axes,) = _figure(card, "Is a predicted chance of a like right?")
    axes.plot([0, 100], [0, 100], color=REAL, linestyle=":", label="perfectly calibrated")
    for name, part in bins.items():
        colour, marker = (MODEL, "o") if name == "model" else (OTHER, "s")
        axes.plot(
            100 * np.array(part["predicted"]),
            100 * np.array(part["observed"]),
            color=colour,
            marker=marker,
            label=f"{NAMES.get(name, name)}: ECE {card['feedback'][name]['ece']:.3f}",
        )
    axes.set_xlabel("predicted chance of a like (%), mean of a bin")
    axes.set_ylabel("events of the bin that were liked (%)")
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.legend(loc="upper left", frameon=False)
    return figure


def _histogram(axes: Axes, curves: Card, other: str) -> None:
    """Bars of the real share of each level, beside what is predicted or simulated."""
    places = np.arange(len(curves["value"]))
    for name, colour, shift in (("real", REAL, -0.2), (other, MODEL, 0.2)):
        axes.bar(places + shift, 100 * np.array(curves[name]), 0.4, color=colour, label=name)
    axes.set_xticks(places, [f"{value:g}" for value in curves["value"]])
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("feedback (in the log's unit)")
    axes.set_ylabel("share of events (%)")
    axes.legend(frameon=False)


def _curves(axes: Axes, x: NDArray[Any], shares: Card) -> None:
    for name, colour, style in (("real", REAL, "--"), ("simulated", MODEL, "-")):
        axes.plot(x, 100 * np.array(shares[name]), color=colour, linestyle=style, label=name)
    axes.set(xlim=(0, x[-1]), ylim=(0, 102))


def _differences(card: Card) -> Figure:
    """Errors beside those of the best baseline, in percent of it, with 95 % intervals."""
    feedback = card["feedback"]
    figure, (axes,) = _figure(card, "Errors of feedback, beside the best baseline's")
    labels = []
    for place, measure in enumerate(("rmse", "nll")):
        difference = feedback["difference"][measure]
        best = difference["against"]
        labels.append(f"{measure.upper()}\nagainst\n{NAMES.get(best, best)}")
        ends = [difference[end] for end in ("low", "mean", "high")]
        if None in ends:
            continue
        low, mean, high = (100 * end / feedback[best][measure] for end in ends)
        axes.plot([low, high], [place, place], color=MODEL, linewidth=2)
        axes.plot([mean], [place], color=MODEL, marker="o")
        axes.annotate(
            f"{mean:+.1f} %", (mean, place), (0, 8), textcoords="offset points", ha="center"
        )
    axes.axvline(0, color=REAL, linestyle=":")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel("difference from the baseline (%), 95 % interval; left is better")
    return figure


def _rankings(card: Card) -> Figure:
    """NDCG of the model and of each baseline, with 95 % intervals."""
    choice = card["choice"]
    names = [name for name in NAMES if choice.get(name)]
    figure, panels = _figure(
        card, "Ranking what users really met, 95 % intervals", panels=len(RANKED)
    )
    for axes, (measure, asked) in zip(panels, RANKED.items(), strict=True):
        for place, name in enumerate(names):
            mean, low, high = (choice[name].get(f"{measure}{end}") for end in ("", "_low", "_high"))
            axes.bar(place, mean or 0.0, 0.6, color=MODEL if name == "model" else OTHER)
            if low is not None and high is not None:
                axes.plot([place, place], [low, high], color=REAL)
        axes.set_xticks(range(len(names)), [NAMES[name] for name in names])
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(f"NDCG@10 of {asked}, mean over users")
    return figure
