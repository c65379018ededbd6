"""What users were shown and when they left: slates and sessions of a log."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.log_rows import Rows


@dataclass(frozen=True, eq=False)
class Slates:
    """The slates that several users were shown, ragged, by user and time.

    `histories` below are those of the same users and catalogue.

    Attributes:
        user: Index into the users, ascending, shape (slates,), int64.
        earlier: Number of this user's events in `histories` before the slate was shown, shape
            (slates,), int64: its history is `items[offsets[user] :][:earlier]` of `histories`,
            and where an item was chosen, the next event there is that choice.
        offsets: Where each slate begins, and the end, shape (slates + 1,), int64.
        items: Catalogue index of each item shown, in the order of `places`, shape (shown,),
            int64. Items beyond the catalogue are left out; a slate from which one was chosen, or
            that holds no other, is left out whole.
        places: Position of each item in its slate as it was shown, from 0 on, shape (shown,),
            int64.
        chosen: Index of the chosen item among the slate's `items`, -1 if none was chosen, shape
            (slates,), int64.
        ends: Whether the slate is the last that the log knows of its session, shape (slates,),
            bool; None where the log has no sessions.
    """

    user: NDArray[np.int64]
    earlier: NDArray[np.int64]
    offsets: NDArray[np.int64]
    items: NDArray[np.int64]
    places: NDArray[np.int64]
    chosen: NDArray[np.int64]
    ends: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.user)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of items of each slate, shape (slates,)."""
        return np.diff(self.offsets)

    @property
    def row(self) -> NDArray[np.int64]:
        """Slate of each of the `items`, shape (shown,)."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def renumbered(self, offsets: NDArray[np.int64], kept: NDArray[np.int64]) -> Slates:
        """The slates with `earlier` counted among some events only.

        Args:
            offsets: Those of the histories that `earlier` refers to, shape (users + 1,).
            kept: Their events to be counted, as `Histories.without_repeats` returns them.
        """
        counted = np.zeros(offsets[-1] + 1, np.int64)
        counted[np.asarray(kept, np.int64) + 1] = 1
        counted = np.cumsum(counted)  # (events + 1,): events kept before each
        begin = offsets[self.user]
        return replace(self, earlier=counted[begin + self.earlier] - counted[begin])


def slates_of(
    rows: Rows, place: NDArray[np.int64], index: NDArray[np.int64], ends: NDArray[np.bool_] | None
) -> Slates:
    """The slates of some users and a catalogue.

    Args:
        rows: All rows of the log, with `slate_id` and `chosen`.
        place: Index of each row's user among the users wanted, or -1, shape (rows,).
        index: Catalogue index of each row's item, or -1, shape (rows,).
        ends: `session_ends` of the rows.
    """
    slate = rows.groups("slate_id")  # (rows,), -1 outside slates
    slates = int(slate.max(initial=-1)) + 1
    chosen = rows.frame["chosen"].to_numpy()[rows.order]
    shown = np.flatnonzero(slate >= 0)
    choices = np.flatnonzero((slate >= 0) & chosen)

    # The row at whose moment the slate was answered: its choice, or else its first row.
    moment = np.empty(slates, np.int64)
    moment[slate[shown[::-1]]] = shown[::-1]
    moment[slate[choices]] = choices
    wanted = place[moment] >= 0
    wanted[slate[choices]] &= index[choices] >= 0

    counted = chosen & (index >= 0)
    before: NDArray[np.int64] = np.cumsum(counted) - counted
    before -= before[np.searchsorted(rows.user, rows.user)]  # from the user's first row on

    seat = _seats(rows, slate)
    kept = shown[(index[shown] >= 0) & wanted[slate[shown]]]
    kept = kept[np.lexsort((seat[kept], moment[slate[kept]], place[kept]))]
    of = slate[kept]
    begins = np.flatnonzero(np.diff(of, prepend=-1))
    offsets = np.append(begins, len(kept))
    at = np.repeat(np.arange(len(begins)), np.diff(offsets))
    choice = np.full(len(begins), -1, np.int64)
    picked = np.flatnonzero(chosen[kept])
    choice[at[picked]] = picked - begins[at[picked]]
    moments = moment[of[begins]]
    return Slates(
        place[moments],
        before[moments],
        offsets.astype(np.int64),
        index[kept],
        seat[kept],
        choice,
        ends[moments] if ends is not None else None,
    )


def session_ends(rows: Rows) -> NDArray[np.bool_]:
    """Whether nothing of the session follows each row, neither an event nor a slate; (rows,)."""
    last = _last_rows(rows.groups("session_id"))
    ends = np.zeros(len(rows), np.bool_)
    ends[last] = True
    if rows.has("slate_id"):
        # All rows of a slate were answered at once.
        slate = rows.groups("slate_id")
        ends |= np.isin(slate, slate[last][slate[last] >= 0])
    return ends


def return_gaps(rows: Rows) -> NDArray[np.float64]:
    """Seconds from each row that ends its session to the user's next row, else NaN; (rows,)."""
    session, time = rows.groups("session_id"), rows.numbers("timestamp")
    last = _last_rows(session)
    following = np.minimum(last + 1, len(rows) - 1)
    back = (following > last) & (rows.user[following] == rows.user[last])
    returns = np.where(back, time[following], np.nan)  # (sessions,)
    return np.where(session_ends(rows), returns[session] - time, np.nan)


def _last_rows(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last row of each group, shape (groups,)."""
    last = np.empty(int(groups.max(initial=-1)) + 1, np.int64)
    last[groups] = np.arange(len(groups))  # of equal indices the last assignment stays
    return last


def _seats(rows: Rows, slate: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each row in its slate, from 0 on: the column's, or the order of the rows."""
    seat = np.zeros(len(rows), np.int64)
    shown = np.flatnonzero(slate >= 0)
    if (
        "position" in rows.frame.columns
        and not np.isnan(given := rows.numbers("position")[shown]).any()
    ):
        # Logs count from 0 or from 1.
        seat[shown] = (given - given.min(initial=np.inf)).astype(np.int64)
        return seat
    by_slate = shown[np.argsort(slate[shown], kind="stable")]
    begins = np.flatnonzero(np.diff(slate[by_slate], prepend=-1))
    sizes = np.diff(np.append(begins, len(by_slate)))
    seat[by_slate] = np.arange(len(by_slate)) - np.repeat(begins, sizes)
    return seat
