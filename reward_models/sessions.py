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
from audience.reward_models.incremental import Part
from audience.reward_models.parts import one_thread
from audience.reward_models.user_states import UserStates
from audience.reward_models.user_statistics import pick
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

    Args:
        users: Who live.
        slots: Sessions.
        slate_size: Items shown at a step.
        assumptions: What is assumed of the users.
        free: Whether they run freely (`wander`): their choice is tilted then (`ChoiceTilt`).
    """

    def __init__(
        self,
        users: BertUserModel,
        slots: int,
        slate_size: int,
        assumptions: Assumptions,
        free: bool = False,
    ) -> None:
        self.assumptions, self.learned = assumptions, users.learned
        self._stated, self._free = assumptions.stated, free
        self.engine = users.engine(assumptions.popularity_discount, free)
        self._users, self._slate_size = users, slate_size
        self.states = self.engine.new_states(slots)
        self._rewards = users.scale.scaled

    @cached_property
    def outside(self) -> float:
        """Utility of choosing nothing."""
        return self._users.outside_option(self._slate_size, self.assumptions)

    @torch.inference_mode()
    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        if len(slots):
            rows = self._tensor(slots)
            with one_thread(rows.device, len(slots)):
                memo = self._users.start_memo(self.assumptions.popularity_discount, self._free)
                memo.begin(self.states, rows, histories)

    @torch.inference_mode()
    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        active: NDArray[np.bool_],
    ) -> Response:
        """Show every active slot its slate; draw the response; remember it as history."""
        live, outside = np.flatnonzero(active), np.exp(self.outside)
        with one_thread(self.states.hidden.device):
            if len(live) == len(slates):
                return self._answer(live, slates, uniforms, outside)
            answer = self._answer(live, slates[live], uniforms[live], outside)
        found = Response.nothing(len(slates))
        for name, values in vars(answer).items():
            getattr(found, name)[live] = values
        return found

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
        before = self._before(self._tensor(slots))
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
        rows, met = self._tensor(slots), self._tensor(items)
        levels, _, _, past = self._react(rows, met, columns)
        self._remember(rows, met, self._tensor(levels), past)
        return levels

    @torch.inference_mode()
    def expected(self, slots: NDArray[np.int64], slates: NDArray[np.int64]) -> NDArray[np.float64]:
        """Expected reward of showing these slots these slates, (m, slate size) to (m,).

        The probability of each choice times the expected feedback on it, scaled to 0…1.
        """
        at, shown = self._tensor(slots), self._tensor(slates)
        weight = self.engine.appeals(self.states, at, shown).double().exp().cpu().numpy()
        shares = self.engine.feedback(self.states, at, shown).mean(2).cpu().numpy()
        feedback = shares @ self._rewards  # (m, slate), float64
        return np.asarray((weight * feedback).sum(1) / (weight.sum(1) + np.exp(self.outside)))

    @torch.inference_mode()
    def remember(
        self, slots: NDArray[np.int64], items: NDArray[np.int64], levels: NDArray[np.int64]
    ) -> None:
        """Add one event to the history of each of these slots, which others have decided."""
        if len(slots):
            self._remember(self._tensor(slots), self._tensor(items), self._tensor(levels), None)

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

    def _answer(
        self,
        slots: NDArray[np.int64],
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        outside: float,
    ) -> Response:
        """The response of some slots alone, one row each; other slots are not touched."""
        rows, found = self._tensor(slots), Response.nothing(len(slots))
        found.choice[:], found.accept_probability[:] = self._choose(
            rows, self._tensor(slates), uniforms[:, CHOICE], outside
        )
        before, some = self._before(rows), np.flatnonzero(found.choice >= 0)
        if not len(some):
            found.leave[:] = uniforms[:, LEAVE] < self._hazards(before, found.level)
            return found
        choosers, some = self._by_length(rows[self._tensor(some)], some)
        found.item[some] = slates[some, found.choice[some]]
        items = self._tensor(found.item[some])
        levels, seconds, disagreement, past = self._react(choosers, items, uniforms[some])
        found.level[some], found.dwell_seconds[some] = levels, seconds
        found.disagreement[some] = disagreement
        found.leave[:] = uniforms[:, LEAVE] < self._hazards(before, found.level)
        self._remember(choosers, items, self._tensor(levels), past)
        return found

    def _by_length(
        self, rows: Tensor, places: NDArray[np.int64]
    ) -> tuple[Tensor, NDArray[np.int64]]:
        """Rows, and what stands for each, by rising length, as `ask` has them best."""
        if len(rows) == 1:
            return rows, places
        order = pick(self.states.cache.length, rows).argsort(stable=True)
        return rows.index_select(0, order), places[order.cpu().numpy()]

    def _choose(
        self, rows: Tensor, slates: Tensor, uniforms: NDArray[np.float64], outside: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Luce's rule over the slate and nothing, of this weight: position or -1, P(something)."""
        appeal = self.engine.appeals(self.states, rows, slates)
        below = appeal.double().exp_().cumsum(1).cpu().numpy()  # (slots, slate)
        total = below[:, -1] + outside
        choice = (below <= (uniforms * total)[:, None]).sum(1)
        return np.where(choice < slates.shape[1], choice, -1), below[:, -1] / total

    def _react(
        self, rows: Tensor, items: Tensor, uniforms: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], list[Part] | None]:
        """Level, seconds and disagreement about the level, of one item a row, each (m,).

        And what was looked up of the rows, for `_remember`.
        """
        asked = self.engine.ask(self.states, rows, items[:, None])
        shares = asked.logits[:, 0].softmax(-1).cpu().numpy()  # (m, members, levels)
        below = shares.mean(1).astype(np.float64).cumsum(-1)
        level = (below[:, :-1] <= uniforms[:, FEEDBACK, None]).sum(1)
        expected = shares @ self._rewards  # (m, members), float64
        apart = expected - expected.mean(1, keepdims=True)
        disagreement = np.sqrt((apart * apart).mean(1))
        seconds = np.full(len(rows), np.nan)
        if "dwell" in self.learned:
            heads = self.engine.model.slates
            mean, spread = heads.log_seconds(asked.features[:, 0], self._tensor(level))
            noise = ndtri(np.clip(uniforms[:, DWELL], 1e-9, 1 - 1e-9))
            seconds = np.exp(mean.cpu().numpy() + spread.cpu().numpy() * noise)
        return level, seconds, disagreement, asked.past

    def _before(self, rows: Tensor) -> Tensor | None:
        """The states of these rows, where leaving hangs on them."""
        return self.engine.states(self.states, rows) if "leave" in self.learned else None

    def _hazards(self, before: Tensor | None, level: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probability of leaving after feedback of these levels, -1 where nothing was chosen."""
        stated, given = self._stated, self.assumptions
        hazard = np.where(level >= 0, stated.leave_after_choice, stated.leave_after_skip)
        if before is None or not len(level):
            return hazard
        learned = self.engine.model.slates.leave_logit(before, self._tensor(level)).sigmoid()
        # Where the log has no skips, nothing was learned of leaving after one.
        skips = given.leave_after_skip is None and "outside" in self.learned
        asked = given.leave_after_choice is None, skips
        return np.where(np.where(level >= 0, *asked), learned.cpu().numpy(), hazard)

    def _remember(
        self, rows: Tensor, items: Tensor, levels: Tensor, past: list[Part] | None
    ) -> None:
        cache, statistics = self.states.cache, self.states.statistics
        full = pick(cache.length, rows) == cache.room
        if not bool(full.any()):
            self.engine.add(self.states, rows, items, levels, past=past)
            return
        room = ~full
        self.engine.add(self.states, rows[room], items[room], levels[room])
        again = rows[full]  # their window overflows, and is cut anew
        count = statistics.count[again].cpu().numpy()
        statistics.reserve(int(count.max()) + 1)
        events, given = (t[again].cpu().numpy() for t in (statistics.items, statistics.given))
        row = np.arange(len(count))
        events[row, count], given[row, count] = (t[full].cpu().numpy() for t in (items, levels))
        whole = Histories.from_padded(events, given, count + 1)
        slots = again.cpu().numpy()
        names = self.states.names[slots].astype(np.str_)
        whole = Histories(names, whole.offsets, whole.items, whole.levels)
        self.engine.encode(self.states, again, whole, self.states.noted[slots])

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.states.hidden.device)
