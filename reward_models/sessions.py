"""Running sessions of BERT users: one a row, all in step, past events cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.histories import Histories
from audience.reward_models.incremental import Cache, append, ask, new_cache
from audience.reward_models.inputs import Statistics
from audience.reward_models.users import CHOICE, FEEDBACK, LEAVE, Assumptions, Response

if TYPE_CHECKING:
    from audience.reward_models.bert_users import BertUserModel


@dataclass
class UserStates:
    """What is kept of some users between steps, one a row.

    Attributes:
        statistics: Sums over all their events.
        cache: Keys and values of the summary and the window's events.
        utilities: Log-probability of each item to be chosen next among the catalogue, -inf
            where consumed, shape (rows, items).
    """

    statistics: Statistics
    cache: Cache
    utilities: Tensor


class BehaviourEngine:
    """Runs a behaviour model in use: whole histories in, then one event at a time.

    Args:
        model: The behaviour model, in evaluation mode.
        popularity_discount: Part of log-popularity taken out of the utilities.
        timed: Whether histories stand in time order, so that the choice is that of the next
            event; None: as the model was fitted.
    """

    def __init__(
        self,
        model: BehaviourModel,
        popularity_discount: float = 0.0,
        timed: bool | None = None,
    ) -> None:
        self.model = model
        self.timed = model.config.order == "time" if timed is None else timed
        with torch.inference_mode():
            self.vectors = model.item_vectors()
            self.choices = model.choice_vectors(self.vectors)
            self.discount = popularity_discount * model.log_popularity

    def new_states(self, rows: int) -> UserStates:
        """Room for `rows` users."""
        return UserStates(
            self.model.inputs.empty(rows),
            new_cache(self.model, rows),
            torch.zeros(rows, self.model.config.n_items, device=self.model.device),
        )

    def encode(self, states: UserStates, rows: Tensor, histories: Histories) -> None:
        """Begin these rows anew with whole histories, one a row, in one pass."""
        model = self.model
        items, levels, lengths = (torch.from_numpy(a).to(model.device) for a in histories.padded())
        window = model.config.window
        # What overflows the window leaves room for half a window of coming events.
        first = torch.where(lengths < window, 0, lengths - window // 2)
        everything = model.inputs.of(items, levels, lengths, model.level_values)
        place = torch.arange(items.shape[1], device=model.device)
        mean, liking = self._means(items, levels, place < first[:, None])
        timed = self._timed(rows)
        summary = model.summary_tokens(mean, liking, first.to(mean.dtype), timed)
        width = int((lengths - first).max()) if len(lengths) else 0
        source = (first[:, None] + torch.arange(width, device=model.device)).clamp(
            max=max(items.shape[1] - 1, 0)
        )
        if width:
            items, levels = items.gather(1, source), levels.gather(1, source)
            tokens = self._event_tokens(items, levels, torch.arange(width, device=model.device))
            tokens = torch.cat([summary[:, None], tokens], 1)
        else:
            tokens = summary[:, None]
        states.cache.length[rows] = 0
        hidden = append(model, states.cache, rows, tokens)
        states.cache.length[rows] = 1 + lengths - first
        last = hidden[torch.arange(len(rows), device=model.device), lengths - first]
        states.statistics.put(rows, everything)
        self._refresh(states, rows, last)

    def add(self, states: UserStates, rows: Tensor, items: Tensor, levels: Tensor) -> None:
        """One event more for each of these (distinct) rows, which must have room for it."""
        model = self.model
        model.inputs.add(states.statistics, rows, items, levels, model.level_values)
        position = states.cache.length[rows] - 1
        tokens = self._event_tokens(items[:, None], levels[:, None], position[:, None])
        self._refresh(states, rows, append(model, states.cache, rows, tokens)[:, 0])

    def feedback(self, states: UserStates, rows: Tensor, items: Tensor) -> Tensor:
        """Probability of each feedback level for items asked of rows: (m,), (m, q) to (m, q, L)."""
        statistics = states.statistics
        features = self.model.inputs.query_features(
            statistics.gram[rows],
            statistics.moment[rows],
            statistics.levels[rows],
            statistics.recent[rows],
            items,
            torch.zeros_like(rows),
            self._timed(rows),
        )
        tokens = self.model.query_tokens(self.vectors, items, features)
        hidden = ask(self.model, states.cache, rows, tokens)
        return self.model.feedback_logits(hidden, features).softmax(-1)

    def _event_tokens(self, items: Tensor, levels: Tensor, position: Tensor) -> Tensor:
        model = self.model
        residual = model.level_values[levels] - model.inputs.base[0, items]
        return model.event_tokens(
            self.vectors,
            items,
            levels,
            residual,
            position.expand(items.shape),
            self._timed(items[..., 0])[..., None],
        )

    def _timed(self, rows: Tensor) -> Tensor:
        return torch.full(rows.shape, self.timed, device=rows.device)

    def _means(self, items: Tensor, levels: Tensor, earlier: Tensor) -> tuple[Tensor, Tensor]:
        """Mean item vector of the earlier events, plain and weighted by residual."""
        model = self.model
        if not bool(earlier.any()):
            nothing = self.vectors.new_zeros(len(items), self.vectors.shape[1])
            return nothing, nothing
        residual = (model.level_values[levels] - model.inputs.base[0, items]) / model.inputs.unit[1]
        weight = earlier / earlier.sum(1, keepdim=True).clamp(min=1)
        vectors = self.vectors[items]  # (rows, width, d)
        mean = (weight[..., None] * vectors).sum(1)
        return mean, ((weight * residual)[..., None] * vectors).sum(1)

    def _refresh(self, states: UserStates, rows: Tensor, hidden: Tensor) -> None:
        statistics = states.statistics
        raw = self.model.raw_utilities(
            self.choices,
            hidden,
            statistics.ease[rows],
            statistics.coming[rows],
            statistics.levels[rows].sum(-1),
            self._timed(rows),
        )
        raw = (raw - self.discount).masked_fill(statistics.seen[rows], -torch.inf)
        # A user who consumed the whole catalogue has nothing to choose from, not NaN.
        states.utilities[rows] = raw.log_softmax(-1).nan_to_num(nan=-torch.inf, neginf=-torch.inf)


class BertSessions:
    """A block of sessions of a BERT user model; see `audience.reward_models.users.Sessions`.

    Of a slate, the choice follows from the state that the last event left; only the chosen
    item is then asked for its feedback, and only it enters the history. So each user costs two
    tokens at any slate size, and one who chooses nothing costs none.
    """

    def __init__(
        self, users: BertUserModel, slots: int, slate_size: int, assumptions: Assumptions
    ) -> None:
        self.assumptions = assumptions
        self.engine = BehaviourEngine(users.model, assumptions.popularity_discount)
        self.outside = users.outside_option(slate_size, assumptions)
        self.states = self.engine.new_states(slots)
        # The events themselves, for when a window overflows and is cut anew.
        self._items = np.zeros((slots, 2 * users.model.config.window), np.int64)
        self._levels = np.zeros_like(self._items)
        self._count = np.zeros(slots, np.int64)

    @torch.inference_mode()
    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        if len(slots) == 0:
            return
        items, levels, _ = histories.padded()
        self._reserve(items.shape[1])
        self._items[slots, : items.shape[1]], self._levels[slots, : items.shape[1]] = items, levels
        self._count[slots] = histories.lengths
        self.engine.encode(self.states, self._tensor(slots), histories)

    @torch.inference_mode()
    def respond(
        self,
        slates: NDArray[np.int64],
        uniforms: NDArray[np.float64],
        active: NDArray[np.bool_],
    ) -> Response:
        """Show every active slot its slate; draw the response; remember it as history."""
        choice, accept = self._choose(slates, uniforms[:, CHOICE], active)
        rows = np.flatnonzero(choice >= 0)
        item = np.full(len(slates), -1, np.int64)
        level = item.copy()
        item[rows] = slates[rows, choice[rows]]
        if len(rows):
            level[rows] = self._feedback(rows, item[rows], uniforms[rows, FEEDBACK])
            self._remember(rows, item[rows], level[rows])
        stated = self.assumptions.stated
        hazard = np.where(choice >= 0, stated.leave_after_choice, stated.leave_after_skip)
        leave = (uniforms[:, LEAVE] < hazard) & active
        none = np.zeros(len(slates))
        return Response(choice, item, level, leave, accept, none + np.nan, none)

    @torch.inference_mode()
    def wander(self, slots: NDArray[np.int64], uniforms: NDArray[np.float64]) -> None:
        """One free event for each of these slots: an item of the whole catalogue, its feedback.

        Args:
            slots: Distinct slots, shape (m,).
            uniforms: Draws of item and feedback in [0, 1), shape (m, 2).
        """
        below = self.states.utilities[self._tensor(slots)].double().exp().cumsum(1)
        drawn = torch.from_numpy(uniforms[:, :1]).to(below.device) * below[:, -1:]
        place = torch.searchsorted(below, drawn, right=True)[:, 0]
        items = place.clamp(max=below.shape[1] - 1).cpu().numpy()
        self._remember(slots, items, self._feedback(slots, items, uniforms[:, 1]))

    def histories(self, users: NDArray[np.str_] | None = None) -> Histories:
        """All events of every slot so far, under these names."""
        found = Histories.from_padded(self._items, self._levels, self._count)
        names = found.users if users is None else users
        return Histories(names, found.offsets, found.items, found.levels)

    def _choose(
        self, slates: NDArray[np.int64], uniforms: NDArray[np.float64], active: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Luce's rule over the slate and the outside option: position or -1, P(something)."""
        shown = self._tensor(slates)
        weight = self.states.utilities.gather(1, shown).double().exp()  # (slots, slate)
        again = (shown[:, :, None] == shown[:, None, :]).tril(-1).any(-1)
        weight = weight.masked_fill(again, 0.0)
        mass = weight.sum(1).cpu().numpy()
        total = mass + np.exp(self.outside)
        below = weight.cumsum(1).cpu().numpy() / total[:, None]  # (slots, slate)
        choice = (below <= uniforms[:, None]).sum(1)
        choice[(choice == slates.shape[1]) | ~active] = -1
        return choice, np.where(active, mass / total, 0.0)

    def _feedback(
        self, rows: NDArray[np.int64], items: NDArray[np.int64], uniforms: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        asked = self._tensor(items)[:, None]
        shares = self.engine.feedback(self.states, self._tensor(rows), asked)[:, 0]
        below = shares.double().cumsum(-1).cpu().numpy()  # (rows, levels)
        return (below[:, :-1] <= uniforms[:, None]).sum(1).astype(np.int64)

    def _remember(
        self, rows: NDArray[np.int64], items: NDArray[np.int64], levels: NDArray[np.int64]
    ) -> None:
        self._reserve(int(self._count[rows].max()) + 1)
        self._items[rows, self._count[rows]] = items
        self._levels[rows, self._count[rows]] = levels
        self._count[rows] += 1
        cache = self.states.cache
        full = (cache.length == cache.keys[0].shape[2]).cpu().numpy()[rows]
        room = rows[~full]
        if len(room):
            fresh = self._tensor(items[~full]), self._tensor(levels[~full])
            self.engine.add(self.states, self._tensor(room), *fresh)
        if full.any():
            again = rows[full]
            events = self._items[again], self._levels[again], self._count[again]
            self.engine.encode(self.states, self._tensor(again), Histories.from_padded(*events))

    def _reserve(self, width: int) -> None:
        short = width - self._items.shape[1]
        if short > 0:
            more = ((0, 0), (0, max(short, self._items.shape[1])))
            self._items, self._levels = np.pad(self._items, more), np.pad(self._levels, more)

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.states.utilities.device)
