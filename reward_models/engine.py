"""A behaviour model in use: whole histories in, then one event at a time, past events cached."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audience.reward_models.about_users import NOBODY, NOTE_DECAY, NOTE_PRIOR, note_sums
from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.histories import Histories
from audience.reward_models.incremental import append, ask, new_cache
from audience.reward_models.inputs import TEXT_AXES
from audience.reward_models.text_nearness import latest_axes
from audience.reward_models.user_states import UserStates
from audience.reward_models.user_statistics import Statistics

EXACT_ITEMS = 20_000
"""Items up to which the normaliser of utilities is summed over the whole catalogue."""

SAMPLED_ITEMS = 4096
"""Rarer items drawn to stand for all where it is not."""


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
            # All of an item that its utility is linear in, beside EASE and followers.
            columns = [self.choices, model.item_bias.weight, model.log_popularity[:, None]]
            if tilted:
                columns += [model.tilt.bases, model.tilt.directions]
            self.sides = torch.cat(columns, 1)  # (items, sides)
        self.discount = popularity_discount
        self._sample = _normalising_items(model)
        items = self._sample[0]
        self._sampled_sides = self.sides if items is None else self.sides[items]

    def new_states(self, rows: int) -> UserStates:
        """Room for `rows` users."""
        config, device = self.model.config, self.model.device
        interests = len(self.model.interest_decays)
        return UserStates(
            self.model.inputs.empty(rows),
            new_cache(self.model, rows),
            torch.zeros(rows, interests, config.hidden_size, device=device),
            torch.zeros(rows, config.hidden_size, device=device),
            torch.zeros(rows, device=device),
            torch.ones(rows, dtype=torch.bool, device=device),
            np.full(rows, NOBODY, np.object_),
            np.zeros(rows, np.int64),
            torch.zeros(rows, config.context_dim, device=device),
            torch.zeros(rows, config.note_dim, device=device),
            torch.zeros(rows, device=device),
            torch.zeros(rows, config.note_dim, device=device),
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
        states.cache.length[rows], states.cache.taken = 0, None
        hidden = append(model, states.cache, rows, tokens)
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
    ) -> None:
        """One event more for each of these rows.

        Args:
            states: Changed in place.
            rows: Distinct rows, which must have room for an event, shape (m,).
            items: Shape (m,).
            levels: Shape (m,).
            notes: Of what the users wrote, zeros where nothing, shape (m, note_dim); None, as for
                simulated events: nothing.
        """
        if not len(rows):
            return
        model = self.model
        if notes is not None:
            self._note(states, rows, notes)
            notes = notes[:, None]
        model.inputs.add(states.statistics, rows, items, levels, model.level_values)
        kept = states.interests[rows] * model.interest_decays[:, None]
        states.interests[rows] = kept + self.vectors[items][:, None]
        position = states.cache.length[rows] - 1
        tokens = self._event_tokens(items[:, None], levels[:, None], position[:, None], notes)
        states.hidden[rows] = append(model, states.cache, rows, tokens)[:, 0]
        states.stale[rows] = True

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
        statistics, model = states.statistics, self.model
        if not self.timed and model.config.order == "time":
            raw = model.set_scores(model.inputs.whole(statistics.ease[rows]))
        else:
            mixed = self._mixed(states, rows)
            raw = self._dense(states, rows, mixed, self.sides, model.inputs.head)
        raw = statistics.without_consumed(raw, rows)
        # A user who consumed the whole catalogue has nothing to choose from, not NaN.
        return raw.log_softmax(-1).nan_to_num(nan=-torch.inf, neginf=-torch.inf)

    def appeals(self, states: UserStates, rows: Tensor, slates: Tensor) -> Tensor:
        """Utility of the items of slates, in their places, -inf where consumed, shape (m, k).

        Over nothing (0) where the outside option is learned; else the log-probability to be
        next, whose normaliser is summed again only for users whose state has changed. The second
        copy of an item in a slate counts as consumed.

        Args:
            states: Of all users.
            rows: The users asked, shape (m,).
            slates: Shape (m, k).
        """
        if self.looks is None:
            left, gates = self._mixed(states, rows)
            self._normalise(states, rows, left, gates)
            raw = (left[:, None] * self.sides[slates]).sum(-1)
            expected = torch.stack(self._expected(states, rows, slates), -1)
            raw = raw + (gates[:, None] * expected).sum(-1)
            consumed = states.statistics.consumed(rows, slates)
            appeal = (raw - states.normaliser[rows, None]).masked_fill(consumed, -torch.inf)
        else:
            places = torch.arange(slates.shape[1], device=slates.device).expand(slates.shape)
            appeal = self._appeals(states, rows, slates, places)
        if slates.shape[1] == 1:
            return appeal
        again = (slates[:, :, None] == slates[:, None, :]).tril(-1).any(-1)
        return appeal.masked_fill(again, -torch.inf)

    def _mixed(self, states: UserStates, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of `sides`, (m, sides), and of how far EASE and followers expect, (m, 2)."""
        model = self.model
        state = self.states(states, rows)
        gate = model.gates(state)
        parts = [model.state_head(state), torch.ones_like(gate[:, :1]), gate[:, :1] - self.discount]
        gates = gate[:, 1:]
        if self.tilted:
            parts.append(model.tilt.mixed(model.tilt.context(states.statistics, rows)))
            gates = gates + model.tilt.gates()
        return torch.cat(parts, 1), gates

    def _expected(self, states: UserStates, rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """How far EASE and followers expect these items, each (m, k)."""
        inputs = self.model.inputs
        ease = inputs.scores_at(states.statistics.ease, rows, items)
        coming = inputs.scores_at(states.statistics.coming, rows, items)
        return inputs.expected(ease, coming, torch.zeros(1, dtype=torch.long, device=rows.device))

    def _dense(
        self,
        states: UserStates,
        rows: Tensor,
        mixed: tuple[Tensor, Tensor],
        sides: Tensor,
        head: Tensor,
    ) -> Tensor:
        """Utilities of many items, not normalised, the head's in the columns `head`.

        Args:
            states: Of all users.
            rows: The users asked, shape (m,).
            mixed: What `_mixed` says of them.
            sides: Of the items.
            head: Columns of the items that EASE covers.
        """
        inputs, statistics = self.model.inputs, states.statistics
        left, gates = mixed
        raw = left @ sides.T
        first = torch.zeros(1, dtype=torch.long, device=rows.device)
        for gate, of_head in zip(
            gates.unbind(1),
            inputs.expected(statistics.ease[rows], statistics.coming[rows], first),
            strict=True,
        ):
            of_head = of_head.mul_(gate[:, None])
            if len(head) == raw.shape[1]:
                raw += of_head
            else:
                raw[:, head] += of_head
        return raw

    def _normalise(self, states: UserStates, rows: Tensor, left: Tensor, gates: Tensor) -> None:
        """Sum anew over the catalogue for those of these users whose state has changed."""
        stale = states.stale[rows]
        rows, mixed = rows[stale], (left[stale], gates[stale])
        if not len(rows):
            return
        _, head, log_weight, place = self._sample
        raw = self._dense(states, rows, mixed, self._sampled_sides, head)
        raw = states.statistics.without_consumed(raw, rows, place)
        if log_weight is not None:
            raw += log_weight
        top = raw.amax(1, keepdim=True).clamp(min=-1e30)  # all -inf where all is consumed
        total = raw.sub_(top).exp_().sum(1)
        states.normaliser[rows] = total.log() + top[:, 0]
        states.stale[rows] = False

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
        known = model.inputs.known(states.statistics, rows, items, model.level_values)
        raw = model.inputs.query_features(known, items, torch.zeros_like(rows), self._timed(rows))
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
        return model.event_tokens(
            self.vectors,
            items,
            levels,
            residual,
            position.expand(items.shape),
            self._timed(items[..., 0])[..., None],
            notes,
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


def _normalising_items(
    model: BehaviourModel,
) -> tuple[Tensor | None, Tensor, Tensor | None, Tensor | None]:
    """Which items the normaliser of a slate's utilities is summed over.

    All, up to EXACT_ITEMS; beyond, those that EASE covers, the most frequent, and a fixed random
    sample of the others, each of which stands for several.

    Returns:
        Items (None for all), columns of the head among them, the logarithm of what each stands
        for (None for 1), and the column of each item of the catalogue, -1 for none (None for its
        own index).
    """
    n_items, head = model.config.n_items, model.inputs.head
    if n_items <= EXACT_ITEMS:
        return None, head, None, None
    generator = torch.Generator().manual_seed(0)
    rest = torch.ones(n_items, dtype=torch.bool)
    rest[head.cpu()] = False
    others = torch.nonzero(rest)[:, 0]
    drawn = others[torch.randperm(len(others), generator=generator)[:SAMPLED_ITEMS]]
    items = torch.cat([head.cpu(), drawn])
    weight = torch.zeros(len(items))
    weight[len(head) :] = math.log(max(len(others), 1) / max(len(drawn), 1))
    place = torch.full((n_items,), -1)
    place[items] = torch.arange(len(items))
    device = model.device
    columns = torch.arange(len(head), device=device)
    return items.to(device), columns, weight.to(device), place.to(device)
