"""What a log says of users beside items and feedback: slates, leaves, dwell, words, features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.log import InteractionLog
from audience.reward_models.log_slates import Slates


@dataclass(frozen=True, eq=False)
class Signals:
    """What a log says of some users beside items and feedback; None where it lacks it.

    All of it belongs to histories without repeats (`Histories.without_repeats`): an event here is
    an event of those.

    Attributes:
        slates: What they were shown, by user and time, `earlier` counted among these events. A
            slate of which an item was chosen again is left out, as that choice is no event here.
        ends: Whether the session ends with each event, no other event or slate of it following,
            shape (events,). Where a repeat ended it, no event here did, as where an item beyond
            the catalogue did: each event keeps what the user really did after it.
        dwell: Seconds with each event's item, nan where unknown or not above 0, shape (events,).
        texts: What the user wrote at each event (str), "" where nothing, shape (events,).
        features: User features, standardised on the fitting users, shape (users, features),
            float32; of width 0 where the log has none.
    """

    slates: Slates | None
    ends: NDArray[np.bool_] | None
    dwell: NDArray[np.float64] | None
    texts: NDArray[np.object_] | None
    features: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        log: InteractionLog,
        every: Histories,
        kept: NDArray[np.int64],
        catalogue: Catalogue,
        fitting: NDArray[np.str_],
    ) -> Signals:
        """Read them from a log.

        Args:
            log: The log.
            every: `log.histories` of the users, repeats among them.
            kept: The events that were kept, as `every.without_repeats` returns them.
            catalogue: The items.
            fitting: Users that features are standardised on.

        Raises:
            LogError: A user is unknown or stands twice.
        """
        width = len(log.user_features(fitting)[0])
        if not len(every):
            return cls._of_nobody(log, width)
        users = every.users
        slates = log.slates(users, catalogue) if log.has_impressions else None
        ends = log.session_ends(users, catalogue)
        dwell, texts = log.dwell(users, catalogue), log.texts(users, catalogue)
        if slates is not None:
            slates = _of_kept(slates, every.offsets, kept)
        return cls(
            slates,
            None if ends is None else ends[kept],
            None if dwell is None else np.where(dwell[kept] > 0, dwell[kept], np.nan),
            None if texts is None else texts[kept],
            log.user_features(users, fitting)[1],
        )

    def take(self, users: NDArray[np.int64], offsets: NDArray[np.int64]) -> Signals:
        """The signals of some users, ascending.

        Args:
            users: Rows of users, each once.
            offsets: Where the events of all users begin, and the end.
        """
        kept = np.zeros(len(offsets) - 1, np.bool_)
        kept[users] = True
        events = np.repeat(kept, np.diff(offsets))
        slates = self.slates
        if slates is not None:
            slates = taken(slates, np.flatnonzero(kept[slates.user]))
            slates = replace(slates, user=(kept.cumsum() - 1)[slates.user])
        return Signals(
            slates,
            None if self.ends is None else self.ends[events],
            None if self.dwell is None else self.dwell[events],
            None if self.texts is None else self.texts[events],
            self.features[kept],
        )

    @classmethod
    def _of_nobody(cls, log: InteractionLog, width: int) -> Signals:
        """The same kinds of signals, of no user."""
        none, no = np.zeros(0, np.int64), np.zeros(0, np.bool_)
        ends = no if log.has_sessions else None
        slates = Slates(none, none, np.zeros(1, np.int64), none, none, none, ends)
        has = log.interactions.columns
        return cls(
            slates if log.has_impressions else None,
            ends,
            np.zeros(0) if "dwell_seconds" in has else None,
            np.zeros(0, np.object_) if "text" in has else None,
            np.zeros((0, width), np.float32),
        )


def taken(slates: Slates, rows: NDArray[np.int64]) -> Slates:
    """The slates of these rows, in this order."""
    sizes = slates.sizes[rows]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    shown = np.repeat(slates.offsets[rows] - offsets[:-1], sizes) + np.arange(offsets[-1])
    return replace(
        slates,
        user=slates.user[rows],
        earlier=slates.earlier[rows],
        offsets=offsets,
        items=slates.items[shown],
        places=slates.places[shown],
        chosen=slates.chosen[rows],
        ends=None if slates.ends is None else slates.ends[rows],
    )


def _of_kept(slates: Slates, offsets: NDArray[np.int64], kept: NDArray[np.int64]) -> Slates:
    """Slates counted among the kept events, without those whose choice was not kept.

    Left in, the next kept event would pass for their choice.
    """
    is_kept = np.zeros(offsets[-1] + 1, np.bool_)  # one more: a slate may follow the last event
    is_kept[kept] = True
    event = offsets[slates.user] + slates.earlier
    answered = (slates.chosen < 0) | is_kept[event]
    return taken(slates, np.flatnonzero(answered)).renumbered(offsets, kept)
