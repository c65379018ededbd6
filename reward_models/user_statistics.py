"""What is kept of users' events: sums that one event more is added to, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

OF_EVENTS = ("items", "given", "beyond")
"""Fields of `Statistics` with a place for each event."""


def pick(of: Tensor, rows: Tensor) -> Tensor:
    """These rows of what is kept of users, shape (m, *): a copy, but of one user the thing itself.

    What is changed in it is changed for good by `put`. At one user a step is all calls.
    """
    return of if of.shape[0] == 1 and rows.shape[0] else of.index_select(0, rows)


def put(of: Tensor, rows: Tensor, values: Tensor) -> None:
    """Set these rows, as `pick` gave them or anew, shape (m, *)."""
    if values is not of:
        of.index_copy_(0, rows, values)


@dataclass
class Statistics:
    """Sums over the events of several users, and the events themselves.

    Attributes:
        covariance: Of the user's k coordinates given the events, in squared units of the
            noise, shape (users, k, k).
        sums: Of regressors times (value - item base), and of events of each feedback level,
            shape (users, k + levels).
        fading: Decayed sums of (value - item base), of 1, of its square, of the text axes of
            the items met, and of events of each feedback level, shape (users, 3 + axes + levels,
            decays).
        ease: EASE score of the items that EASE covers, shape (users, linear items).
        coming: Score of what comes next, of the same, shape (users, linear items).
        items: Item of each event, oldest first, left-aligned, shape (users, width), int64.
        given: Feedback level of each event, likewise.
        beyond: Value of that level less the item's base, shape (users, width).
        count: Number of events, shape (users,), int64.
    """

    covariance: Tensor
    sums: Tensor
    fading: Tensor
    ease: Tensor
    coming: Tensor
    items: Tensor
    given: Tensor
    beyond: Tensor
    count: Tensor

    def put(self, rows: Tensor, other: Statistics) -> None:
        """Overwrite these rows with another's."""
        self.reserve(other.items.shape[1])
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name in OF_EVENTS:
                mine = mine[:, : theirs.shape[1]]
            mine.index_copy_(0, rows, theirs)

    def take(self, rows: Tensor) -> Statistics:
        """A copy of these rows."""
        names = [field.name for field in fields(self)]
        return Statistics(**{name: getattr(self, name).index_select(0, rows) for name in names})

    def seen(self, rows: Tensor) -> Seen:
        """The events of users (m,)."""
        count = pick(self.count, rows)
        width = int(count.max()) if len(rows) else 0
        used = torch.arange(width, device=rows.device) < count[:, None]
        kept = self.items, self.given, self.beyond
        items, given, beyond = (pick(of[:, :width], rows) for of in kept)
        return Seen(items, given, beyond, used, count)

    def of_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """`sums` and `fading` of users (m,)."""
        return pick(self.sums, rows), pick(self.fading, rows)

    def append(self, rows: Tensor, items: Tensor, levels: Tensor, beyond: Tensor) -> None:
        """One event more for each of the users (m,), whose sums are added elsewhere."""
        self.make_room(rows)
        at = pick(self.count, rows)
        cell = torch.add(at, rows, alpha=self.items.shape[1])
        for name, values in zip(OF_EVENTS, (items, levels, beyond), strict=True):
            getattr(self, name).view(-1).index_copy_(0, cell, values)
        self.count.index_copy_(0, rows, at + 1)

    def consumed(self, rows: Tensor, items: Tensor) -> Tensor:
        """Whether users (m,) met these items (m, k) before; (m, k), bool."""
        events, used = self.events(rows)
        events = nn.functional.pad(
            events.masked_fill(~used, -1), (0, -events.shape[1] % 8), value=-1
        )
        same = events[:, None] == items[..., None]  # (m, k, width)
        if not same.shape[2]:
            return same.any(2)
        return same.view(torch.int64).amax(2) != 0  # eight at a time

    def events(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Items of the events of users (m,), and which places are in use, each (m, width)."""
        count = pick(self.count, rows)
        width = int(count.max()) if len(rows) else 0
        used = torch.arange(width, device=rows.device) < count[:, None]
        return pick(self.items[:, :width], rows), used

    def without_consumed(self, utilities: Tensor, rows: Tensor) -> Tensor:
        """Utilities (m, items), in place -inf for the items that the users (m,) met."""
        events, used = self.events(rows)
        at = torch.nonzero(used)[:, 0]
        utilities[at, events[used]] = -torch.inf
        return utilities

    def make_room(self, rows: Tensor) -> None:
        """For one event more of each of the users (m,), one or more."""
        self.reserve(int(pick(self.count, rows).max()) + 1)

    def reserve(self, width: int) -> None:
        """Make room for this many events a user."""
        short = width - self.items.shape[1]
        if short > 0:
            short = max(short, self.items.shape[1])
            for name in OF_EVENTS:
                setattr(self, name, nn.functional.pad(getattr(self, name), (0, short)))


@dataclass(frozen=True)
class Seen:
    """Events of some users, left-aligned.

    Attributes:
        items: Oldest first, shape (m, width), int64.
        given: Their feedback levels, likewise.
        beyond: The values of these less the items' bases, shape (m, width).
        used: Which places are in use, likewise, bool.
        count: How many are, shape (m,), int64.
    """

    items: Tensor
    given: Tensor
    beyond: Tensor
    used: Tensor
    count: Tensor


@dataclass(frozen=True)
class Known:
    """What is known of users when n items each are asked about.

    Attributes:
        covariance: As in `Statistics`, given the events before, shape (..., k, k).
        moment: Sum of regressors times (value - item base), shape (..., k).
        levels: Events of each feedback level, shape (..., levels).
        recent: Decayed sums of (value - item base), of 1, and of its square, shape (..., 3,
            decays).
        met: Decayed sums of the text axes of the items met, shape (..., decays, axes).
        lately: Decayed sum of events of each feedback level, shape (..., levels).
        opinion: Of the asked item's neighbours among the events, by kind: sums of similarity
            times residual, and of similarity, shape (..., n, 2 kinds).
        scores: Scores of the asked item by EASE and by what comes next, shape (..., n, 2).
    """

    covariance: Tensor
    moment: Tensor
    levels: Tensor
    recent: Tensor
    met: Tensor
    lately: Tensor
    opinion: Tensor
    scores: Tensor
