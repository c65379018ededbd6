"""What running users choose: utilities of items, normalised anew when a state changes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.collaborative import LINEAR_ITEMS
from audience.reward_models.query_features import Scales, over
from audience.reward_models.tiles import log_, tiles
from audience.reward_models.tilt import Mixing
from audience.reward_models.user_states import UserStates
from audience.reward_models.user_statistics import Seen, pick, put

SAMPLED_ITEMS = 1024
"""Rarer items drawn to stand for all where it is not. Without a score of EASE their utilities
differ little: of movielens' 2,044 rarest items, which hold 22 % of the probability, so many err
by 0.002 in the logarithm (root mean square; 512 by 0.004, 256 by 0.007)."""

EXACT_ITEMS = LINEAR_ITEMS + SAMPLED_ITEMS
"""Items up to which the normaliser of utilities is summed over the whole catalogue: as many as are
summed beyond it, so that a step costs the same in any catalogue."""

NOTHING = -1e30
"""Utility of no item at all: its exponential is 0, and, unlike -inf, it can be subtracted."""

COLUMNS = 16
"""The columns of a sum over the catalogue are a multiple of this, at least two of no item: products
of such a width are a tenth faster."""


class Choosing:
    """What a behaviour model says of choices, given the states of users.

    The utility of an item is linear in what is known of the item (its sides), but for how far
    EASE and what comes expect it. What a user's state mixes them by is kept with the state, as is
    the normaliser, so that a user who chose nothing costs no more than a look at the slate.

    Args:
        model: The behaviour model, in evaluation mode.
        vectors: Its item vectors, shape (items, d).
        discount: Part of log-popularity taken out of the utilities.
        timed: Whether histories stand in time order.
        tilted: Whether the choice is tilted.
    """

    def __init__(
        self, model: BehaviourModel, vectors: Tensor, discount: float, timed: bool, tilted: bool
    ) -> None:
        self.model, self.discount, self.timed, self.tilted = model, discount, timed, tilted
        columns = [model.choice_vectors(vectors), model.item_bias.weight]
        self._bias = columns[0].shape[1]  # the column whose weight is always 1
        columns.append(model.log_popularity[:, None])
        if tilted:
            columns += [model.tilt.bases, model.tilt.directions]
        self.sides = torch.cat(columns, 1)  # (items, sides)
        items, weight, self._place = _normalising_items(model)
        summed = self.sides[items]
        summed[:, self._bias] += weight
        # (sides, summed items and columns of none), those of the head first; in bits, as powers of
        # two take half as long as powers of e
        self._n_summed = len(items)
        none = COLUMNS - len(items) % COLUMNS
        # The last stands for places without an event, and is overwritten like a consumed item.
        none += COLUMNS * (none == 1)
        self._summed = nn.functional.pad(summed.T / math.log(2), (0, none)).contiguous()
        self._summed[self._bias, len(items) :] = NOTHING
        self._first = torch.zeros(1, dtype=torch.long, device=model.device)
        self._mixing = self._mixing_of(model)
        self._scales = Scales.of(model.inputs, 0)
        self._floors = self._scales.floors.tolist()
        self._log_floors = self._scales.floors.log2()[:, None]  # (2, 1)
        self._tilt: tuple[int, Mixing] | None = None

    def states(self, states: UserStates, rows: Tensor) -> Tensor:
        """What choices of these rows hang on, shape (m, n_state)."""
        count = pick(states.statistics.count, rows).to(states.hidden.dtype)
        hidden, interests = (pick(of, rows) for of in (states.hidden, states.interests))
        return self.model.states(hidden, interests, count)

    def utilities(self, states: UserStates, rows: Tensor) -> Tensor:
        """Log-probability of each item to be next, -inf where consumed, shape (m, items)."""
        statistics, inputs = states.statistics, self.model.inputs
        ease = statistics.ease.index_select(0, rows)
        if not self.timed and self.model.config.order == "time":
            raw = self.model.set_scores(inputs.whole(ease))
        else:
            left, gates = self._mixed(states, rows, statistics.seen(rows))
            raw = left @ self.sides.T
            coming = statistics.coming.index_select(0, rows)
            of_head = inputs.expected(ease, coming, self._first)
            for gate, score in zip(gates.unbind(1), of_head, strict=True):
                if len(inputs.head) == raw.shape[1]:
                    raw += score.mul_(gate[:, None])
                else:
                    raw[:, inputs.head] += score.mul_(gate[:, None])
        raw = statistics.without_consumed(raw, rows)
        # A user who consumed the whole catalogue has nothing to choose from, not NaN.
        return raw.log_softmax(-1).nan_to_num(nan=-torch.inf, neginf=-torch.inf)

    def of_slates(self, states: UserStates, rows: Tensor, slates: Tensor) -> Tensor:
        """`utilities` of the items of slates alone, (m, k)."""
        self.refresh(states, rows)
        mixed = pick(states.mixed, rows)[:, None]
        left, gates, normaliser = mixed.split((self.sides.shape[1], 2, 1), 2)
        sides = self.sides.index_select(0, slates.flatten()).unflatten(0, slates.shape)
        inputs, statistics = self.model.inputs, states.statistics
        expected = over(inputs.scores_at(statistics, rows, slates), self._scales.floors)
        raw = sides.mul_(left).sum(2).add_(expected.mul_(gates).sum(2)).sub_(normaliser[..., 0])
        return raw.masked_fill_(statistics.consumed(rows, slates), -torch.inf)

    def refresh(self, states: UserStates, rows: Tensor) -> None:
        """Mix and normalise anew for those of these users whose state has changed."""
        rows = rows[pick(states.stale, rows)]
        statistics = states.statistics

        def kept(some: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            return statistics.ease.index_select(0, some), statistics.coming.index_select(0, some)

        self._normalise(states, rows, rows, kept)

    def add(self, states: UserStates, rows: Tensor, items: Tensor) -> None:
        """Add to the scores what these users just met, (m,) each, and normalise anew.

        All else of their states tells of it already. Scores are in the cache then: reading them
        is half of what a sum over the catalogue costs.
        """
        add_scores = self.model.inputs.add_scores
        self._normalise(
            states, rows, items, lambda some, met: add_scores(states.statistics, some, met)
        )

    def _normalise(
        self,
        states: UserStates,
        rows: Tensor,
        items: Tensor,
        scores: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> None:
        """Keep what weighs the sides of items, and the normaliser, of these users.

        Args:
            states: Of all users.
            rows: Of these.
            items: What is given to `scores` beside rows, shape (m,).
            scores: Gives copies of their scores of EASE and of what comes next.
        """
        if not len(rows):
            return
        seen, columns = states.statistics.seen(rows), self._summed.shape[1]
        left, gates = self._mixed(states, rows, seen)
        place = self._place.index_select(0, seen.items.flatten()).view(seen.items.shape)
        consumed = torch.where(seen.used, place, columns - 1)
        # Scores count over their floors. What the logarithms of these take off is the same for
        # all items of the head: it is given to the few others, and taken off the sum.
        shift = gates @ self._log_floors
        weights = gates / math.log(2)
        sums = [
            self._sums(scores(some, met), *of)
            for some, met, *of in tiles(columns, rows, items, left, weights, shift, consumed)
        ]
        top, total = (torch.cat(of) for of in zip(*sums, strict=True))
        normaliser = total.log2_().add_(top).sub_(shift).mul_(math.log(2))
        put(states.mixed, rows, torch.cat([left, gates, normaliser], 1))
        states.stale.index_fill_(0, rows, False)

    def _sums(
        self,
        scores: tuple[Tensor, Tensor],
        left: Tensor,
        weights: Tensor,
        shift: Tensor,
        consumed: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The sum of 2^(utility in bits) over what is not consumed, each over that of the top.

        Args:
            scores: Of EASE and of what comes next, shape (m, head) each, which are overwritten.
            left: What users weigh the sides by, shape (m, sides).
            weights: And the logarithms of these scores, shape (m, 2).
            shift: What is added to items beyond the head, shape (m, 1).
            consumed: Columns of the items that they met, the last for none, shape (m, width).

        Returns:
            The utility of the top, and the sum over it, shape (m, 1) each.
        """
        raw, head = torch.mm(left, self._summed), scores[0].shape[1]  # in bits
        of_head = raw[:, :head]
        for score, floor, weight in zip(scores, self._floors, weights.split(1, 1), strict=True):
            of_head.addcmul_(log_(score.clamp_(min=floor)), weight)
        if self._n_summed > head:
            raw[:, head:].add_(shift)
        raw.scatter_(1, consumed, -torch.inf)
        top = raw.amax(1, keepdim=True)  # that of no item where all is consumed
        return top, raw.sub_(top).exp2_().sum(1, keepdim=True)

    def _mixed(self, states: UserStates, rows: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """Weights of `sides`, (m, sides), and of how far EASE and what comes expect, (m, 2)."""
        hidden, interests = pick(states.hidden, rows), pick(states.interests.flatten(1), rows)
        known = torch.cat([hidden, interests, seen.count.to(hidden.dtype).log1p()[:, None]], 1)
        mixed = nn.functional.linear(known, *self._mixing)
        left, gates = mixed.split((mixed.shape[1] - 2, 2), 1)
        if self.tilted:
            tilt = self._tilting()
            left = torch.cat([left, *tilt.sides(self.model.tilt.context(seen))], 1)
            gates = gates + tilt.gates
        return left, gates

    def _tilting(self) -> Mixing:
        version = self.model.tilt.weights._version  # it changes while the tilt is fitted
        if self._tilt is None or self._tilt[0] != version:
            self._tilt = version, self.model.tilt.mixing()
        return self._tilt[1]

    def _mixing_of(self, model: BehaviourModel) -> tuple[Tensor, Tensor]:
        """Weight and bias of what mixes the first sides, and EASE and what comes.

        Of hidden state, interests and the logarithm of the count as they are kept; what scales
        them to a state (`BehaviourModel.states`) is in the weight.
        """
        d = model.config.hidden_size
        gate, weight = model.gate_head, model.gate_head.weight.clone()
        weight[:, -1:] += model.gate_base.weight
        bias = gate.bias + model.gate_base.bias
        bias[0] -= self.discount
        head, always = model.state_head, torch.ones_like(bias[:1])
        weight = torch.cat([head.weight, torch.zeros_like(weight[:1]), weight])
        unit = torch.ones(weight.shape[1], device=weight.device)
        unit[d:-1], unit[-1] = model.interest_unit.expand(-1, d).flatten(), 1 / 4
        return weight * unit, torch.cat([head.bias, always, bias])


def _normalising_items(model: BehaviourModel) -> tuple[Tensor, Tensor, Tensor]:
    """Which items the normaliser of a slate's utilities is summed over.

    All, up to EXACT_ITEMS; beyond, those that EASE covers, the most frequent, and a fixed random
    sample of the others, each of which stands for several.

    Returns:
        Items, those that EASE covers first; the logarithm of how many each stands for; and the
        place of each item of the catalogue among them, shape (items,), after all for none.
    """
    n_items, head = model.config.n_items, model.inputs.head.cpu()
    rest = torch.ones(n_items, dtype=torch.bool)
    rest[head] = False
    others = torch.nonzero(rest)[:, 0]
    drawn = others
    if n_items > EXACT_ITEMS:
        generator = torch.Generator().manual_seed(0)
        drawn = others[torch.randperm(len(others), generator=generator)[:SAMPLED_ITEMS]]
    items = torch.cat([head, drawn])
    weight = torch.zeros(len(items))
    weight[len(head) :] = math.log(max(len(others), 1) / max(len(drawn), 1))
    place = torch.full((n_items,), len(items))
    place[items] = torch.arange(len(items))
    device = model.device
    return items.to(device), weight.to(device), place.to(device)
