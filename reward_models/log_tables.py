"""The tables of a log, and what is read from them in the order of its histories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.errors import LogError
from audience.reward_models.log_rows import Rows, codes, strings
from audience.reward_models.log_slates import Slates, return_gaps, session_ends, slates_of

T = TypeVar("T", bound=np.generic)

Users = NDArray[np.str_] | Sequence[str]


@dataclass(frozen=True, eq=False)
class LogTables:
    """The tables of a checked log.

    *Aligned* arrays have one value for each event of `InteractionLog.histories` of the same users
    and catalogue, shape (events,).

    Of the optional columns only those that hold a value are kept.

    Attributes:
        name: What the log is called in cards and tables.
        interactions: One event a row, in the order of the file: `user_id` and `item_id`
            (String), where the log has them `feedback`, `timestamp` (unix seconds), `position`,
            `propensity`, `dwell_seconds` (Float64), `text`, `session_id` and `slate_id` (String).
        items: `item_id` and `text` (String), one item a row; items without events are legal.
        users: What is known of users beside their events, where the log has it: `user_id` and
            features, numbers as Float64 and all else as String.
        shown: Where the log has impressions (items that were shown and not chosen), all its rows:
            the columns of `interactions` and `chosen` (Boolean); those chosen are the events.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame | None = None
    shown: pl.DataFrame | None = None

    @cached_property
    def user_ids(self) -> NDArray[np.str_]:
        """All users with events or impressions, sorted, shape (users,)."""
        rows = self.interactions if self.shown is None else self.shown
        return strings(rows["user_id"].unique().sort())

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items, those without events among them."""
        return len(self.items)

    @property
    def n_events(self) -> int:
        """Number of events."""
        return len(self.interactions)

    @property
    def has_feedback(self) -> bool:
        """Whether events carry feedback; a log without is *implicit*."""
        return "feedback" in self.interactions.columns

    @property
    def has_time(self) -> bool:
        """Whether events carry timestamps; without, the order of the file is that of time."""
        return "timestamp" in self.interactions.columns

    @property
    def has_sessions(self) -> bool:
        """Whether events carry session ids; sessions are never guessed from times."""
        return self._events.has("session_id")

    @property
    def has_impressions(self) -> bool:
        """Whether the log tells what was shown and not chosen."""
        return self.shown is not None

    def times(self, users: Users, catalogue: Catalogue) -> NDArray[np.float64] | None:
        """Unix seconds, aligned; None without timestamps.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        return self._numbers("timestamp", users, catalogue)

    def dwell(self, users: Users, catalogue: Catalogue) -> NDArray[np.float64] | None:
        """Seconds spent, aligned, NaN where unknown; None without.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        return self._numbers("dwell_seconds", users, catalogue)

    def texts(self, users: Users, catalogue: Catalogue) -> NDArray[np.object_] | None:
        """What users wrote (str), aligned, "" where nothing.

        None where nobody wrote anything. An array of objects, for one long review would widen
        all strings of a NumPy string array.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        rows = self._select(users, catalogue)[1]
        if not self._events.has("text"):
            return None
        written = self.interactions["text"].fill_null("").gather(self._events.order[rows])
        return np.array(written.to_list(), np.object_)

    def session_ends(self, users: Users, catalogue: Catalogue) -> NDArray[np.bool_] | None:
        """Whether the user left after the event, aligned.

        An event is the last of its session where the log has nothing of this session after it,
        with items of the catalogue or beyond it: no event, and no slate of which nothing was
        chosen (for leaving after those see `Slates.ends`). None without session ids.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        rows = self._select(users, catalogue)[1]
        if not self.has_sessions:
            return None
        return self._of_events(session_ends(self._rows))[rows]

    def return_gaps(self, users: Users, catalogue: Catalogue) -> NDArray[np.float64] | None:
        """Seconds until the user comes back after a session, aligned with `session_ends`.

        NaN for events that end no session, and where the user does not come back in the log. None
        without session ids or timestamps.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        rows = self._select(users, catalogue)[1]
        if not (self.has_sessions and self.has_time):
            return None
        return self._of_events(return_gaps(self._rows))[rows]

    def slates(self, users: Users, catalogue: Catalogue) -> Slates:
        """What these users were shown, and what they chose of it, by user and time.

        A slate without a choice is placed at its first row, one with a choice at that.

        Raises:
            LogError: The log has no impressions, or a user is unknown or stands twice, or none
                was given.
        """
        rows = self._rows
        if self.shown is None:
            raise LogError(
                f"{self.name}: slates need impressions, rows with chosen = 0 and a slate_id, got "
                "none. Ask has_impressions first"
            )
        place = self._places(users)[rows.user]
        index = codes(self.items["item_id"], catalogue.item_ids)[rows.item]
        return slates_of(rows, place, index, session_ends(rows) if self.has_sessions else None)

    @cached_property
    def _events(self) -> Rows:
        return Rows.of(self.interactions, self.user_ids, self.items["item_id"])

    @cached_property
    def _rows(self) -> Rows:
        """Events and what else was shown: the events among them in the order of `_events`."""
        if self.shown is None:
            return self._events
        return Rows.of(self.shown, self.user_ids, self.items["item_id"])

    @cached_property
    def _feedback(self) -> NDArray[np.float64]:
        """Feedback of `_events`, 1 if implicit."""
        return self._events.numbers("feedback") if self.has_feedback else np.ones(self.n_events)

    def _numbers(self, name: str, users: Users, catalogue: Catalogue) -> NDArray[np.float64] | None:
        rows = self._select(users, catalogue)[1]
        return self._events.numbers(name)[rows] if self._events.has(name) else None

    def _of_events(self, values: NDArray[T]) -> NDArray[T]:
        """Of values of `_rows` those of `_events`."""
        if self.shown is None:
            return values
        return values[self.shown["chosen"].to_numpy()[self._rows.order]]

    def _of_users(self, users: Users | None) -> NDArray[np.int64]:
        """Place of each event's user in `users`, or -1, shape (events,)."""
        return self._events.user if users is None else self._places(users)[self._events.user]

    def _places(self, users: Users) -> NDArray[np.int64]:
        """Place of each user of the log in `users`, or -1, shape (all users,)."""
        found = codes(pl.Series(np.asarray(users, np.str_)), self.user_ids)
        if not len(found):
            raise LogError(f"{self.name}: users must name at least one user, got none")
        if (found < 0).any():
            unknown = users[int((found < 0).argmax())]
            raise LogError(
                f"{self.name}: users must be users of the log, got {str(unknown)!r}; take them "
                "from user_ids"
            )
        places = np.full(self.n_users, -1, np.int64)
        places[found] = np.arange(len(found))
        if (places >= 0).sum() < len(found):
            raise LogError(f"{self.name}: users must be distinct, got one more than once")
        return places

    def _select(
        self, users: Users, catalogue: Catalogue
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Place in `users`, row in `_events` and catalogue index of the events of `histories`."""
        place = self._of_users(users)
        index = codes(self.items["item_id"], catalogue.item_ids)[self._events.item]
        rows = np.flatnonzero((place >= 0) & (index >= 0))
        rows = rows[np.argsort(place[rows], kind="stable")]
        return place[rows], rows, index[rows]
