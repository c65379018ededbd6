"""How long real sessions last, and those of users that learned when to leave."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.log_slates import Slates
from audience.reward_models.quality_data import FIRST_EVENT, QualityData
from audience.reward_models.signals import taken
from audience.reward_models.simulation import LONGEST
from audience.reward_models.users import DRAWS, Assumptions, UserModel

MOST_SESSIONS = 1_000
"""Real sessions that are simulated, drawn at random where there are more: at 1,000 against 1,000
two samples of one distribution have a KS distance of .04 or so."""

TRIES = 8
"""Slates drawn for each step; the one with the fewest consumed items is shown."""

I64 = NDArray[np.int64]


class RoamingUsers(UserModel, Protocol):
    """Users who also run freely."""

    def roam(self, slots: int) -> RoamingSessions:
        """A block of sessions of users who do."""
        ...


class RoamingSessions(Protocol):
    """Sessions whose users choose from the whole catalogue, and leave."""

    def start(self, slots: I64, histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        ...

    def wander(self, slots: I64, uniforms: NDArray[np.float64]) -> NDArray[np.bool_]:
        """One free event for each of these slots; whether the user leaves after it.

        Args:
            slots: Distinct slots, shape (m,).
            uniforms: Draws of item, feedback and leave in [0, 1), shape (m, 3).
        """
        ...


def session_lengths(users: object, data: QualityData, seed: int) -> tuple[I64, I64] | None:
    """Steps of test users' real sessions, and of those simulated from the same beginnings.

    A step is a slate where the log has slates, else an event. A session begins with all events
    before it, at least FIRST_EVENT, and counts where its end is known: one whose last step is
    not in the data (its item is beyond the catalogue, or a repeat) is joined to the next.
    Both kinds are cut at the longest real one, at most LONGEST steps.

    Where the log has slates, users are shown slates of its commonest size, which are drawn anew
    for every step from all that fitting users were shown, TRIES a step, of which that with the
    fewest consumed items is taken: the logging policy as it was on average, without what it knew
    of the single user.

    Args:
        users: A `UserModel`; `learned` names what it learned, "leave" among it or not.
        data: All users, with their signals.
        seed: Of the simulation.

    Returns:
        Lengths of real and of simulated sessions, as many of each; None where the log has no
        sessions, the users learned no leaving, or no session has enough events before it.
    """
    if data.signals is None or "leave" not in getattr(users, "learned", frozenset()):
        return None
    signals, model = data.signals["test"], cast(UserModel, users)
    ends = signals.ends if signals.slates is None else signals.slates.ends
    if ends is None:
        return None
    if signals.slates is None:
        user = np.repeat(np.arange(len(data.test)), data.test.lengths)
        earlier = np.arange(len(user)) - data.test.offsets[user]
    else:
        user, earlier = signals.slates.user, signals.slates.earlier
    first, real = _runs(user, ends)
    late = np.flatnonzero(earlier[first] >= FIRST_EVENT)
    rng = np.random.default_rng(seed)
    if len(late) > MOST_SESSIONS:
        late = np.sort(rng.choice(late, MOST_SESSIONS, replace=False))
    first, real = first[late], real[late]
    if not len(real):
        return None
    longest = min(int(real.max()), LONGEST)
    starts = _until(data.test, user[first], earlier[first])
    if signals.slates is None:
        simulated = _wandered(cast(RoamingUsers, users), starts, longest, rng)
    else:
        pool = _pool(cast(Slates, data.signals["fitting"].slates))
        if not len(pool):
            return None
        simulated = _shown(model, starts, pool, longest, rng)
    return np.minimum(real, longest), simulated


def _runs(user: I64, ends: NDArray[np.bool_]) -> tuple[I64, I64]:
    """First step and number of steps of each session whose end is known."""
    rows = np.arange(len(user))
    begins = np.ones(len(user), np.bool_)
    begins[1:] = ends[:-1] | (user[1:] != user[:-1])
    first = rows[begins]
    run = np.cumsum(begins) - 1  # of each step
    return first[run[ends]], rows[ends] - first[run[ends]] + 1


def _until(histories: Histories, rows: I64, events: I64) -> Histories:
    """The first so many events of each of these rows."""
    whole = histories.take(rows)
    place = np.arange(len(whole.items)) - np.repeat(whole.offsets[:-1], whole.lengths)
    keep = place < np.repeat(events, whole.lengths)
    offsets = np.concatenate([[0], np.cumsum(events)]).astype(np.int64)
    return Histories(whole.users, offsets, whole.items[keep], whole.levels[keep])


def _pool(slates: Slates) -> I64:
    """The items of all slates of the commonest size, shape (slates, size)."""
    if not len(slates):
        return np.zeros((0, 1), np.int64)
    size = int(np.bincount(slates.sizes).argmax())
    return taken(slates, np.flatnonzero(slates.sizes == size)).items.reshape(-1, size)


def _wandered(
    users: RoamingUsers, starts: Histories, longest: int, rng: np.random.Generator
) -> I64:
    """Events until each user leaves, shape (starts,)."""
    slots = len(starts)
    sessions = users.roam(slots)
    sessions.start(np.arange(slots), starts)
    steps, going = np.zeros(slots, np.int64), np.arange(slots)
    # A user who consumed the whole catalogue has nothing to go on with.
    room = len(users.catalogue) - starts.lengths
    for _ in range(longest):
        going = going[steps[going] < room[going]]
        if not len(going):
            break
        left = sessions.wander(going, rng.random((slots, 3))[going])
        steps[going] += 1
        going = going[~left]
    return steps


def _shown(
    users: UserModel, starts: Histories, pool: I64, longest: int, rng: np.random.Generator
) -> I64:
    """Slates until each user leaves, shape (starts,)."""
    slots = len(starts)
    rows = np.arange(slots)
    sessions = users.open(slots, pool.shape[1], Assumptions())
    sessions.start(rows, starts)
    consumed = np.zeros((slots, len(users.catalogue)), np.bool_)
    consumed[np.repeat(rows, starts.lengths), starts.items] = True
    steps, active = np.zeros(slots, np.int64), np.ones(slots, np.bool_)
    for _ in range(longest):
        if not active.any():
            break
        drawn = pool[rng.integers(len(pool), size=(slots, TRIES))]  # (slots, TRIES, size)
        old = consumed[rows[:, None, None], drawn].sum(2)
        slates = drawn[rows, old.argmin(1)]
        response = sessions.respond(slates, rng.random((slots, DRAWS)), active)
        steps += active
        chosen = response.choice >= 0
        consumed[rows[chosen], response.item[chosen]] = True
        active = active & ~response.leave
    return steps
