"""Running sessions of judges, and free-running histories: all users in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.log_slates import Slates
from audience.reward_models.users import CHOICE, FEEDBACK, LEAVE, Assumptions, Response

if TYPE_CHECKING:
    from audience.reward_models.judge_base import Judge

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

AT_A_TIME = 256
"""Slates whose users' states are kept together."""

ROOM = 64
"""Events of a slot that there is room for at first; it doubles as needed."""

STATE = ("scores", "sums", "met", "items", "levels", "count", "known", "stale")
"""What `JudgeStates` keeps between steps. What is known follows from the rest, but in a batch of
another size with other last bits."""


class JudgeStates:
    """What is kept of some users between steps, one a row.

    Args:
        judge: Whose users they are.
        rows: Number of users.
        popularity_discount: Part of log-popularity taken out of the utilities.
    """

    def __init__(self, judge: Judge, rows: int, popularity_discount: float = 0.0) -> None:
        self.judge, self.discount = judge, popularity_discount
        choice = judge.choice
        self.scores = np.zeros((rows, len(choice.decay), len(choice.head)), np.float32)
        self.sums = np.zeros((rows, *choice.factors.shape), np.float32)
        self.met = np.zeros((rows, len(judge.catalogue)), np.bool_)
        self.items = np.zeros((rows, ROOM), np.int64)
        self.levels = np.zeros((rows, ROOM), np.int64)
        self.count = np.zeros(rows, np.int64)
        self.known = np.zeros(self.met.shape)
        self.stale = np.ones(rows, np.bool_)

    def start(self, rows: I64, histories: Histories) -> None:
        """Begin these rows anew, with one history a row."""
        items, levels, lengths = histories.padded()
        self._reserve(items.shape[1])
        self.items[rows, : items.shape[1]], self.levels[rows, : items.shape[1]] = items, levels
        self.count[rows] = lengths
        self.met[rows] = False
        self.met[np.repeat(rows, lengths), histories.items] = True
        self.scores[rows] = self.judge.choice.scores_of(histories)
        self.sums[rows] = self.judge.choice.sums_of(histories)
        self.stale[rows] = True

    def utilities(self, rows: I64) -> F64:
        """Log-probabilities over the catalogue, consumed -inf, shape (rows, items)."""
        self._refresh(rows)
        return self.known[rows]

    def of_slates(self, rows: I64, slates: I64) -> F64:
        """`utilities` of the items of slates alone, shape (rows, k)."""
        self._refresh(rows)
        return self.known[rows[:, None], slates]

    def _refresh(self, rows: I64) -> None:
        """Know anew what has changed; who chose nothing costs no more than a look at the slate."""
        if len(rows := rows[self.stale[rows]]):
            of = self.scores, self.met, self.sums
            self.known[rows] = self.judge.choice.utilities(*of, self.discount, rows)
            self.stale[rows] = False

    def react(self, rows: I64, items: I64, uniforms: F64) -> I64:
        """Draw the level of one item a (distinct) row, and remember the event."""
        self._reserve(int(self.count[rows].max(initial=0)) + 1)
        width = max(int(self.count[rows].max(initial=0)), 1)
        used = np.arange(width) < self.count[rows, None]
        judge = self.judge
        x = judge.features.asked(
            self.items[rows, :width], self.levels[rows, :width], used, items[:, None]
        )
        level = drawn(judge.levels.probabilities(x[:, 0]), uniforms)
        judge.choice.add(self.scores, self.sums, rows, items)
        self.met[rows, items], self.stale[rows] = True, True
        self.items[rows, self.count[rows]], self.levels[rows, self.count[rows]] = items, level
        self.count[rows] += 1
        return level

    def _reserve(self, width: int) -> None:
        short = width - self.items.shape[1]
        if short > 0:
            more = ((0, 0), (0, max(short, self.items.shape[1])))
            self.items, self.levels = np.pad(self.items, more), np.pad(self.levels, more)


class JudgeSessions:
    """A block of sessions of a judge; see `audience.reward_models.users.Sessions`.

    Args:
        judge: Whose users respond.
        slots: Number of sessions.
        assumptions: What the log cannot teach.
        outside: Utility of choosing nothing.
    """

    def __init__(self, judge: Judge, slots: int, assumptions: Assumptions, outside: float) -> None:
        self.states = JudgeStates(judge, slots, judge.discount(assumptions))
        self.outside, self.leaving = outside, judge.answers.leaving(assumptions)

    def start(self, slots: I64, histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        if len(slots):
            self.states.start(slots, histories)

    def respond(self, slates: I64, uniforms: F64, active: NDArray[np.bool_]) -> Response:
        """Show every active slot its slate; draw the response; remember it as history."""
        live = np.flatnonzero(active)
        shown = slates[live]
        judge = self.states.judge
        log_popularity = judge.choice.log_popularity[shown]
        appeal = judge.answers.appeals(self.states.of_slates(live, shown), log_popularity)
        weight = np.exp(appeal)
        copies = (shown[:, :, None] == shown[:, None, :]) & np.tri(shown.shape[1], k=-1, dtype=bool)
        cumulative = np.where(copies.any(2), 0.0, weight).cumsum(1)  # (live, slate)
        whole = cumulative[:, -1] + np.exp(self.outside)
        place = (cumulative <= (uniforms[live, CHOICE] * whole)[:, None]).sum(1)
        chosen = place < shown.shape[1]
        choice, item, level = (np.full(len(slates), -1, np.int64) for _ in range(3))
        accept = np.zeros(len(slates))
        accept[live] = cumulative[:, -1] / whole
        rows = live[chosen]
        choice[rows] = place[chosen]
        item[rows] = slates[rows, choice[rows]]
        if len(rows):
            level[rows] = self.states.react(rows, item[rows], uniforms[rows, FEEDBACK])
        hazard = np.where(choice >= 0, *self.leaving)
        leave = (uniforms[:, LEAVE] < hazard) & active
        none = np.zeros(len(slates))
        return Response(choice, item, level, leave, accept, none + np.nan, none)

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Copies of all that later responses depend on."""
        return {name: getattr(self.states, name).copy() for name in STATE}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what `get_state` gave."""
        for name in STATE:
            setattr(self.states, name, state[name].copy())


def utilities_shown(judge: Judge, histories: Histories, slates: Slates) -> F64:
    """Log-probability of each item shown, after the user's events before; (shown,).

    -inf where the user had consumed it.
    """
    found = np.empty(len(slates.items))
    for begin in range(0, len(slates), AT_A_TIME):
        some = np.arange(begin, min(begin + AT_A_TIME, len(slates)))
        whole, rows = histories.take(slates.user[some]), np.arange(len(some))
        place = np.arange(len(whole.items)) - np.repeat(whole.offsets[:-1], whole.lengths)
        states = JudgeStates(judge, len(some))
        states.start(rows, whole.events(place < np.repeat(slates.earlier[some], whole.lengths)))
        shown = slice(slates.offsets[begin], slates.offsets[some[-1] + 1])
        found[shown] = states.utilities(rows)[slates.row[shown] - begin, slates.items[shown]]
    return found


def drawn(probabilities: F64, uniforms: F64) -> I64:
    """The place at which a running sum exceeds a uniform, (rows, places) to (rows,)."""
    running = probabilities.cumsum(1)
    place = (running <= (uniforms * running[:, -1])[:, None]).sum(1)
    return np.minimum(place, probabilities.shape[1] - 1)


def simulate(judge: Judge, starts: Histories, lengths: I64, seed: int) -> Histories:
    """Continue histories by the users' own choice from the whole catalogue.

    Args:
        judge: Whose users run.
        starts: Where each user begins.
        lengths: Events of each user at the end, shape (users,); a user never gets more than
            there are items, nor loses events of its start.
        seed: Of all draws.
    """
    states = JudgeStates(judge, len(starts))
    states.start(np.arange(len(starts)), starts)
    wanted = np.minimum(lengths, len(judge.catalogue))
    rng = np.random.default_rng(seed)
    while len(rows := np.flatnonzero(states.count < wanted)):
        uniforms = rng.random((len(starts), 2))[rows]
        items = drawn(np.exp(states.utilities(rows)), uniforms[:, 0])
        states.react(rows, items, uniforms[:, 1])
    new = Histories.from_padded(states.items, states.levels, states.count)
    return Histories(starts.users, new.offsets, new.items, new.levels)
