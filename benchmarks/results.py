"""What a comparison says: figures with intervals, and the tables made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table
from scipy.stats import trim_mean

from audience.agents.evaluation import LEVEL, RESAMPLES, Evaluation
from audience.benchmarks.roster import Kind

FIGURES = ("session_length", "like_rate", "acceptance", "coverage", "gini")
"""Figures of `Evaluation.summary` beside the return; of several seeds, their mean."""

NO_VERDICT = (
    "No verdict: there is no judge yet, and the simulator is the world in which the RL agents "
    "were trained. The figures say who does well in it, not who would do well with real users."
)


@dataclass
class Outcome:
    """What an agent did in each seed that it has met so far.

    Attributes:
        kind: What the agent is.
        test: Sessions with test users, by seed.
        validation: Sessions with validation users, by seed; only of agents of kind `cf`.
    """

    kind: Kind
    test: dict[int, Evaluation] = field(default_factory=dict)
    validation: dict[int, Evaluation] = field(default_factory=dict)


def results_of(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """The figures of `results.json`; agents that have not met test users yet are left out.

    `best_cf` is the agent of kind `cf` with the highest return with validation users, in which
    no test user has a say. Each other agent is compared with it in pairs, session by session.
    """
    done = {name: outcome for name, outcome in outcomes.items() if outcome.test}
    validated = {
        name: float(np.mean([e.return_.mean() for e in outcome.validation.values()]))
        for name, outcome in done.items()
        if outcome.validation
    }
    best = max(validated, key=lambda name: validated[name], default=None)
    agents: dict[str, Any] = {}
    for name, outcome in done.items():
        summaries = [sessions.summary() for sessions in outcome.test.values()]
        returns = user_returns(outcome.test)
        simulator: dict[str, Any] = {
            "return": {
                "mean": float(returns.mean()),
                "iqm": float(trim_mean(returns.ravel(), 0.25)),
                **interval(returns),
                "per_seed": returns.mean(1).tolist(),
            },
            "difference_to_best_cf": (
                _difference(outcome.test, done[best].test) if best not in (None, name) else None
            ),
        }
        if name in validated:
            simulator["validation_return"] = validated[name]
        agents[name] = {
            "kind": outcome.kind,
            "simulator": simulator,
            **{key: float(np.mean([s[key] for s in summaries])) for key in FIGURES},
        }
    return {
        "agents": agents,
        "best_cf": best,
        "judges": None,
        "verdict": {"rl": None, "cf": None, "difference": None, "sentence": NO_VERDICT},
    }


def user_returns(by_seed: Mapping[int, Evaluation]) -> NDArray[np.float64]:
    """Mean return of each user in each seed, shape (seeds, users).

    Rare users have no event with an item of some seed's catalogue, and no session there: the
    users are those of all seeds.
    """
    names = [sessions.users[: sessions.n_users] for sessions in by_seed.values()]
    shared = reduce(np.intersect1d, names)
    rows = []
    for users, sessions in zip(names, by_seed.values(), strict=True):
        order = np.argsort(users)
        place = order[np.searchsorted(users, shared, sorter=order)]
        rows.append(sessions.user_returns()[place])
    return np.stack(rows)


def interval(values: NDArray[np.float64], seed: int = 0) -> dict[str, float]:
    """95 % bootstrap interval of the mean over users and seeds, both resampled.

    Args:
        values: Shape (seeds, users); one seed is not resampled.
        seed: Of the resamples, the same users for all agents.

    Returns:
        `low` and `high`.
    """
    rng = np.random.default_rng(seed)
    n_seeds, n_users = values.shape
    # How often each is drawn is multinomial: two matrix products give all the means.
    users = rng.multinomial(n_users, np.full(n_users, 1 / n_users), RESAMPLES) / n_users
    seeds = (
        rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), RESAMPLES) / n_seeds
        if n_seeds > 1
        else np.ones((RESAMPLES, 1))
    )
    means = ((seeds @ values) * users).sum(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high)}


def _difference(
    ours: Mapping[int, Evaluation], theirs: Mapping[int, Evaluation]
) -> dict[str, float] | None:
    """Mean paired difference of returns over the seeds that both have met."""
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return None
    gap = user_returns({s: ours[s] for s in both}) - user_returns({s: theirs[s] for s in both})
    return {"mean": float(gap.mean()), **interval(gap)}


HEADINGS = (
    "agent",
    "kind",
    "return [95 %]",
    "to best CF [95 %]",
    "iqm",
    "length",
    "like rate",
    "coverage",
    "gini",
)


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The table's cells, the highest return first."""
    ranked = sorted(
        results["agents"].items(), key=lambda item: -item[1]["simulator"]["return"]["mean"]
    )
    table = []
    for name, agent in ranked:
        returns = agent["simulator"]["return"]
        gap = agent["simulator"]["difference_to_best_cf"]
        table.append(
            [
                name,
                agent["kind"],
                f"{returns['mean']:.2f} [{returns['low']:.2f}, {returns['high']:.2f}]",
                f"{gap['mean']:+.2f} [{gap['low']:+.2f}, {gap['high']:+.2f}]"
                if gap
                else ("best CF" if name == results["best_cf"] else "-"),
                f"{returns['iqm']:.2f}",
                f"{agent['session_length']:.1f}",
                f"{agent['like_rate']:.2f}",
                f"{agent['coverage']:.2f}",
                f"{agent['gini']:.2f}",
            ]
        )
    return table


def markdown(results: Mapping[str, Any]) -> str:
    """The table in Markdown, with the verdict below."""
    lines = [HEADINGS, ["---", "---", *["---:"] * (len(HEADINGS) - 2)], *rows(results)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{results['verdict']['sentence']}\n"


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
        title=f"{log['name']}: sessions of unseen test users in the simulator, "
        f"{seeds} seed{'s' * (seeds != 1)}",
        box=box.SIMPLE_HEAD,
        caption=results["verdict"]["sentence"],
        caption_justify="left",
    )
    for heading in HEADINGS:
        right = heading not in HEADINGS[:2]
        table.add_column(heading, justify="right" if right else "left")
    for row in rows(results):
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    return table


def write_summary(directory: Path, results: Mapping[str, Any]) -> None:
    """Final returns of each agent and the table as TensorBoard files, in place of older ones."""
    from torch.utils.tensorboard import SummaryWriter

    for old in directory.glob("events.out.tfevents.*"):
        old.unlink()
    with SummaryWriter(str(directory)) as writer:
        for name, agent in results["agents"].items():
            for seed, value in enumerate(agent["simulator"]["return"]["per_seed"]):
                writer.add_scalar(f"return/{name}", value, seed)
            for figure in FIGURES:
                writer.add_scalar(f"{figure}/{name}", agent[figure], 0)
        writer.add_text("comparison", markdown(results))
