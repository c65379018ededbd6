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
    EmptyText,
    check_items_known,
    checked_interactions,
    checked_items,
    scan,
)
from audience.reward_models.log_recbole import atomic_files
from audience.reward_models.log_rows import strings
from audience.reward_models.log_sources import find_named
from audience.reward_models.log_tables import LogTables, Users
from audience.reward_models.log_text import as_text
from audience.reward_models.log_users import checked_users, encode_users
from audience.reward_models.scale import FeedbackScale

SHRINKAGE_EVENTS = 5
"""Pseudo-events at the global mean that an item's mean feedback is mixed with."""


@dataclass(frozen=True, eq=False)
class InteractionLog(LogTables):
    """Checked events of real users. Build it with `from_files`, `from_recbole` or `load`.

    `LogTables` says what it holds, and reads from it what is aligned with `histories`.
    """

    @classmethod
    def from_files(
        cls,
        interactions: str | Path,
        items: str | Path,
        text: str | None = None,
        name: str | None = None,
        users: str | Path | None = None,
        empty_text: EmptyText = "error",
    ) -> InteractionLog:
        """Read csv or parquet files, or RecBole's .inter, .item and .user.

        Args:
            interactions: Events, with the columns user_id, item_id and, where known:
                feedback (a number), timestamp (unix seconds, or ISO dates; UTC unless they say
                else), text (what the user wrote), session_id, slate_id, position (in the slate),
                chosen (0: shown in this slate, but not chosen; 1 or blank: an event), propensity
                and dwell_seconds.
            items: Items, with the column item_id and text columns.
            text: How an item reads, its columns in braces: "{title}. {category}". By default
                all text columns, joined by ". ".
            name: Name of the log, by default that of the interactions file.
            users: Users, with the column user_id and features; users of the log may be missing,
                and others may be there.
            empty_text: "allow" takes items whose text is empty, as long as one has text.

        Raises:
            LogError: A file cannot be read or breaks a rule of the log.
        """
        return cls._read(interactions, items, users, text, name, None, empty_text)

    @classmethod
    def from_recbole(
        cls,
        path: str | Path,
        text: str | None = None,
        feedback: str | None = None,
        name: str | None = None,
        empty_text: EmptyText = "error",
    ) -> InteractionLog:
        """Read a data set of RecBole's atomic files: .inter, .item and, where it is there, .user.

        Args:
            path: Folder of the data set, or its path without ending, such as "ml-1m/ml-1m".
            text: How an item reads, as in `from_files`, columns without their types.
            feedback: Column of the .inter file that is the feedback; by default feedback or
                rating, and without either the log is implicit.
            name: Name of the log, by default that of the data set.
            empty_text: As in `from_files`.

        Raises:
            LogError: A file is missing, cannot be read or breaks a rule of the log.
        """
        files = atomic_files(path)
        users = files.get(".user")
        return cls._read(files[".inter"], files[".item"], users, text, name, feedback, empty_text)

    @classmethod
    def from_frames(
        cls,
        interactions: pl.DataFrame,
        items: pl.DataFrame,
        text: str | None = None,
        name: str | None = None,
        users: pl.DataFrame | None = None,
        empty_text: EmptyText = "error",
    ) -> InteractionLog:
        """The same from polars frames, with the columns that `from_files` reads.

        Raises:
            LogError: A frame breaks a rule of the log.
            TypeError: An argument is no polars frame.
        """
        given = {"interactions": interactions, "items": items, "users": users}
        for argument, frame in given.items():
            if not isinstance(frame, pl.DataFrame) and (frame is not None or argument != "users"):
                raise TypeError(
                    f"{argument} must be a polars DataFrame, got {type(frame).__name__}; "
                    "polars.from_pandas converts one of pandas"
                )
        people = checked_users(users.lazy(), "users", untyped=False) if users is not None else None
        tables = (interactions.lazy(), items.lazy())
        labels = ["interactions", "items"]
        return cls._checked(tables, labels, text, name or "log", people, empty_text)

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
        people = None
        if found.users is not None:
            people = checked_users(found.users.lazy(), found.labels[2], untyped=True)
        tables = (found.tables[0].lazy(), found.tables[1].lazy())
        return cls._checked(tables, found.labels, found.text, name, people)

    @classmethod
    def _read(
        cls,
        interactions: str | Path,
        items: str | Path,
        users: str | Path | None,
        text: str | None,
        name: str | None,
        feedback: str | None,
        empty_text: EmptyText,
    ) -> InteractionLog:
        labels = [str(interactions), str(items)]
        tables = (scan(interactions, labels[0], feedback), scan(items, labels[1]))
        people = None
        if users is not None:
            untyped = Path(users).suffix.lower() == ".csv"
            people = checked_users(scan(users, str(users)), str(users), untyped)
        name = name or Path(interactions).stem
        return cls._checked(tables, labels, text, name, people, empty_text)

    @classmethod
    def _checked(
        cls,
        tables: tuple[pl.LazyFrame, pl.LazyFrame],
        labels: list[str],
        text: str | None,
        name: str,
        users: pl.DataFrame | None,
        empty_text: EmptyText = "error",
    ) -> InteractionLog:
        rows = checked_interactions(tables[0], labels[0])
        items = checked_items(tables[1], text, labels[1], empty_text)
        check_items_known(rows, items, labels)
        if "chosen" not in rows.columns:
            return cls(name, rows, items, users)
        return cls(name, rows.filter("chosen").drop("chosen"), items, users, rows)

    def scale(self, users: Users | None = None) -> FeedbackScale:
        """Levels of the feedback in these users' events (default: all); value 1 if implicit.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        if not self.has_feedback:
            return FeedbackScale((1.0,))
        return FeedbackScale.of(self._feedback[self._of_users(users) >= 0])

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
        feedback = self._feedback[inside]
        sums = np.bincount(items, feedback, minlength=self.n_items)
        prior = SHRINKAGE_EVENTS * feedback.mean()
        means = (sums + prior) / (counts + SHRINKAGE_EVENTS)
        rows = self.items[kept]
        return Catalogue(strings(rows["item_id"]), strings(rows["text"]), counts[kept], means[kept])

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
            scale.level_of(self._feedback[rows])
            if self.has_feedback
            else np.zeros(len(rows), np.int64)
        )
        return Histories(np.asarray(users, np.str_), offsets, items, levels)

    def values(self, users: Users, catalogue: Catalogue) -> NDArray[np.float64]:
        """Original feedback (1 if implicit), aligned with the items of `histories`.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        return self._feedback[self._select(users, catalogue)[1]]

    def user_features(
        self, users: Users, fitting: Users | None = None
    ) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Users' features as numbers: one-hot words, standardised numbers, marks of missing ones.

        Args:
            users: Users to encode.
            fitting: Users whose values, means and deviations are used (default: `users`).

        Returns:
            Names, and features of shape (users, features); no features without a users table.

        Raises:
            LogError: A user is unknown or stands twice, or none was given.
        """
        for given in (users, fitting):
            if given is not None:
                self._places(given)
        if self.users is None:
            return (), np.zeros((len(users), 0), np.float32)
        names = np.asarray(users, np.str_)
        return encode_users(
            self.users, names, names if fitting is None else np.asarray(fitting, np.str_)
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all rows, item texts and users, the same on every machine, 32 hex digits."""
        state = blake2b(digest_size=16)
        for frame in (self.interactions, self.items, self.users, self.shown):
            for column in frame if frame is not None else ():
                state.update(f"{column.name}\x1e{len(column)}\x1e".encode())
                if column.dtype == pl.Float64:
                    state.update(column.to_numpy().astype("<f8").tobytes())
                else:
                    text = as_text(column, self.name).fill_null("\x00")
                    state.update(text.str.join("\x1f").item().encode())
        return state.hexdigest()
