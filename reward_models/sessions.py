"""Running sessions of BERT users: one a row, all in step, past events cached."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.histories import Histories
from audience.reward_models.incremental import Cache, append, ask, new_cache
from audience.reward_models.inputs import Statistics
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


@dataclass
class UserStates:
    """What is kept of some users between steps, one a row.

    Attributes:
        statistics: Sums over all their events.
        cache: Keys and values of the summary and the window's events.
        interests: Decayed sums of the vectors of their items, shape (rows, interests, d).
        hidden: Output of each row's latest event, shape (rows, d).
    """

    statistics: Statistics
    cache: Cache
    interests: Tensor
    hidden: Tensor


class BehaviourEngine:
    """Runs a behaviour model in use: whole histories in, then one event at a time.

    Args:
        model: The behaviour model, in evaluation mode.
        popularity_discount: Part of log-popularity taken out of the utilities.
        timed: Whether histories stand in time order, so that the choice is that of the next
            event; None: as the model was fitted.
        tilted: Whether the choice is tilted so that free-running users stay like real ones.
    """

    def __init__(
        self,
        model: BehaviourModel,
        popularity_discount: float = 0.0,
        timed: bool | None = None,
        tilted: bool = True,
    ) -> None:
        self.model, self.tilted = model, tilted
        self.timed = model.config.order == "time" if timed is None else timed
        with torch.inference_mode():
            self.vectors = model.item_vectors()
            self.choices = model.choice_vectors(self.vectors)
            self.looks = model.slates.look(self.vectors) if model.config.places else None
            self.discount = popularity_discount * model.log_popularity

    def new_states(self, rows: int) -> UserStates:
        """Room for `rows` users."""
        config, device = self.model.config, self.model.device
        interests = len(self.model.interest_decays)
        return UserStates(
            self.model.inputs.empty(rows),
            new_cache(self.model, rows),
            torch.zeros(rows, interests, config.hidden_size, device=device),
            torch.zeros(rows, config.hidden_size, device=device),
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
        interests = self._interests(items, lengths)
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
        states.interests[rows] = interests
        states.hidden[rows] = last

    def add(self, states: UserStates, rows: Tensor, items: Tensor, levels: Tensor) -> None:
        """One event more for each of these (distinct) rows, which must have room for it."""
        if not len(rows):
            return
        model = self.model
        model.inputs.add(states.statistics, rows, items, levels, model.level_values)
        kept = states.interests[rows] * model.interest_decays[:, None]
        states.interests[rows] = kept + self.vectors[items][:, None]
        position = states.cache.length[rows] - 1
        tokens = self._event_tokens(items[:, None], levels[:, None], position[:, None])
        states.hidden[rows] = append(model, states.cache, rows, tokens)[:, 0]

    def feedback(self, states: UserStates, rows: Tensor, items: Tensor) -> Tensor:
        """Probability of each feedback level for items asked of rows, by each member.

        Args:
            states: Of all users.
            rows: The users asked, shape (m,).
            items: Shape (m, q).

        Returns:
            Shape (m, q, members, levels).
        """
        return self.ask(states, rows, items)[0].softmax(-1)

    def ask(self, states: UserStates, rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Feedback logits (m, q, members, levels), and scaled features (m, q, features)."""
        model, features = self.model, self._features(states, rows, items)
        interests = states.interests[rows][:, None]
        tokens = model.query_tokens(self.vectors[items], features, interests)
        hidden = ask(model, states.cache, rows, tokens)
        return model.feedback_logits(hidden, features), features

    def states(self, states: UserStates, rows: Tensor) -> Tensor:
        """What choices of these rows hang on, shape (m, n_state)."""
        count = states.statistics.count[rows].to(states.hidden.dtype)
        return self.model.states(states.hidden[rows], states.interests[rows], count)

    def utilities(self, states: UserStates, rows: Tensor) -> Tensor:
        """Log-probability of each item to be next, -inf where consumed, shape (m, items)."""
        statistics, model, tilt = states.statistics, self.model, None
        if self.tilted:
            tilt = model.tilt_context(statistics, rows)
        raw = model.raw_utilities(
            self.choices,
            self.states(states, rows),
            statistics.ease[rows],
            statistics.coming[rows],
            self._timed(rows),
            None if tilt is None else model.tilt.gates(tilt),
        )
        if tilt is not None:
            raw = raw + model.tilt.utilities(tilt)
        raw = (raw - self.discount).masked_fill(statistics.seen[rows], -torch.inf)
        # A user who consumed the whole catalogue has nothing to choose from, not NaN.
        return raw.log_softmax(-1).nan_to_num(nan=-torch.inf, neginf=-torch.inf)

    def appeals(self, states: UserStates, rows: Tensor, slates: Tensor) -> Tensor:
        """Utility of the items of slates, in their places, -inf where consumed, shape (m, k).

        Over nothing (0) where the outside option is learned; else the log-probability to be
        next. The second copy of an item in a slate counts as consumed.

        Args:
            states: Of all users.
            rows: The users asked, shape (m,).
            slates: Shape (m, k).
        """
        if self.looks is None:
            appeal = self.utilities(states, rows).gather(1, slates)
        else:
            places = torch.arange(slates.shape[1], device=slates.device).expand(slates.shape)
            appeal = self._appeals(states, rows, slates, places)
        again = (slates[:, :, None] == slates[:, None, :]).tril(-1).any(-1)
        return appeal.masked_fill(again, -torch.inf)

    def worth(self, states: UserStates, rows: Tensor) -> Tensor:
        """Utilities of all items as `appeals` of slates of one, shape (m, items)."""
        if self.looks is None:
            return self.utilities(states, rows)
        every = torch.arange(len(self.vectors), device=rows.device).expand(len(rows), -1)
        return self._appeals(states, rows, every, torch.zeros_like(every))

    def _appeals(self, states: UserStates, rows: Tensor, slates: Tensor, places: Tensor) -> Tensor:
        assert self.looks is not None
        features = self._features(states, rows, slates)
        state = self.states(states, rows)
        appeal = self.model.slates.appeal(state, self.looks[slates], features, places)
        return appeal.masked_fill(states.statistics.seen[rows[:, None], slates], -torch.inf)

    def _features(self, states: UserStates, rows: Tensor, items: Tensor) -> Tensor:
        """Scaled query features of items asked of rows, (m,) and (m, q) to (m, q, features)."""
        model = self.model
        known = model.inputs.known(states.statistics, rows, items, model.level_values)
        raw = model.inputs.query_features(known, items, torch.zeros_like(rows), self._timed(rows))
        return model.scaled(raw)

    def _interests(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Decayed sums of the vectors of left-aligned events, (m, interests, d)."""
        place = torch.arange(items.shape[1], device=items.device)
        age = lengths[:, None] - 1 - place
        weight = self.model.interest_decays[:, None] ** age.clamp(min=0)[:, None]
        return (weight * (age >= 0)[:, None]) @ self.vectors[items]

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
        self.engine = BehaviourEngine(users.model, assumptions.popularity_discount)
        self._users, self._slate_size = users, slate_size
        self.states = self.engine.new_states(slots)
        self._rewards = torch.from_numpy(users.scale.scaled).to(users.model.dtype)

    @cached_property
    def outside(self) -> float:
        """Utility of choosing nothing."""
        return self._users.outside_option(self._slate_size, self.assumptions)

    @torch.inference_mode()
    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        """Begin a new session in each of these slots, with one history a slot."""
        if len(slots):
            self.engine.encode(self.states, self._tensor(slots), histories)

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
        expected = shares @ self._rewards.to(shares.device)  # (m, members)
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
        asked = given.leave_after_choice is None, given.leave_after_skip is None
        return np.where(np.where(level >= 0, *asked), learned.cpu().numpy(), hazard)

    def _remember(
        self, rows: NDArray[np.int64], items: NDArray[np.int64], levels: NDArray[np.int64]
    ) -> None:
        at, new = self._tensor(rows), (self._tensor(items), self._tensor(levels))
        cache, statistics = self.states.cache, self.states.statistics
        full = cache.length[at] == cache.keys[0].shape[2]
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
        self.engine.encode(self.states, again, whole)

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.states.hidden.device)
