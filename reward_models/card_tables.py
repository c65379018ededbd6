"""The tables of a card's page, one section a part; a part that the card lacks has none."""

from __future__ import annotations

from typing import Any

Card = dict[str, Any]

NAMES = {
    "model": "this model",
    "constant": "constant",
    "user_item_mean": "user-and-item mean",
    "als": "explicit ALS",
    "item_knn": "item-KNN",
    "popularity": "popularity",
    "ease": "EASE",
    "text": "with text",
    "no_text": "no text",
    "shuffled_text": "shuffled text",
}

MEASURES = {
    "feedback": ["rmse", "nll", "auc", "gauc", "ece"],
    "choice": ["ndcg@10", "hit@10", "half_ndcg@10", "half_hit@10"],
    "slates": ["nll", "auc"],
    "leave": ["nll", "auc", "ece"],
    "dwell": ["nll", "rmse"],
    "cold_items": ["rmse", "auc"],
}

AGAINST = (
    dict.fromkeys(("feedback", "choice"), "This model minus the best baseline")
    | dict.fromkeys(("slates", "leave", "dwell"), "This model minus the constant")
    | {"cold_items": "With text minus the better of the others"}
)

TITLES = {
    "feedback": "Feedback",
    "choice": "Choice",
    "slates": "Responses to slates",
    "leave": "Leaving",
    "dwell": "Dwell time",
    "cold_items": "Items never met in fitting",
}

ABOUT = {
    "feedback": "RMSE of the expected value and NLL of the level: lower is better. AUC of a like, "
    "over all events and within users (GAUC): higher is better. ECE, the error of the probability "
    "of a like: lower is better. Baselines get probabilities by an ordinal regression fitted on "
    "validation users. In brackets: 95 % bootstrap intervals over users.",
    "choice": "Ranking of the whole catalogue without what the user met before; means over users; "
    "higher is better. First the next event, then a random half of a user's events given the "
    "other half.",
    "slates": "NLL of what a user did with a slate (which item, or nothing): lower is better. AUC "
    "of choosing anything: higher is better. The constant is how often the fitting users chose "
    "from slates of this size, the same for every place.",
    "leave": "NLL of leaving or staying after each step, given what the user did: lower is better. "
    "AUC of leaving: higher is better. ECE, the error of the probability of leaving: lower is "
    "better. The constant is the fitting users' rate, after a choice and after a skip.",
    "dwell": "NLL and RMSE of log-seconds (a normal variable), given the feedback: lower is "
    "better. The constant is the mean and deviation of the fitting users.",
    "cold_items": "A fifth of the catalogue, held out of fitting and of the users' histories, so "
    "that only text tells of them. RMSE: lower is better; AUC of a like: higher is better. Fitted "
    "three times: with the items' texts, without text, and with texts shuffled between items.",
}
"""What the tables of each part say, and which way is better."""


def sections(card: Card) -> list[str]:
    """Lines of a page: title, explanation and tables of each part of the card."""
    lines: list[str] = []
    for part, measures in MEASURES.items():
        if figures := card.get(part):
            lines += ["", f"## {TITLES[part]}", "", ABOUT[part], "", *_table(figures, measures)]
            lines += ["", *_differences(figures["difference"], AGAINST[part])]
    if simulation := card.get("simulation"):
        lines += _simulation(simulation)
    if judges := card.get("judges"):
        lines += _judges(judges)
    for what, variants in (card.get("ablation") or {}).items():
        every = (item for of in variants.values() for item in of.items())
        measures = list(dict.fromkeys(name for name, of in every if _shown(name, of)))
        lines += ["", f"## Ablation: {what.replace('_', ' ')}", ""]
        lines += ["The same fit with one thing changed, measured as above.", ""]
        lines += _rows([(NAMES.get(name, name), of) for name, of in variants.items()], measures)
    return lines


def cell(figures: Card, measure: str, form: str = ".3f") -> str:
    """A figure with its interval, where it has one."""
    figure, low = figures.get(measure), figures.get(f"{measure}_low")
    if figure is None:
        return "undefined"
    if low is None:
        return f"{figure:{form}}"
    return f"{figure:{form}} ({low:{form}} to {figures[f'{measure}_high']:{form}})"


def plain(value: Any) -> str:
    """In a table cell: a bar would end the cell, a line break the row."""
    if isinstance(value, dict):
        value = ", ".join(f"{key} {of}" for key, of in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")


def _table(part: Card, measures: list[str]) -> list[str]:
    return _rows([(NAMES[name], part[name]) for name in NAMES if part.get(name)], measures)


def _rows(rows: list[tuple[str, Card]], measures: list[str]) -> list[str]:
    head = [f"| | {' | '.join(_title(m) for m in measures)} |", "|---" * (1 + len(measures)) + "|"]
    return head + [
        f"| {plain(name)} | {' | '.join(cell(figures, m) for m in measures)} |"
        for name, figures in rows
    ]


def _differences(difference: Card, what: str) -> list[str]:
    head = [f"{what}, paired over users:", ""]
    head += ["| measure | difference | against |", "|---|---|---|"]
    flat = {
        name: {name: d["mean"], f"{name}_low": d["low"], f"{name}_high": d["high"]}
        for name, d in difference.items()
    }
    return head + [
        f"| {_title(name)} | {cell(flat[name], name, '+.4f')} | "
        f"{NAMES.get(d['against'], d['against'])} |"
        for name, d in difference.items()
    ]


def _simulation(simulation: Card) -> list[str]:
    """Distances of free-running users from real ones, and how long both stay."""
    told = {
        "feedback_tv": "feedback histogram, total variation",
        "popularity_ks": "popularity of items, KS distance",
        "session_length_ks": "length of sessions, KS distance",
        "discriminator_auc": "AUC of telling real from simulated",
        "discriminator_check_auc": "the same of feedback permuted between users, at least .8",
    }
    known = {name: text for name, text in told.items() if simulation.get(name) is not None}
    lines = ["", "## Simulation", ""]
    if not known:
        return [*lines, "Nothing could be measured: too few users."]
    lines += ["| real against simulated | |", "|---|---|"]
    lines += [f"| {text} | {cell(simulation, name)} |" for name, text in known.items()]
    if length := simulation.get("session_length"):
        lines += [
            f"| steps of {length['sessions']:,} real sessions, mean | {length['real']:.1f} |",
            f"| steps of simulated ones, mean | {length['simulated']:.1f} |",
        ]
    return lines


def _judges(judges: Card) -> list[str]:
    """What each judge's figures are beside the model's, and by how much they may be worse."""
    lines = ["", "## Judges", ""]
    lines += [
        "Users of other model classes, which evaluate policies that were trained on this model. "
        "How much worse they know real users than it does, relative, with the 95 % interval "
        "paired over users; negative is better.",
        "",
        "| judge | measure | judge's | model's | worse by | holds |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in judges.items():
        for part, measures in found.items():
            if not isinstance(measures, dict):
                continue
            for measure, one in measures.items():
                worse = {"worse": one["worse"], "worse_low": one["low"], "worse_high": one["high"]}
                holds = ("yes" if one["competent"] else "no") if one.get("deciding", True) else "-"
                lines.append(
                    f"| {plain(name)} | {part}, {_title(measure)} | {cell(one, 'judge')} | "
                    f"{cell(one, 'rival')} | {cell(worse, 'worse', '+.1%')} | {holds} |"
                )
    return lines


def _shown(measure: str, figure: Any) -> bool:
    """Whether it is a figure of its own: an end of an interval stands beside its figure."""
    return isinstance(figure, (int, float)) and not measure.endswith(("_low", "_high"))


def _title(measure: str) -> str:
    if "@" in measure:
        return measure.replace("half_", "half ").replace("ndcg", "NDCG")
    return measure.upper() if measure.isalpha() else measure.replace("_", " ")
