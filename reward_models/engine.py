"""A behaviour model in use: whole histories in, then one event at a time, past events cached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding

from audience.reward_models.about_users import NOBODY, NOTE_DECAY, NOTE_PRIOR, note_sums
from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.choosing import Choosing
from audience.reward_models.frozen import FrozenFeedback, FrozenTokens, frozen, in_dtype
from audience.reward_models.histories import Histories
from audience.reward_models.incremental import Part, append, ask, new_cache, pass_one, shares
from audience.reward_models.inputs import TEXT_AXES
from audience.reward_models.parts import side_by_side
from audience.reward_models.query_features import Scales, item_features, query_features
from audience.reward_models.text_nearness import latest_axes
from audience.reward_models.user_states import UserStates
from audience.reward_models.user_statistics import Statistics, pick, put


@dataclass(frozen=True)
class Asked:
    """What is said of items that users are asked about.

    Attributes:
        logits: Of the feedback levels by each member, shape (m, q, members, levels).
        features: Scaled features of the queries, shape (m, q, features).
        past: What was looked up of the users, for the event that may follow; where q is 1.
    """

    logits: Tensor
    features: Tensor
    past: list[Part] | None


class BehaviourEngine:
    """Runs a behaviour model in use: whole histories in, then one event at a time.

    Args:
        model: The behaviour model, in evaluation mode.
        popularity_discount: Part of log-popularity taken out of the utilities.
        timed: Whether histories stand in time order, so that the choice is that of the next
            event; None: as the model was fitted.
        tilted: Whether users run freely, and the choice is tilted so that they stay like real ones.
        dtype: What the blocks of the tower and the heads of feedback compute in, and what keys and
            values are kept in: float32, or bfloat16 where that is faster.
    """

    def __init__(
        self,
        model: BehaviourModel,
        popularity_discount: float = 0.0,
        timed: bool | None = None,
        tilted: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.dtype = model, dtype
        self.timed = model.config.order == "time" if timed is None else timed
        self.blocks, config = frozen(model, dtype), model.config
        self._further = bool(config.places or config.context_dim or config.note_dim)
        with torch.inference_mode():
            self.feedback_heads = in_dtype(FrozenFeedback.of(model), dtype)
            self.vectors = model.item_vectors()
            self._tokens = FrozenTokens.of(model, self.vectors, self.timed)
            every = torch.arange(len(self.vectors), device=model.device)
            # What is looked up of each item asked about: regressors, and its own features.
            of_items = model.inputs.design[0], item_features(model.inputs, 0, every)
            self._asked = torch.cat(of_items, 1)
            self._scales = Scales.of(model.inputs, 0)
            self.looks = model.slates.look(self.vectors) if model.config.places else None
            self.choosing = Choosing(model, self.vectors, popularity_discount, self.timed, tilted)

    def new_states(self, rows: int, events: int | None = None) -> UserStates:
        """Room for `rows` users, with so many events at most; by default the model's window."""
        model = self.model
        config, new = model.config, model.item_bias.weight.new_zeros
        return UserStates(
            statistics=model.inputs.empty(rows),
            cache=new_cache(model, rows, events, self.dtype),
            interests=new(rows, len(model.interest_decays), config.hidden_size),
            hidden=new(rows, config.hidden_size),
            mixed=new(rows, self.choosing.sides.shape[1] + 3),
            stale=torch.ones(rows, dtype=torch.bool, device=model.device),
            names=np.full(rows, NOBODY, np.object_),
            noted=np.zeros(rows, np.int64),
            context=new(rows, config.context_dim),
            note_sum=new(rows, config.note_dim),
            note_weight=new(rows),
            note_last=new(rows, config.note_dim),
        )

    def encode(
        self,
        states: UserStates,
        rows: Tensor,
        histories: Histories,
        noted: NDArray[np.int64] | None = None,
    ) -> None:
        """Begin these rows anew with whole histories, one a row, in one pass.

        Args:
            states: Changed in place.
            rows: Distinct rows, shape (m,).
            histories: One a row; features and notes are those of their users' names.
            noted: How many first events of each are real ones, whose notes count; None: all.
        """
        model = self.model
        notes = self._introduce(states, rows, histories, noted)
        items, levels, lengths = (torch.from_numpy(a).to(model.device) for a in histories.padded())
        window = model.config.window
        # What overflows the window leaves room for half a window of coming events.
        first = torch.where(lengths < window, 0, lengths - window // 2)
        everything = model.inputs.of(items, levels, lengths, model.level_values)
        place = torch.arange(items.shape[1], device=model.device)
        mean, liking = self._means(items, levels, place < first[:, None])
        interests = self._interests(items, lengths)
        timed = self._timed(rows)
        context = states.context[rows]
        summary = model.summary_tokens(mean, liking, first.to(mean.dtype), timed, context)
        width = int((lengths - first).max()) if len(lengths) else 0
        source = (first[:, None] + torch.arange(width, device=model.device)).clamp(
            max=max(items.shape[1] - 1, 0)
        )
        if width:
            items, levels = items.gather(1, source), levels.gather(1, source)
            position = torch.arange(width, device=model.device)
            if notes is not None:
                notes = notes.gather(1, source[..., None].expand(-1, -1, notes.shape[2]))
            tokens = self._event_tokens(items, levels, position, notes)
            tokens = torch.cat([summary[:, None], tokens], 1)
        else:
            tokens = summary[:, None]
        states.cache.length[rows] = 0
        hidden = append(self.blocks, states.cache, rows, tokens)
        states.cache.length[rows] = 1 + lengths - first
        last = hidden[torch.arange(len(rows), device=model.device), lengths - first]
        states.statistics.put(rows, everything)
        states.interests[rows] = interests
        states.hidden[rows] = last
        states.stale[rows] = True

    def add(
        self,
        states: UserStates,
        rows: Tensor,
        items: Tensor,
        levels: Tensor,
        notes: Tensor | None = None,
        past: list[Part] | None = None,
    ) -> None:
        """One event more for each of these rows.

        Args:
            states: Changed in place.
            rows: Distinct rows, which must have room for an event, shape (m,).
            items: Shape (m,).
            levels: Shape (m,).
            notes: Of what the users wrote, zeros where nothing, shape (m, note_dim); None, as for
                simulated events: nothing.
            past: What `ask` gave of these rows just before; None: it is looked up.
        """
        if not len(rows):
            return
        if notes is not None:
            self._note(states, rows, notes)
        states.statistics.make_room(rows)  # no part may move what all share

        def added(at: int) -> None:
            part = Part.of(states.cache, rows, owns[at]) if past is None else past[at]
            own = part.own
            note = None if notes is None else notes[own]
            self._add(states, part, items[own], levels[own], note)

        owns = shares(rows) if past is None else [part.own for part in past]
        side_by_side(added, range(len(owns)))

    def _add(
        self, states: UserStates, part: Part, items: Tensor, levels: Tensor, notes: Tensor | None
    ) -> None:
        model, rows = self.model, part.rows
        # Slates are asked about again and again: scores and normaliser in one go.
        at_once = self.looks is None and not self.choosing.tilted
        add = model.inputs.add_sums if at_once else model.inputs.add
        residuals = add(states.statistics, rows, items, levels, model.level_values)
        kept = pick(states.interests, rows).mul_(model.interest_decays[:, None])
        kept += self.vectors.index_select(0, items)[:, None]
        put(states.interests, rows, kept)
        tokens = self._tokens.events(items, levels, residuals, part.length - 1, notes)
        put(states.hidden, rows, pass_one(self.blocks, part, tokens, states.cache))
        if at_once:
            self.choosing.add(states, rows, items)
        else:
            states.stale.index_fill_(0, rows, True)

    def feedback(self, states: UserStates, rows: Tensor, items: Tensor) -> Tensor:
        """Probability of each feedback level for items asked of rows, by each member.

        Args:
            states: Of all users.
            rows: The users asked, shape (m,).
            items: Shape (m, q).

        Returns:
            Shape (m, q, members, levels).
        """
        return self.ask(states, rows, items).logits.softmax(-1)

    def ask(self, states: UserStates, rows: Tensor, items: Tensor) -> Asked:
        """Ask rows (m,) for their feedback on items (m, q).

        One item a row is asked fastest where rows stand by rising length, see `shares`.
        """
        features, past = self._features(states, rows, items), None
        if items.shape[1] == 1 and len(rows):

            def told(own: slice) -> tuple[Tensor, Part]:
                part, of = Part.of(states.cache, rows, own), features[own, 0]
                asked = self.vectors.index_select(0, items[own, 0])
                tokens = self._tokens.queries(asked, of, pick(states.interests, part.rows))
                return self.feedback_heads.logits(pass_one(self.blocks, part, tokens), of), part

            found = side_by_side(told, shares(rows))
            logits, past = torch.cat([of for of, _ in found])[:, None], [part for _, part in found]
        else:
            interests = pick(states.interests, rows)[:, None]
            tokens = self._tokens.queries(embedding(items, self.vectors), features, interests)
            hidden = ask(self.blocks, states.cache, rows, tokens)
            logits = self.feedback_heads.logits(hidden, features)
        if self.choosing.tilted:
            logits = logits + self.model.tilt.levels
        return Asked(logits, features, past)

    def states(self, states: UserStates, rows: Tensor) -> Tensor:
        """What choices of these rows hang on, shape (m, n_state)."""
        return self.choosing.states(states, rows)

    def utilities(self, states: UserStates, rows: Tensor) -> Tensor:
        """Log-probability of each item to be next, -inf where consumed, shape (m, items)."""
        return self.choosing.utilities(states, rows)

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
            appeal = self.choosing.of_slates(states, rows, slates)
        else:
            places = torch.arange(slates.shape[1], device=slates.device).expand(slates.shape)
            appeal = self._appeals(states, rows, slates, places)
        if slates.shape[1] == 1:
            return appeal
        again = (slates[:, :, None] == slates[:, None, :]).tril(-1).any(-1)
        return appeal.masked_fill(again, -torch.inf)

    def latest_axes(self, of: Statistics, rows: Tensor) -> Tensor:
        """Text axes of the latest events where they stand in time order, (m, LATEST, axes)."""
        axes = self.model.inputs.design[0, :, -TEXT_AXES:]
        return latest_axes(axes, of.items[rows], of.count[rows]) * self.timed

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
        return appeal.masked_fill(states.statistics.consumed(rows, slates), -torch.inf)

    def _features(self, states: UserStates, rows: Tensor, items: Tensor) -> Tensor:
        """Scaled query features of items asked of rows, (m,) and (m, q) to (m, q, features)."""
        model = self.model
        known = model.inputs.known(states.statistics, rows, items)
        asked = self._asked.index_select(0, items.flatten()).unflatten(0, items.shape)
        k = model.inputs.design.shape[2]
        raw = query_features(
            known,
            asked[..., :k],
            asked[..., k:],
            self._scales,
            None if self.timed else self._timed(rows),
        )
        if not self._further:
            return model.scaled(raw)
        of = {}
        if model.config.places:
            of["latest"] = self.latest_axes(states.statistics, rows)
        if model.config.context_dim:
            of["context"] = states.context[rows]
        if model.config.note_dim:
            weight = states.note_weight[rows, None] + NOTE_PRIOR
            of["note_mean"] = states.note_sum[rows] / weight
            of["note_last"] = states.note_last[rows]
        return model.scaled(model.asked_features(raw, of, items))

    def _introduce(
        self,
        states: UserStates,
        rows: Tensor,
        histories: Histories,
        noted: NDArray[np.int64] | None,
    ) -> Tensor | None:
        """Set what is known by name; the notes of the events, (m, width, note_dim), if any."""
        config, about = self.model.config, self.model.about
        if not config.context_dim and not config.note_dim:
            return None
        named, at = about.rows(histories.users), rows.cpu().numpy()
        states.names[at] = histories.users
        states.noted[at] = histories.lengths if noted is None else noted
        if config.context_dim:
            states.context[rows] = self._tensor(about.contexts_of(named))
        if not config.note_dim:
            return None
        items, _, lengths = histories.padded()
        first = np.arange(items.shape[1]) < np.minimum(lengths, states.noted[at])[:, None]
        found = about.notes_of(np.where(first, named[:, None], -1), items)
        of = states.note_sum, states.note_weight, states.note_last
        for mine, theirs in zip(of, note_sums(*found), strict=True):
            mine[rows] = self._tensor(theirs)
        return self._tensor(found[0])

    def _note(self, states: UserStates, rows: Tensor, notes: Tensor) -> None:
        """Add a note for each row where one was written."""
        written = notes.any(-1)
        rows, notes = rows[written], notes[written]
        states.note_sum[rows] = NOTE_DECAY * states.note_sum[rows] + notes
        states.note_weight[rows] = NOTE_DECAY * states.note_weight[rows] + 1
        states.note_last[rows] = notes

    def _tensor(self, array: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.model.device)

    def _interests(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Decayed sums of the vectors of left-aligned events, (m, interests, d)."""
        place = torch.arange(items.shape[1], device=items.device)
        age = lengths[:, None] - 1 - place
        weight = self.model.interest_decays[:, None] ** age.clamp(min=0)[:, None]
        return (weight * (age >= 0)[:, None]) @ self.vectors[items]

    def _event_tokens(
        self, items: Tensor, levels: Tensor, position: Tensor, notes: Tensor | None = None
    ) -> Tensor:
        model = self.model
        residual = model.level_values[levels] - model.inputs.base[0, items]
        return self._tokens.events(items, levels, residual, position.expand(items.shape), notes)

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
