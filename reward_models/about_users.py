"""What is known of users by name: features, and vectors of what they wrote about items.

Histories name their users, so whoever hands over any part of a user's events (a prefix, a random
half) gets what belongs to that user and to those events. A user of no known name is the mean user
who wrote nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.user_files import damaged

NOBODY = ""
"""A name that no user has: logs refuse it."""

NOTE_DECAY = 0.8
"""What a note keeps of its weight with each further note of the same user."""

NOTE_PRIOR = 1.0
"""Notes about nothing that the mean of a user's notes is shrunk by."""

CONTEXTS, NOTES = "contexts.parquet", "notes.parquet"
"""Files of a user model directory; each only where the model takes it in."""

Written = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Vectors of what was written at each event, shape (events, dim), and whether something was."""


@dataclass(frozen=True, eq=False)
class AboutUsers:
    """Features and notes of users; `of` builds it.

    A note is the vector of what a user wrote at an event. Words are never kept.

    Attributes:
        users: Names, sorted and distinct, shape (users,).
        contexts: Features, 0 for the mean user, shape (users, context_dim), float32.
        keys: (place of the user) * n_items + item of each note, ascending, shape (notes,), int64.
        notes: Shape (notes, note_dim), float32.
        n_items: Size of the catalogue.
    """

    users: NDArray[np.str_]
    contexts: NDArray[np.float32]
    keys: NDArray[np.int64]
    notes: NDArray[np.float32]
    n_items: int

    @classmethod
    def nobody(cls, context_dim: int, note_dim: int, n_items: int) -> AboutUsers:
        """About no user, with these widths."""
        empty = np.zeros((0, context_dim), np.float32), np.zeros((0, note_dim), np.float32)
        return cls(np.zeros(0, np.str_), empty[0], np.zeros(0, np.int64), empty[1], n_items)

    @classmethod
    def of(
        cls,
        parts: Sequence[tuple[Histories, NDArray[np.float32], Written | None]],
        n_items: int,
    ) -> AboutUsers:
        """Of several groups of users.

        Args:
            parts: Events (no item twice for one user), features (users, context_dim) and what was
                written at those events. Of two users of one name the later counts.
            n_items: Size of the catalogue.
        """
        names = np.concatenate([histories.users for histories, _, _ in parts])
        users, at = np.unique(names[::-1], return_index=True)
        kept = len(names) - 1 - at  # the last row of each name
        place = np.searchsorted(users, names)
        keys, notes, first = [np.zeros(0, np.int64)], [], 0
        for histories, _, written in parts:
            if written is not None:
                row = np.repeat(np.arange(len(histories)) + first, histories.lengths)
                there = np.flatnonzero(written[1] & (kept[place[row]] == row))
                keys.append(place[row[there]] * n_items + histories.items[there])
                notes.append(written[0][there])
            first += len(histories)
        key = np.concatenate(keys)
        vectors = np.concatenate(notes) if notes else np.zeros((0, 0), np.float32)
        order = np.argsort(key)
        contexts = np.concatenate([features for _, features, _ in parts])[kept]
        return cls(users, contexts.astype(np.float32), key[order], vectors[order], n_items)

    @property
    def context_dim(self) -> int:
        """Number of features; 0 for none."""
        return self.contexts.shape[1]

    @property
    def note_dim(self) -> int:
        """Length of a note; 0 for none."""
        return self.notes.shape[1]

    def rows(self, names: NDArray[np.str_]) -> NDArray[np.int64]:
        """Place of each name, -1 for unknown ones."""
        if not len(self.users):
            return np.full(len(names), -1, np.int64)
        at = np.searchsorted(self.users, names).clip(max=len(self.users) - 1)
        return np.where(self.users[at] == names, at, -1).astype(np.int64)

    def contexts_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features of the users at these places, (n,) to (n, context_dim); 0 for place -1."""
        if not len(self.users):
            return np.zeros((len(rows), self.context_dim), np.float32)
        return self.contexts[rows] * (rows >= 0)[:, None]

    def notes_of(self, rows: NDArray[np.int64], items: NDArray[np.int64]) -> Written:
        """What the users at these places wrote about these items, each of shape (...).

        Returns:
            Shape (..., note_dim), zeros where nothing; and whether something, shape (...).
        """
        rows, items = np.broadcast_arrays(rows, items)
        if not len(self.keys):
            nothing = np.zeros((*items.shape, self.note_dim), np.float32)
            return nothing, np.zeros(items.shape, np.bool_)
        key = rows * self.n_items + items
        at = np.searchsorted(self.keys, key).clip(max=len(self.keys) - 1)
        written = (self.keys[at] == key) & (rows >= 0)
        return self.notes[at] * written[..., None], written

    # Directories

    def save(self, directory: Path, names: NDArray[np.str_]) -> None:
        """Write what is known of these users, who must be known by pseudonyms alone."""
        rows = self.rows(names)
        if self.context_dim:
            own = pl.Series("user", names.tolist(), pl.String)
            contexts = _vectors("context", self.contexts_of(rows))
            pl.DataFrame([own, contexts]).write_parquet(directory / CONTEXTS)
        if self.note_dim:
            kept = np.isin(self.keys // self.n_items, rows)
            place, items = np.divmod(self.keys[kept], self.n_items)
            own = pl.Series("user", self.users[place].tolist(), pl.String)
            notes = _vectors("note", self.notes[kept])
            pl.DataFrame([own, pl.Series("item", items), notes]).write_parquet(directory / NOTES)

    @classmethod
    def load(
        cls, directory: Path, names: NDArray[np.str_], widths: tuple[int, int], n_items: int
    ) -> AboutUsers:
        """What `save` wrote.

        Args:
            directory: Of a user model.
            names: The users of its start histories.
            widths: `context_dim` and `note_dim` of its model.
            n_items: Size of its catalogue.

        Raises:
            UserModelError: A file is missing, damaged or of another model.
        """
        for file, width in zip((CONTEXTS, NOTES), widths, strict=True):
            if (directory / file).is_file() != (width > 0):
                told = "is missing" if width else "is there"
                raise damaged(directory, f"{file} {told}, config.json says width {width}")
        users = np.unique(names)
        contexts = np.zeros((len(users), widths[0]), np.float32)
        keys, notes = np.zeros(0, np.int64), np.zeros((0, widths[1]), np.float32)
        if widths[0]:
            table = _read(directory, CONTEXTS, "context", widths[0])
            found, at = np.unique(table["user"].to_numpy().astype(np.str_), return_index=True)
            if found.tolist() != users.tolist() or len(table) != len(users):
                raise damaged(directory, f"{CONTEXTS} has other users than starts.parquet")
            contexts = table["context"].to_numpy()[at]
        if widths[1]:
            table = _read(directory, NOTES, "note", widths[1])
            own, items = table["user"].to_numpy().astype(np.str_), table["item"].to_numpy()
            place = np.searchsorted(users, own).clip(max=max(len(users) - 1, 0))
            if len(own) and not (users[place] == own).all():
                raise damaged(directory, f"{NOTES} has other users than starts.parquet")
            if len(items) and not (0 <= items.min() and items.max() < n_items):
                raise damaged(directory, f"{NOTES} has items beyond the {n_items} of items.parquet")
            keys = place * n_items + items
            order = np.argsort(keys)
            keys, notes = keys[order], table["note"].to_numpy()[order]
        return cls(users, contexts, keys, notes, n_items)


def note_sums(
    notes: NDArray[np.float32], written: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What is kept of a user's notes: their decayed sum, that of 1, and the latest.

    Args:
        notes: Of each event, oldest first, zeros where nothing was written, (..., events, dim).
        written: Shape (..., events).

    Returns:
        Shapes (..., dim), (...), (..., dim).
    """
    later = written.sum(-1, keepdims=True) - written.cumsum(-1)  # notes after each event
    weight = (written * NOTE_DECAY**later).astype(np.float32)
    latest = (written & (later == 0)).astype(np.float32)
    both = np.stack([weight, latest], -2) @ notes  # (..., 2, dim)
    return both[..., 0, :], weight.sum(-1), both[..., 1, :]


def _vectors(name: str, vectors: NDArray[np.float32]) -> pl.Series:
    width = vectors.shape[1]
    if not len(vectors):
        return pl.Series(name, [], pl.Array(pl.Float32, width))
    return pl.Series(name, vectors)


def _read(directory: Path, file: str, column: str, width: int) -> pl.DataFrame:
    """A table of users and vectors of this width.

    Raises:
        UserModelError: It is not that.
    """
    try:
        table = pl.read_parquet(directory / file)
        shape = table[column].dtype, table["user"].dtype
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise damaged(directory, f"{file}: {error}") from error
    wanted = pl.Array(pl.Float32, width), pl.String()
    if shape != wanted:
        raise damaged(directory, f"{file} holds {shape[0]}, config.json says {wanted[0]}")
    if not np.isfinite(table[column].to_numpy()).all():
        raise damaged(directory, f"{file} holds a vector that is not finite")
    return table
