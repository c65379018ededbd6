"""Logs of scripted users under a logging policy: impressions, skips, dwell times and leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.log import InteractionLog
from audience.reward_models.users import DRAWS, START_EVENTS

if TYPE_CHECKING:
    from audience.reward_models.scripted import ScriptedUsers

LoggingPolicy = Literal["uniform", "popularity"]
"""Who chose what was shown: every unconsumed item alike, or in proportion to its exposure."""

DAY = 86_400.0
"""Seconds between a user's sessions."""

FIRST_SECONDS = 30.0
"""Between the events that a new user finds unrecommended."""

SKIP_SECONDS = 5.0
"""Between a slate that was skipped and the next."""


@dataclass(frozen=True)
class Rates:
    """What a log with impressions of one item at a time says of acceptance and leaving.

    Attributes:
        acceptance: How often an item drawn by its share of the log's events would be chosen.
        leave_after_choice: Share of sessions' choices after which the user left.
        leave_after_skip: The same of skips.
    """

    acceptance: float
    leave_after_choice: float
    leave_after_skip: float

    @classmethod
    def of(cls, frame: pl.DataFrame, step_limit: int) -> Rates:
        """Measure them on the rows of `write_frame` at slate size 1.

        Impressions are weighted by the item's share of the events over its propensity
        (importance weighting), so that the acceptance is the same under any logging policy. A
        session that reached the step limit was cut off: its end is no leave.
        """
        shown = frame.filter(pl.col("slate_id").is_not_null())
        of_item = frame.filter(pl.col("chosen") == 1).group_by("item_id").len("events")
        shown = shown.join(of_item, on="item_id", how="left").with_columns(
            weight=pl.col("events").fill_null(0) / pl.col("propensity"),
            step=pl.int_range(pl.len()).over("session_id"),
            steps=pl.len().over("session_id"),
        )
        accepted = (pl.col("weight") * pl.col("chosen")).sum() / pl.col("weight").sum()
        inside = shown.filter(pl.col("step") + 1 < step_limit)
        left = (pl.col("step") + 1 == pl.col("steps")).mean()
        ends = [
            float(inside.filter(pl.col("chosen") == chosen).select(left).fill_null(0.0).item())
            for chosen in (1, 0)
        ]
        return cls(float(shown.select(accepted).item()), *ends)


def write_log(users: ScriptedUsers, policy: LoggingPolicy, **settings: Any) -> InteractionLog:
    """A log of new users; arguments as `write_frame`.

    Raises:
        ValueError: A setting is out of range, or the catalogue too small for the sessions.
    """
    return log_of(users, write_frame(users, policy, **settings), policy)


def log_of(users: ScriptedUsers, frame: pl.DataFrame, policy: str) -> InteractionLog:
    """The checked log of these rows."""
    return InteractionLog.from_frames(frame, items_of(users), name=f"scripted-{policy}")


def items_of(users: ScriptedUsers) -> pl.DataFrame:
    """The table of items that goes with these rows."""
    catalogue = users.catalogue
    return pl.DataFrame({"item_id": catalogue.item_ids, "title": catalogue.texts})


def write_frame(
    users: ScriptedUsers,
    policy: LoggingPolicy = "uniform",
    *,
    new_users: int = 500,
    sessions: int = 2,
    slate_size: int = 1,
    step_limit: int = 60,
    seed: int = 0,
) -> pl.DataFrame:
    """The rows of a log: one a shown item, and one an event that no slate preceded.

    The first session opens with START_EVENTS events that the user finds by themselves: without
    slate_id, position and propensity. Each session continues the history, until the user leaves
    or the step limit cuts it off; that is rare at its default, so that an end means a leave.

    Args:
        users: Who lives the sessions.
        policy: Who chooses what is shown.
        new_users: How many.
        sessions: Of each user.
        slate_size: Items shown at a step.
        step_limit: Of a session.
        seed: Of births, slates and responses.

    Returns:
        user_id, item_id, feedback (null where not chosen), timestamp (unix seconds), session_id,
        slate_id, position (from 0), chosen (1 or 0), propensity (of the item at its place, given
        those above it) and dwell_seconds (null where not chosen), by user and time.
    """
    _check(users, policy, new_users, sessions, slate_size, step_limit)
    generator = np.random.default_rng([users.seed, 2, seed])
    born = users.newborn(new_users, generator, "user")
    running = users.open(new_users, slate_size)
    running.start(np.arange(new_users), born)
    exposure = users.exposure if policy == "popularity" else np.ones(len(users.catalogue))
    clock = np.full(new_users, START_EVENTS * FIRST_SECONDS)
    parts, slates_shown = [_before(born)], 0
    for session in range(sessions):
        active = np.ones(new_users, np.bool_)
        for _ in range(step_limit):
            slates, propensity = _drawn(exposure, running.consumed, slate_size, generator)
            uniforms = generator.random((new_users, DRAWS))
            response = running.respond(slates, uniforms, active)
            rows = np.flatnonzero(active)
            places = np.tile(np.arange(slate_size), len(rows))
            own = np.repeat(rows, slate_size)
            chosen = response.choice[own] == places
            parts.append(
                {
                    "user": own,
                    "item": slates[own, places],
                    "level": np.where(chosen, response.level[own], -1),
                    "timestamp": clock[own],
                    "session": np.full(len(own), session + 1),
                    "slate": slates_shown + np.repeat(np.arange(len(rows)), slate_size),
                    "position": places,
                    "propensity": propensity[own, places],
                    "dwell": np.where(chosen, response.dwell_seconds[own], np.nan),
                }
            )
            slates_shown += len(rows)
            clock += np.where(response.choice >= 0, response.dwell_seconds, 0.0) + SKIP_SECONDS
            active &= ~response.leave
        clock += DAY
    return _frame(users, born, parts)


def _check(
    users: ScriptedUsers, policy: str, count: int, sessions: int, slate_size: int, step_limit: int
) -> None:
    if policy not in get_args(LoggingPolicy):
        raise ValueError(
            f"policy must be one of {', '.join(get_args(LoggingPolicy))}, got {policy!r}"
        )
    numbers = {"sessions": sessions, "slate_size": slate_size, "step_limit": step_limit}
    for name, value in {"users": count, **numbers}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")
    needed = START_EVENTS + sessions * step_limit + slate_size
    if len(users.catalogue) < needed:
        raise ValueError(
            f"n_items must be at least {needed} for sessions={sessions} of step_limit="
            f"{step_limit} (an item is consumed once), got {len(users.catalogue)}"
        )


def _drawn(
    exposure: NDArray[np.float64],
    consumed: NDArray[np.bool_],
    slate_size: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Slates without replacement from what is unconsumed, and the propensities of their items."""
    open_ = np.where(consumed, 0.0, exposure)
    noise = generator.gumbel(size=consumed.shape)
    keys = np.log(exposure) + np.where(consumed, -np.inf, noise)
    slates = np.argsort(-keys, axis=1)[:, :slate_size].astype(np.int64)
    own = np.take_along_axis(open_, slates, axis=1)
    above = own.cumsum(axis=1) - own
    return slates, own / (open_.sum(axis=1, keepdims=True) - above)


def _before(born: Histories) -> dict[str, NDArray[Any]]:
    """The events before the first slate, as columns."""
    events = len(born.items)
    order = np.arange(events) - np.repeat(born.offsets[:-1], born.lengths)
    nothing = np.full(events, -1)
    return {
        "user": np.repeat(np.arange(len(born)), born.lengths),
        "item": born.items,
        "level": born.levels,
        "timestamp": order * FIRST_SECONDS,
        "session": np.ones(events, np.int64),
        "slate": nothing,
        "position": nothing,
        "propensity": np.full(events, np.nan),
        "dwell": np.full(events, np.nan),
    }


def _frame(
    users: ScriptedUsers, born: Histories, parts: list[dict[str, NDArray[Any]]]
) -> pl.DataFrame:
    """The columns of a log."""
    column = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    level = column["level"]
    frame = pl.DataFrame(
        {
            "user_id": born.users[column["user"]],
            "item_id": users.catalogue.item_ids[column["item"]],
            "feedback": np.where(level >= 0, np.array(users.scale.values)[level], np.nan),
            "timestamp": column["timestamp"].astype(np.float64),
            "session": column["session"],
            "slate": column["slate"],
            "position": column["position"],
            "chosen": (level >= 0).astype(np.int64),
            "propensity": column["propensity"],
            "dwell_seconds": column["dwell"],
            "user": column["user"],
        }
    )
    in_slate = pl.col("slate") >= 0
    session = pl.format("{}-session-{}", "user_id", "session")
    frame = frame.with_columns(
        pl.col("feedback").fill_nan(None),
        pl.col("propensity").fill_nan(None),
        pl.col("dwell_seconds").fill_nan(None),
        pl.when(in_slate).then(pl.col("position")).alias("position"),
        session.alias("session_id"),
        pl.when(in_slate).then(pl.format("slate-{}", "slate")).alias("slate_id"),
    )
    names = "user_id item_id feedback timestamp session_id slate_id position chosen propensity"
    ordered = frame.sort("user", "timestamp", "position", nulls_last=False, maintain_order=True)
    return ordered.select(*names.split(), "dwell_seconds")
