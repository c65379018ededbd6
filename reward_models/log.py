"""The interaction log: what real users did, and the text of what they did it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from audience.reward_models.catalogue import MIN_ITEM_EVENTS, Catalogue
from audience.reward_models.errors import LogError
from audience.reward_models.histories import Histories
from audience.reward_models.log_checks import (
    check_items_known,
    checked_interactions,
    checked_items,
    scan,
)
from audience.reward_models.log_sources import find_named
from audience.reward_models.log_text import as_text
from audience.reward_models.scale import FeedbackScale

SHRINKAGE_EVENTS = 5
"""Pseudo-events at the global mean that an item's mean feedback is mixed with."""

Users = NDArray[np.str_] | Sequence[str]


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """Checked events of real users. Build it with `from_files`, `from_frames` or `load`.

    Attributes:
        name: What the log is called in cards and tables.
        interactions: One event a row, in the order of the file: `user_id` and `item_id`
            (String), where the log has them `feedback` (Float64) and `timestamp` (Float64, unix
            seconds), and untouched what else the log's format names, such as `session_id`.
        items: `item_id` and `text` (String), one item a row; items without events are legal.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame

    @classmethod
    def from_files(
        cls,
        interactions: str | Path,
        items: str | Path,
        text: str | None = None,
        name: str | None = None,
    ) -> InteractionLog:
        """Read two csv or parquet files.

        Args:
            interactions: Events, with the columns user_id, item_id and, where known, feedback
                (a number) and timestamp (unix seconds, or ISO dates; UTC unless they say else).
            items: Items, with the column item_id and text columns.
            text: How an item reads, its columns in braces: "{title}. {category}". By default
                all text columns, joined by ". ".
            name: Name of the log, by default that of the interactions file.

        Raises:
            LogError: A file cannot be read or breaks a rule of the log.
        """
        labels = [str(interactions), str(items)]
        tables = [scan(interactions, labels[0]), scan(items, labels[1])]
        return cls._checked(tables, text, name or Path(interactions).stem, labels)

    @classmethod
    def from_frames(
        cls,
        interactions: pl.DataFrame,
        items: pl.DataFrame,
        text: str | None = None,
        name: str | None = None,
    ) -> InteractionLog:
        """The same from two polars frames, with the columns that `from_files` reads.

        Raises:
            LogError: A frame breaks a rule of the log.
            TypeError: An argument is no polars frame.
        """
        for argument, frame in (("interactions", interactions), ("items", items)):
            if not isinstance(frame, pl.DataFrame):
                raise TypeError(
                    f"{argument} must be a polars DataFrame, got {type(frame).__name__}; "
                    "polars.from_pandas converts one of pandas"
                )
        tables = [interactions.lazy(), items.lazy()]
        return cls._checked(tables, text, name or "log", ["interactions", "items"])

    @classmethod
    def load(cls, name: str, data_dir: str | Path | None = None) -> InteractionLog:
        """A named log: "movielens" or "ml-100k".

        Args:
            name: Name of the log.
            data_dir: Directory that is looked into first; by default that in AUDIENCE_DATA. Then
                come an installed package that ships the log, and a download with a checked hash.

        Raises:
            LogError: The name is unknown, or the log is nowhere to be found.
        """
        found = find_named(name, data_dir)
        return cls._checked([t.lazy() for t in found.tables], found.text, name, found.labels)

    @classmethod
    def _checked(
        cls, tables: list[pl.LazyFrame], text: str | None, name: str, labels: list[str]
    ) -> InteractionLog:
        interactions = checked_interactions(tables[0], labels[0])
        items = checked_items(tables[1], text, labels[1])
        check_items_known(interactions, items, labels)
        return cls(name, interactions, items)

    @cached_property
    def user_ids(self) -> NDArray[np.str_]:
        """All users, sorted, shape (users,)."""
        return _strings(self.interactions["user_id"].unique().sort())

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

    def scale(self, users: Users | None = None) -> FeedbackScale:
        """Levels of the feedback in these users' events (default: all); value 1 if implicit.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        if not self.has_feedback:
            return FeedbackScale((1.0,))
        return FeedbackScale.of(self._events.feedback[self._of_users(users) >= 0])

    def catalogue(
        self,
        users: Users,
        min_events: int = MIN_ITEM_EVENTS,
        groups: Sequence[Users] | None = None,
    ) -> Catalogue:
        """The items with enough events, in the order of the items file.

        Args:
            users: Users whose events are counted and averaged (the fitting users).
            min_events: Events that an item needs among these users.
            groups: The item needs that many in each of these groups of users instead, so that
                two halves of a log share a catalogue.

        Raises:
            LogError: Fewer than 2 items have enough events, or a user is unknown, stands twice,
                or none was given.
        """
        events = self._events
        inside = self._of_users(users) >= 0
        items = events.item[inside]
        counts = np.bincount(items, minlength=self.n_items)
        of_groups = [events.item[self._of_users(group) >= 0] for group in groups or ()] or [items]
        least = np.min([np.bincount(of, minlength=self.n_items) for of in of_groups], axis=0)
        kept = np.flatnonzero(least >= min_events)
        if len(kept) < 2:
            raise LogError(
                f"{self.name}: a catalogue needs at least 2 items with min_events={min_events} "
                f"events each{' in each group of users' if groups else ''}, got {len(kept)} (the "
                f"most frequent item has {least.max()}). Lower min_events or add events"
            )
        feedback = events.feedback[inside]
        sums = np.bincount(items, feedback, minlength=self.n_items)
        prior = SHRINKAGE_EVENTS * feedback.mean()
        means = (sums + prior) / (counts + SHRINKAGE_EVENTS)
        rows = self.items[kept]
        return Catalogue(
            _strings(rows["item_id"]), _strings(rows["text"]), counts[kept], means[kept]
        )

    def histories(self, users: Users, catalogue: Catalogue, scale: FeedbackScale) -> Histories:
        """Each user's events with items of the catalogue, oldest first.

        Events of one timestamp keep the order of the file.

        Args:
            users: Users, in the order of the result; one without such events has length 0.
            catalogue: Items to keep.
            scale: Levels that feedback is mapped to.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        place, rows, items = self._select(users, catalogue)
        lengths = np.bincount(place, minlength=len(users))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        levels = (
            scale.level_of(self._events.feedback[rows])
            if self.has_feedback
            else np.zeros(len(rows), np.int64)
        )
        return Histories(np.asarray(users, np.str_), offsets, items, levels)

    def values(self, users: Users, catalogue: Catalogue) -> NDArray[np.float64]:
        """Original feedback (1 if implicit), aligned with the items of `histories`.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        return self._events.feedback[self._select(users, catalogue)[1]]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all events and item texts, the same on every machine, 32 hex digits."""
        state = blake2b(digest_size=16)
        for frame in (self.interactions, self.items):
            for column in frame:
                state.update(f"{column.name}\x1e{len(column)}\x1e".encode())
                if column.dtype == pl.Float64:
                    state.update(column.to_numpy().astype("<f8").tobytes())
                else:
                    text = as_text(column, self.name).fill_null("\x00")
                    state.update(text.str.join("\x1f").item().encode())
        return state.hexdigest()

    @cached_property
    def _events(self) -> _Events:
        frame = self.interactions
        user = _codes(frame["user_id"], self.user_ids)
        item = _codes(frame["item_id"], self.items["item_id"])
        # lexsort is stable, so the order of the file decides ties.
        keys = (frame["timestamp"].to_numpy(), user) if self.has_time else (user,)
        order = np.lexsort(keys)
        feedback = frame["feedback"].to_numpy() if self.has_feedback else np.ones(len(frame))
        return _Events(user[order], item[order], feedback[order])

    def _of_users(self, users: Users | None) -> NDArray[np.int64]:
        """Place of each event's user in `users`, or -1, shape (events,)."""
        if users is None:
            return self._events.user
        codes = _codes(pl.Series(np.asarray(users, np.str_)), self.user_ids)
        if not len(codes):
            raise LogError(f"{self.name}: users must name at least one user, got none")
        if (codes < 0).any():
            unknown = users[int((codes < 0).argmax())]
            raise LogError(
                f"{self.name}: users must be users of the log, got {str(unknown)!r}; take them "
                "from user_ids"
            )
        place = np.full(self.n_users, -1, np.int64)
        place[codes] = np.arange(len(codes))
        if (place >= 0).sum() < len(codes):
            raise LogError(f"{self.name}: users must be distinct, got one more than once")
        return place[self._events.user]

    def _select(
        self, users: Users, catalogue: Catalogue
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Place in `users`, row in `_events` and catalogue index of the events of `histories`."""
        place = self._of_users(users)
        index = _codes(self.items["item_id"], catalogue.item_ids)[self._events.item]
        rows = np.flatnonzero((place >= 0) & (index >= 0))
        rows = rows[np.argsort(place[rows], kind="stable")]
        return place[rows], rows, index[rows]


@dataclass(frozen=True)
class _Events:
    """All events by user and time: user and item as rows of `user_ids` and `items`."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    feedback: NDArray[np.float64]


def _strings(series: pl.Series) -> NDArray[np.str_]:
    return np.array(series.to_list(), dtype=np.str_)


def _codes(series: pl.Series, names: pl.Series | NDArray[np.str_]) -> NDArray[np.int64]:
    """Where each string stands in `names` (distinct), or -1, shape (strings,)."""
    kind = pl.Enum(pl.Series(names, dtype=pl.String))
    codes = series.cast(kind, strict=False).to_physical().cast(pl.Int64).fill_null(-1)
    return codes.to_numpy()
