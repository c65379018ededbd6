"""Running sessions of scripted users, one a row, all in step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from audience.reward_models.histories import Histories
from audience.reward_models.scripted_habits import F64, drawn_level
from audience.reward_models.users import CHOICE, DWELL, FEEDBACK, LEAVE, Response

if TYPE_CHECKING:
    from audience.reward_models.scripted import ScriptedUsers


@dataclass
class ScriptedSessions:
    """A block of sessions of scripted users; see `audience.reward_models.users.Sessions`.

    Attributes:
        users: Whose they are.
        slots: How many.
    """

    users: ScriptedUsers
    slots: int

    def __post_init__(self) -> None:
        users = self.users
        self._recent = np.full((self.slots, users.habits.memory), -1, np.int64)
        self.consumed = np.zeros((self.slots, len(users.catalogue)), np.bool_)

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        items, _, lengths = histories.padded()
        self._recent[slots] = self.users.recent(items, lengths)
        self.consumed[slots] = False
        self.consumed[
            np.repeat(slots, histories.lengths), histories.items
        ] = not self.users.allows_repeats

    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: F64,
        active: NDArray[np.bool_],
    ) -> Response:
        """Show every active slot its slate; draw the response; remember it as history."""
        habits, rows = self.users.habits, np.arange(self.slots)
        utility, weight = self._shown(slates)
        choice, accept = _luce(weight, uniforms[:, CHOICE])
        choice = np.where(active, choice, -1)
        chosen = choice >= 0
        own = utility[rows, choice]
        level = drawn_level(habits.level_shares(own), uniforms[:, FEEDBACK])
        hazard = np.where(chosen, habits.leave_by_level[level], habits.leave_after_skip)
        leave = active & (uniforms[:, LEAVE] < hazard)
        noise = ndtri(np.clip(uniforms[:, DWELL], 1e-9, 1 - 1e-9))
        log_seconds = np.log(habits.dwell_seconds) + own / 4 + habits.dwell_spread * noise
        item = np.where(chosen, slates[rows, choice], -1)
        self._remember(rows[chosen], item[chosen])
        return Response(
            choice,
            item,
            np.where(chosen, level, -1),
            leave,
            np.where(active, accept, 0.0),
            np.where(chosen, np.exp(log_seconds), np.nan),
            np.zeros(self.slots),
        )

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Copies of all that later responses depend on."""
        return {"recent": self._recent.copy(), "consumed": self.consumed.copy()}

    def set_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Go on from what `get_state` gave."""
        self._recent[:], self.consumed[:] = state["recent"], state["consumed"]

    def _shown(self, slates: NDArray[np.int64]) -> tuple[F64, F64]:
        """Utility and choice weight of each place, each of shape (slots, slate)."""
        rows, size = np.arange(self.slots)[:, None], slates.shape[1]
        habits = self.users.habits
        of_topics = habits.utilities(self._recent, self.users.n_topics)
        utility = of_topics[rows, self.users.topics[slates]]
        copies = (slates[:, :, None] == slates[:, None, :]) & np.tri(size, k=-1, dtype=np.bool_)
        closed = self.consumed[rows, slates] | copies.any(axis=2)
        seen = utility - habits.position_effect * np.arange(size)
        return utility, np.where(closed, 0.0, np.exp(seen))

    def _remember(self, rows: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        self._recent[rows, 1:] = self._recent[rows, :-1]
        self._recent[rows, 0] = self.users.topics[items]
        self.consumed[rows, items] = not self.users.allows_repeats


def _luce(weight: F64, uniform: F64) -> tuple[NDArray[np.int64], F64]:
    """Place chosen by Luce's rule with an outside option of weight 1, or -1; P(something)."""
    below = weight.cumsum(axis=1)
    whole = below[:, -1] + 1.0
    place = (below <= (uniform * whole)[:, None]).sum(axis=1)
    return np.where(place < weight.shape[1], place, -1), below[:, -1] / whole
