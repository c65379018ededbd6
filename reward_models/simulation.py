"""Whether free-running users can be told from real ones (the card's part `simulation`)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.discriminator import discriminate, permuted_feedback
from audience.reward_models.discriminator_features import ItemFacts
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import F64, number
from audience.reward_models.quality_data import FIRST_EVENT
from audience.reward_models.scale import FeedbackScale

LONGEST = 100
"""Events of a history that are compared at most: a few long users would decide everything."""

CURVE_POINTS = 50
"""Of the curve of popularity: at each share of the catalogue, the share of events it draws."""


class FreeRunning(Protocol):
    """Users that choose for themselves."""

    def simulate(self, starts: Histories, lengths: NDArray[np.int64], seed: int) -> Histories:
        """Continue each start to its length: (users,) histories that begin with `starts`."""
        ...


def simulation_quality(
    users: FreeRunning,
    real: Histories,
    scale: FeedbackScale,
    catalogue: Catalogue,
    seed: int,
    session_lengths: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> dict[str, Any]:
    """Compare histories that users continue by themselves with what the real ones did.

    Each history's first FIRST_EVENT events are given and its length is that of the real one, at
    most LONGEST; only what follows the given events is compared.

    Args:
        users: What is judged; `text_vectors` (items, dim), where it has them, tell a
            discriminator what items are about.
        real: Histories of users that it was not fitted on.
        scale: The feedback levels.
        catalogue: The items.
        seed: Of the simulation, the discriminators and the bootstrap.
        session_lengths: Of real and simulated sessions, where leaving is learned.

    Returns:
        `feedback_tv`, `session_length_ks` and `session_length` (number of `sessions`, mean steps
        of the `real` and the `simulated`; both None where leaving is not learned),
        `popularity_ks` and `repeat_share` of real and simulated, `discriminator_auc` (with
        `_low`, `_high`), `discriminator` (both classifiers), `discriminator_check_auc` (against
        real items with permuted feedback: at least .8, or the discriminator is too weak to be
        believed), `curves`, `users` and `events`. Figures are None where there are fewer than 2
        users to compare.

    Raises:
        ValueError: `users.simulate` returns other users or lengths than it was asked for.
    """
    real = real.at_least(FIRST_EVENT + 1).first(LONGEST)
    counts = {"users": len(real), "events": len(real.items) - FIRST_EVENT * len(real)}
    lengths = _lengths(session_lengths)
    if len(real) < 2:
        names = ("feedback_tv", "discriminator_auc", "discriminator_check_auc", "popularity_ks")
        return dict.fromkeys(names) | lengths | counts
    simulated = users.simulate(real.first(FIRST_EVENT), real.lengths, seed)
    if not np.array_equal(simulated.lengths, real.lengths):
        raise ValueError(
            f"simulate must continue all {len(real)} users to the lengths asked for "
            f"({len(real.items)} events), got {len(simulated)} users, {len(simulated.items)} events"
        )
    repeats = {"real": _repeats(real), "simulated": _repeats(simulated)}
    real, simulated = _after(real, FIRST_EVENT), _after(simulated, FIRST_EVENT)
    vectors = getattr(users, "text_vectors", None)
    facts = ItemFacts.of(catalogue, scale, vectors, seed)
    found = discriminate(real, simulated, facts, seed)
    check = discriminate(real, permuted_feedback(real, seed), facts, seed)
    shares = [_shares(histories, len(scale)) for histories in (real, simulated)]
    log_count = np.log1p(catalogue.counts)
    ks = ks_2samp(log_count[real.items], log_count[simulated.items]).statistic
    return {
        # No interval: resampled shares are further apart than real ones, so a percentile
        # bootstrap of a distance lies above the figure.
        "feedback_tv": float(np.abs(shares[0] - shares[1]).sum() / 2),
        **lengths,
        "popularity_ks": float(ks),
        "repeat_share": repeats,
        "discriminator_auc": number(found.auc),
        "discriminator_auc_low": number(found.low),
        "discriminator_auc_high": number(found.high),
        "discriminator_check_auc": number(check.auc),
        "discriminator": {"simulated": found.figures(), "permuted": check.figures()},
        "curves": {
            "feedback": {
                "value": list(scale.values),
                "real": shares[0].tolist(),
                "simulated": shares[1].tolist(),
            },
            "popularity": _popularity(real, simulated, catalogue),
            **_stayed(session_lengths),
        },
        **counts,
    }


def _lengths(sessions: tuple[NDArray[np.int64], NDArray[np.int64]] | None) -> dict[str, Any]:
    if sessions is None:
        return {"session_length_ks": None, "session_length": None}
    real, simulated = sessions
    means = {"real": float(real.mean()), "simulated": float(simulated.mean())}
    return {
        "session_length_ks": float(ks_2samp(real, simulated).statistic),
        "session_length": {"sessions": len(real), **means},
    }


def _stayed(sessions: tuple[NDArray[np.int64], NDArray[np.int64]] | None) -> dict[str, Any]:
    """Curve of the share of sessions that last at least so many steps."""
    if sessions is None:
        return {}
    steps = np.arange(1, max(int(lengths.max()) for lengths in sessions) + 1)
    shares = [(lengths[:, None] >= steps).mean(0).tolist() for lengths in sessions]
    return {"session_length": {"steps": steps.tolist(), "real": shares[0], "simulated": shares[1]}}


def _shares(histories: Histories, levels: int) -> F64:
    return np.bincount(histories.levels, minlength=levels) / len(histories.levels)


def _repeats(histories: Histories) -> float:
    """Share of events with an item that the user met before."""
    return 1 - len(histories.without_repeats()[1]) / len(histories.items)


def _popularity(
    real: Histories, simulated: Histories, catalogue: Catalogue
) -> dict[str, list[float]]:
    """Share of events that the most popular items draw, at CURVE_POINTS shares of the items."""
    rank = np.empty(len(catalogue), np.int64)
    rank[np.argsort(-catalogue.counts, kind="stable")] = np.arange(len(catalogue))
    points = np.linspace(0, 1, CURVE_POINTS + 1)[1:]
    curves = {"items": points.tolist()}
    for name, histories in (("real", real), ("simulated", simulated)):
        place = np.sort((rank[histories.items] + 1) / len(catalogue))
        curves[name] = (np.searchsorted(place, points, side="right") / len(place)).tolist()
    return curves


def _after(histories: Histories, events: int) -> Histories:
    """All but each user's first events; every user has more."""
    place = np.arange(len(histories.items)) - np.repeat(histories.offsets[:-1], histories.lengths)
    return histories.events(place >= events)
