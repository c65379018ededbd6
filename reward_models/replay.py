"""Users who answer with the feedback that real users gave: no model is in the loop."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import (
    POPULATIONS,
    START_EVENTS,
    Assumptions,
    Population,
    Response,
)

if TYPE_CHECKING:
    from audience.reward_models.log import InteractionLog

PICKS = 10
"""Items recommended to each user in a replay."""

REPLAY_EVENTS = START_EVENTS + 4 * PICKS
"""Events of users who are replayed: where fewer are left to pick from, a good pick is no feat;
played to the end all agents tie."""


class ReplayUsers:
    """Real users, as a `UserModel` for slates of one item.

    A session shows first events of a user (`starts`); what is shown then is answered with the
    level that this very user gave to the item, without choice (something is always chosen) and
    without leave. Only items that the user really rated, and that the session has not shown
    yet, are open; anything else is answered with nothing chosen. Draws change nothing.

    Args:
        catalogue: The items.
        scale: The feedback scale.
        histories: Whole histories of each population, no item twice for one user. Users with
            fewer than `min_events` events are left out.
        min_events: Least events of a user, at least START_EVENTS + 1.

    Raises:
        ValueError: `min_events` is out of range, or no user has as many events.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        scale: FeedbackScale,
        histories: dict[Population, Histories],
        min_events: int = REPLAY_EVENTS,
    ) -> None:
        if min_events <= START_EVENTS:
            raise ValueError(
                f"min_events must be at least {START_EVENTS + 1} (the events shown, and one to "
                f"pick), got {min_events!r}"
            )
        self._catalogue, self._scale = catalogue, scale
        parts, self._starts = [], {}
        for name in POPULATIONS:
            # The pseudonyms that a fit of users to the same split gives to the same people.
            whole = histories[name]
            names = np.array([f"{name}-{user}" for user in range(len(whole))], dtype=np.str_)
            part = Histories(names, whole.offsets, whole.items, whole.levels)
            part = part.at_least(min_events)
            self._starts[name] = part.first(START_EVENTS)
            parts.append(part)
        names = np.concatenate([part.users for part in parts])
        if len(names) == 0:
            longest = max(int(part.lengths.max(initial=0)) for part in histories.values())
            raise ValueError(
                f"a replay needs users with at least {min_events} events on items of the "
                f"catalogue, but the longest history has {longest}; give a log with more events "
                f"a user, or lower min_events"
            )
        self.rows = {name: row for row, name in enumerate(names.tolist())}
        lengths = np.concatenate([part.lengths for part in parts])
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        items = np.concatenate([part.items for part in parts])
        levels = np.concatenate([part.levels for part in parts])
        of = np.repeat(np.arange(len(names)), lengths)
        order = np.lexsort((items, of))
        self.items, self.levels = items[order], levels[order]  # by user, then by item
        self.keys = of * len(catalogue) + self.items

    @classmethod
    def of(
        cls,
        log: str | InteractionLog = "movielens",
        half: Literal["a", "b"] | None = None,
        seed: int = 0,
    ) -> ReplayUsers:
        """The users of a log, split as a fit of users would split them.

        Args:
            log: Name of a log, or the log itself.
            half: As in `BertUserModel.fit`; test users are the same for either half.
            seed: Of the split.

        Raises:
            LogError: The log is too small to split.
            ValueError: No user has enough events.
        """
        if isinstance(log, str):
            return _of_name(log, half, seed)
        from audience.reward_models.fit_data import FitData  # polars only where needed

        data = FitData.of(log, half, seed)
        return cls(data.catalogue, data.scale, data.histories)

    @property
    def catalogue(self) -> Catalogue:
        """The items that the log's users met often enough."""
        return self._catalogue

    @property
    def scale(self) -> FeedbackScale:
        """The levels of their feedback."""
        return self._scale

    def starts(self, population: Population) -> Histories:
        """The first START_EVENTS events of the users of a population, under pseudonyms."""
        return self._starts[population]

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> ReplaySessions:
        """A block of `slots` sessions; nothing is assumed.

        Raises:
            ValueError: Slates have more than one item: real users were asked one at a time.
        """
        del assumptions
        if slate_size != 1:
            raise ValueError(
                f"slate_size must be 1 in a replay, which knows feedback on single items and no "
                f"choices among several, got {slate_size}"
            )
        return ReplaySessions(self, slots)


class ReplaySessions:
    """A block of replays; see `audience.reward_models.users.Sessions`.

    Attributes:
        open: Which items each session may still be shown, shape (slots, items), bool.
    """

    def __init__(self, users: ReplayUsers, slots: int) -> None:
        self.users = users
        self.open = np.zeros((slots, len(users.catalogue)), np.bool_)
        self._rows = np.zeros(slots, np.int64)

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot.

        Raises:
            ValueError: A history is of nobody whose real feedback is known.
        """
        names = histories.users.tolist()
        unknown = [name for name in names if name not in self.users.rows]
        if unknown:
            raise ValueError(
                f"a replay knows feedback of real users only: start from one of them by "
                f"options={{'user': ...}}, got a history of {unknown[0]!r}"
            )
        users = self.users
        rows = self._rows[slots] = np.array([users.rows[name] for name in names], np.int64)
        first, lengths = users.offsets[rows], np.diff(users.offsets)[rows]
        ends = np.cumsum(lengths)
        rated = np.repeat(first - ends + lengths, lengths) + np.arange(lengths.sum())
        self.open[slots] = False
        self.open[np.repeat(slots, lengths), users.items[rated]] = True
        self.open[np.repeat(slots, histories.lengths), histories.items] = False

    def open_items(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which items these sessions may be shown, shape (slots, items)."""
        return self.open[slots]

    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        active: NDArray[np.bool_],
    ) -> Response:
        """Answer with the real level, where the item is open."""
        del uniforms
        users, slots = self.users, np.arange(len(slates))
        shown = slates[:, 0]
        chosen = self.open[slots, shown] & active
        rows = slots[chosen]
        at = np.searchsorted(users.keys, self._rows[rows] * len(users.catalogue) + shown[rows])
        level = np.full(len(slates), -1, np.int64)
        level[rows] = users.levels[at]
        self.open[rows, shown[rows]] = False
        none = np.zeros(len(slates))
        return Response(
            np.where(chosen, 0, -1),
            np.where(chosen, shown, -1),
            level,
            np.zeros(len(slates), np.bool_),
            chosen.astype(np.float64),
            none + np.nan,
            none,
        )

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Copies of all that later responses depend on."""
        return {"open": self.open.copy(), "rows": self._rows.copy()}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what `get_state` gave."""
        self.open[:], self._rows[:] = state["open"], state["rows"]


@lru_cache(maxsize=4)
def _of_name(log: str, half: Literal["a", "b"] | None, seed: int) -> ReplayUsers:
    """Shared by the environments of a process."""
    from audience.reward_models.log import InteractionLog

    return ReplayUsers.of(InteractionLog.load(log), half, seed)
