"""Users fitted to a real log, beside real feedback that they were not fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from audience.benchmarks.agreement import Value
from audience.benchmarks.picks import (
    FeedbackUsers,
    ModelFeedbackAgent,
    Pools,
    predicted,
    values_by_user,
)
from audience.benchmarks.policies import log_policies
from audience.reward_models.errors import LogError
from audience.reward_models.fit_data import FitData
from audience.reward_models.histories import Histories
from audience.reward_models.log import InteractionLog
from audience.reward_models.log_checks import checked_interactions, scan
from audience.reward_models.metrics import UserBootstrap
from audience.reward_models.quality_data import QualityData
from audience.reward_models.quality_feedback import feedback_quality

F64 = NDArray[np.float64]

MEASURED_ROWS = 20
"""Truth rows of each user that feedback is measured on, drawn where there are more: the
baselines fold the whole history in anew for each."""


@dataclass(frozen=True)
class Truth:
    """Real feedback of known users on catalogue items that are not in their histories.

    Attributes:
        users: Names of the users, sorted, shape (users,).
        rows: User of each row, shape (rows,).
        items: Catalogue index, shape (rows,).
        values: Feedback in the log's unit, shape (rows,).
        dropped: Rows of the file that are not used.
    """

    users: NDArray[np.str_]
    rows: NDArray[np.int64]
    items: NDArray[np.int64]
    values: F64
    dropped: int

    @classmethod
    def read(cls, path: str, log: InteractionLog, data: FitData) -> Truth:
        """Read a file of further feedback on users of the log.

        Rows whose user has no events in the log, whose item is not in the catalogue, or whose
        pair stands in the log, are dropped.

        Raises:
            LogError: The file breaks a rule of the log, has no feedback, or no usable row.
        """
        frame = checked_interactions(scan(path, path), path)
        if "feedback" not in frame.columns:
            raise LogError(
                f"{path}: the column feedback must be there, found {frame.columns}. Add it: "
                f"without real feedback there is no truth"
            )
        pairs = ["user_id", "item_id"]
        usable = (
            frame.filter(
                pl.col("user_id").is_in(log.user_ids.tolist())
                & pl.col("item_id").is_in(data.catalogue.item_ids.tolist())
            )
            .unique(pairs, keep="first", maintain_order=True)
            .join(log.interactions.select(pairs), on=pairs, how="anti", maintain_order="left")
        )
        if usable.is_empty():
            raise LogError(
                f"{path}: no row has a user of {log.name}, an item of its catalogue "
                f"({len(data.catalogue)} items with enough events) and no event there already. "
                f"Check that both files use the same ids"
            )
        users, rows = np.unique(usable["user_id"].to_numpy().astype(np.str_), return_inverse=True)
        index = data.catalogue.index
        items = np.array([index[item] for item in usable["item_id"].to_list()], np.int64)
        dropped = len(frame) - len(usable)
        return cls(users, rows.astype(np.int64), items, usable["feedback"].to_numpy(), dropped)


def real_feedback(
    log: InteractionLog,
    seed: int,
    truth: str | None,
    fit: Callable[[InteractionLog, int], Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Value policies on real feedback and in the simulator, under the same masks.

    Args:
        log: What users are fitted to.
        seed: Of the split and the fit.
        truth: File of further feedback; without, test users of the log are replayed.
        fit: Fits users (with `feedback` and `card`) to a log with a seed; called only when all else
            is known to be sound.
        say: Tells of progress.

    Returns:
        `policies.<name>.{simulator|truth}` as `Value`, `feedback` (on the truth rows; as on the
        card of the user model where there are none), `counts`.

    Raises:
        LogError: The truth breaks a rule.
        ValueError: No test user has enough events for a replay.
    """
    data = FitData.of(log, None, seed, everyone=truth is not None)
    if truth is None:
        pools, dropped = Pools.replay(data.histories["test"], data.values["test"], seed), 0
        users = fit(log, seed)
        feedback = users.card.get("feedback")
    else:
        known = Truth.read(truth, log, data)
        histories, kept = log.histories(known.users, data.catalogue, data.scale).without_repeats()
        before = log.values(known.users, data.catalogue)[kept]
        levels = data.scale.level_of(known.values)
        pools = Pools.of(histories, known.rows, known.items, levels, known.values, seed)
        dropped = known.dropped
        users = fit(log, seed)
        say(f"{log.name}, seed {seed}: feedback on {len(known.rows)} rows of {truth}")
        feedback = truth_feedback(users, data, histories, before, known, seed)
    n_items = len(data.catalogue)
    model = ModelFeedbackAgent(users, data.scale)
    fitting = data.histories["fitting"]
    valued: dict[str, dict[str, Value]] = {}
    for name, policy in log_policies(model, fitting, data.catalogue, data.scale, seed).items():
        say(f"{log.name}, seed {seed}: {name} in both worlds")
        valued[name] = {
            world: Value.of(values_by_user(policy, pools, world, users, data.scale, n_items, seed))
            for world in ("simulator", "truth")
        }
    counts = {
        "users": len(pools.histories),
        "items": len(pools.items),
        "picks": int(pools.picks.sum()),
        "dropped": dropped,
    }
    return {"policies": valued, "feedback": feedback, "counts": counts}


def truth_feedback(
    users: FeedbackUsers,
    data: FitData,
    histories: Histories,
    before: F64,
    truth: Truth,
    seed: int,
) -> dict[str, Any] | None:
    """The part `feedback` of the card, on truth rows; None on a scale of one level.

    Each row is predicted from all events of its user in the log, by the model and by the
    baselines.

    Args:
        users: The user model.
        data: What it and the baselines are fitted on.
        histories: Events of the truth's users, in its order.
        before: Feedback of these events in the log's unit, shape (events,).
        truth: Real feedback.
        seed: Of the rows drawn and of the bootstrap.
    """
    if len(data.scale) < 2:
        return None
    order = np.lexsort((np.random.default_rng(seed).random(len(truth.rows)), truth.rows))
    counts = np.bincount(truth.rows, minlength=len(histories))
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn, place = order[place < MEASURED_ROWS], place[place < MEASURED_ROWS]
    rows, items, values = truth.rows[drawn], truth.items[drawn], truth.values[drawn]
    asked = np.zeros((len(histories), int(place.max()) + 1), np.int64)
    asked[rows, place] = items
    shares = predicted(users, histories, asked)[rows, place]  # (drawn rows, levels)
    # One history a row: the user's events, and the row as the last.
    levels = data.scale.level_of(values)
    each = histories.take(rows)
    ends = each.offsets[1:]
    offsets = each.offsets + np.arange(len(rows) + 1)
    expanded = Histories(
        each.users,
        offsets,
        np.insert(each.items, ends, items),
        np.insert(each.levels, ends, levels),
    )
    at = np.zeros(len(expanded.items), np.bool_)
    at[offsets[1:] - 1] = True
    spread = np.zeros((len(at), len(data.scale)))
    spread[at] = shares
    own = np.repeat(histories.offsets[rows] - each.offsets[:-1], each.lengths)
    known = before[own + np.arange(len(each.items))]
    of, values_of = data.histories, data.values
    quality = QualityData(
        fitting=of["fitting"],
        fitting_values=values_of["fitting"],
        validation=of["validation"],
        validation_values=values_of["validation"],
        test=of["test"],
        test_values=values_of["test"],
        scale=data.scale,
        catalogue=data.catalogue,
        seed=seed,
    )
    bootstrap = UserBootstrap(len(histories), seed)
    real = np.insert(known, ends, values)
    return feedback_quality(spread, quality, expanded, real, bootstrap, at, rows)
