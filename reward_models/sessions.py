"""Running sessions of BERT users: one a row, all in step, past events cached."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from audience.reward_models.histories import Histories
from audience.reward_models.user_states import UserStates
from audience.reward_models.users import (
    CHOICE,
    DRAWS,
    DWELL,
    FEEDBACK,
    LEAVE,
    Assumptions,
    Response,
)

if TYPE_CHECKING:
    from audience.reward_models.bert_users import BertUserModel


class BertSessions:
    """A block of sessions of a BERT user model; see `audience.reward_models.users.Sessions`.

    Of a slate, the choice follows from the state that the last event left; only the chosen
    item is then asked for its feedback, and only it enters the history. So each user costs two
    tokens at any slate size, and one who chooses nothing costs none.
    """

    def __init__(
        self, users: BertUserModel, slots: int, slate_size: int, assumptions: Assumptions
    ) -> None:
        self.assumptions, self.learned = assumptions, users.learned
        self.engine = users.engine(assumptions.popularity_discount)
        self._users, self._slate_size = users, slate_size
        self.states = self.engine.new_states(slots)
        self._rewards = torch.from_numpy(users.scale.scaled).to(users.device, users.model.dtype)

    @cached_property
    def outside(self) -> float:
        """Utility of choosing nothing."""
        return self._users.outside_option(self._slate_size, self.assumptions)

    @torch.inference_mode()
    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        if len(slots):
            memo = self._users.start_memo(self.assumptions.popularity_discount)
            memo.begin(self.states, self._tensor(slots), histories)

    @torch.inference_mode()
    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        active: NDArray[np.bool_],
    ) -> Response:
        """Show every active slot its slate; draw the response; remember it as history."""
        live = np.flatnonzero(active)
        none = np.full(len(slates), -1, np.int64)
        choice, accept = none.copy(), np.zeros(len(slates))
        choice[live], accept[live] = self._choose(live, slates[live], uniforms[live, CHOICE])
        rows = np.flatnonzero(choice >= 0)
        item, level = none.copy(), none.copy()
        dwell, disagreement = np.full(len(slates), np.nan), np.zeros(len(slates))
        item[rows] = slates[rows, choice[rows]]
        hazard = np.zeros(len(slates))
        before = self._before(live)
        if len(rows):
            drawn = self._react(rows, item[rows], uniforms[rows])
            level[rows], dwell[rows], disagreement[rows] = drawn
        hazard[live] = self._hazards(before, level[live])
        if len(rows):
            self._remember(rows, item[rows], level[rows])
        leave = (uniforms[:, LEAVE] < hazard) & active
        return Response(choice, item, level, leave, accept, dwell, disagreement)

    @torch.inference_mode()
    def wander(self, slots: NDArray[np.int64], uniforms: NDArray[np.float64]) -> NDArray[np.bool_]:
        """One free event for each of these slots: an item of the whole catalogue, its feedback.

        Args:
            slots: Distinct slots, shape (m,).
            uniforms: Draws of item, feedback and leaving in [0, 1), shape (m, 3).

        Returns:
            Whether each leaves then, shape (m,).
        """
        below = self.engine.utilities(self.states, self._tensor(slots)).double().exp().cumsum(1)
        drawn = torch.from_numpy(uniforms[:, :1]).to(below.device) * below[:, -1:]
        place = torch.searchsorted(below, drawn, right=True)[:, 0]
        items = place.clamp(max=below.shape[1] - 1).cpu().numpy()
        before = self._before(slots)
        levels = self.live(slots, items, uniforms[:, 1])
        return uniforms[:, 2] < self._hazards(before, levels)

    @torch.inference_mode()
    def live(
        self, slots: NDArray[np.int64], items: NDArray[np.int64], uniforms: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Draw the feedback on one item for each of these slots, and remember the event.

        Args:
            slots: Distinct slots, shape (m,).
            items: Shape (m,).
            uniforms: Draws of the feedback in [0, 1), shape (m,).

        Returns:
            Levels, shape (m,).
        """
        columns = np.zeros((len(slots), DRAWS))
        columns[:, FEEDBACK] = uniforms
        levels, _, _ = self._react(slots, items, columns)
        self._remember(slots, items, levels)
        return levels

    @torch.inference_mode()
    def expected(self, slots: NDArray[np.int64], slates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Expected reward of showing these slots these slates, (m, slate size) to (m,).

        The probability of each choice times the expected feedback on it, scaled to 0…1.
        """
        at, shown = self._tensor(slots), self._tensor(slates)
        weight = self.engine.appeals(self.states, at, shown).double().exp()  # (m, slate)
        shares = self.engine.ask(self.states, at, shown)[0].softmax(-1).mean(2)
        feedback = (shares @ self._rewards).double()
        total = weight.sum(1) + np.exp(self.outside)
        return np.asarray(((weight * feedback).sum(1) / total).cpu().numpy())

    @torch.inference_mode()
    def remember(
        self, slots: NDArray[np.int64], items: NDArray[np.int64], levels: NDArray[np.int64]
    ) -> None:
        """Add one event to the history of each of these slots, which others have decided."""
        if len(slots):
            self._remember(slots, items, levels)

    def histories(self, users: NDArray[np.str_] | None = None) -> Histories:
        """All events of every slot so far, under these names."""
        of = self.states.statistics
        found = Histories.from_padded(*(t.cpu().numpy() for t in (of.items, of.given, of.count)))
        names = found.users if users is None else users
        return Histories(names, found.offsets, found.items, found.levels)

    def get_state(self) -> UserStates:
        """A copy of what is kept of all slots."""
        return copy.deepcopy(self.states)

    def set_state(self, state: UserStates) -> None:
        """Go on from a copy that `get_state` gave."""
        self.states = copy.deepcopy(state)

    def _choose(
        self,
        slots: NDArray[np.int64],
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Luce's rule over the slate and the outside option: position or -1, P(something)."""
        appeal = self.engine.appeals(self.states, self._tensor(slots), self._tensor(slates))
        below = appeal.double().exp().cumsum(1).cpu().numpy()  # (slots, slate)
        total = below[:, -1] + np.exp(self.outside)
        choice = (below <= (uniforms * total)[:, None]).sum(1)
        return np.where(choice < slates.shape[1], choice, -1), below[:, -1] / total

    def _react(
        self, rows: NDArray[np.int64], items: NDArray[np.int64], uniforms: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Level, seconds and disagreement about the level, of one item a row, each (m,)."""
        logits, features = self.engine.ask(
            self.states, self._tensor(rows), self._tensor(items)[:, None]
        )
        shares = logits[:, 0].softmax(-1)  # (m, members, levels)
        below = shares.mean(1).double().cumsum(-1).cpu().numpy()
        level = (below[:, :-1] <= uniforms[:, FEEDBACK, None]).sum(1).astype(np.int64)
        expected = shares @ self._rewards  # (m, members)
        disagreement = expected.std(1, correction=0).cpu().numpy().astype(np.float64)
        seconds = np.full(len(rows), np.nan)
        if "dwell" in self.learned:
            heads = self.engine.model.slates
            mean, spread = heads.log_seconds(features[:, 0], self._tensor(level))
            noise = ndtri(np.clip(uniforms[:, DWELL], 1e-9, 1 - 1e-9))
            seconds = np.exp(mean.cpu().numpy() + spread.cpu().numpy() * noise)
        return level, seconds, disagreement

    def _before(self, slots: NDArray[np.int64]) -> Tensor | None:
        """The states of these slots, where leaving hangs on them."""
        if "leave" not in self.learned:
            return None
        return self.engine.states(self.states, self._tensor(slots))

    def _hazards(self, before: Tensor | None, level: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probability of leaving after feedback of these levels, -1 where nothing was chosen."""
        stated, given = self.assumptions.stated, self.assumptions
        hazard = np.where(level >= 0, stated.leave_after_choice, stated.leave_after_skip)
        if before is None or not len(level):
            return hazard
        learned = self.engine.model.slates.leave_logit(before, self._tensor(level)).sigmoid()
        # Where the log has no skips, nothing was learned of leaving after one.
        skips = given.leave_after_skip is None and "outside" in self.learned
        asked = given.leave_after_choice is None, skips
        return np.where(np.where(level >= 0, *asked), learned.cpu().numpy(), hazard)

    def _remember(
        self, rows: NDArray[np.int64], items: NDArray[np.int64], levels: NDArray[np.int64]
    ) -> None:
        at, new = self._tensor(rows), (self._tensor(items), self._tensor(levels))
        cache, statistics = self.states.cache, self.states.statistics
        full = cache.length[at] == cache.room
        if not bool(full.any()):
            self.engine.add(self.states, at, *new)
            return
        room = ~full
        self.engine.add(self.states, at[room], new[0][room], new[1][room])
        again = at[full]  # their window overflows, and is cut anew
        count = statistics.count[again].cpu().numpy()
        statistics.reserve(int(count.max()) + 1)
        events, given = (t[again].cpu().numpy() for t in (statistics.items, statistics.given))
        row = np.arange(len(count))
        fresh = full.cpu().numpy()
        events[row, count], given[row, count] = items[fresh], levels[fresh]
        whole = Histories.from_padded(events, given, count + 1)
        slots = rows[fresh]
        names = self.states.names[slots].astype(np.str_)
        whole = Histories(names, whole.offsets, whole.items, whole.levels)
        self.engine.encode(self.states, again, whole, self.states.noted[slots])

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.states.hidden.device)
