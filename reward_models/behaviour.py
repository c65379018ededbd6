"""The behaviour tower over whole blocks of events, as it is fitted and measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from audience.reward_models.behaviour_network import BehaviourNetwork
from audience.reward_models.block_features import (
    choice_scores,
    event_features,
    fading_weights,
    places_of,
    slate_features,
)
from audience.reward_models.inputs import CollaborativeInputs


@dataclass
class BehaviourOutput(ModelOutput):
    """What the behaviour tower says of a batch of blocks.

    Attributes:
        loss: Sum of the cross-entropies of the heads, each weighted.
        feedback_shares: Probability of each level before each event, the mean over members,
            shape (users, events, levels).
        utilities: Log-probability of each item to be next, before each event (in training,
            before some of them); -inf for consumed items; shape (users, events, items).
        chosen: Probability that each item shown is chosen, shape (slates, k), and that
            nothing is, shape (slates,).
        leaves: Probability of leaving after each slate, shape (slates,), or where the log has
            none after each event, shape (users, events).
        log_seconds: Mean and standard deviation of log dwell times, each (users, events).
    """

    loss: Tensor | None = None
    feedback_shares: Tensor | None = None
    utilities: Tensor | None = None
    chosen: tuple[Tensor, Tensor] | None = None
    leaves: Tensor | None = None
    log_seconds: tuple[Tensor, Tensor] | None = None


class BehaviourModel(BehaviourNetwork):
    """A user as a sequence model, see `BehaviourNetwork`; `BehaviourEngine` steps it."""

    def forward(
        self,
        items: Tensor,
        levels: Tensor,
        length: Tensor,
        earlier: dict[str, Tensor],
        rank: Tensor,
        fold: Tensor,
        timed: Tensor,
        weights: Tensor | None = None,
        shown: dict[str, Tensor] | None = None,
        ends: Tensor | None = None,
        about: dict[str, Tensor] | None = None,
        inputs: CollaborativeInputs | None = None,
        **_: Any,
    ) -> BehaviourOutput:
        """Predict every event of each block from what came before it, in one pass.

        Args:
            items: Shape (users, events), int64, left-aligned.
            levels: Likewise.
            length: Events in the block, shape (users,).
            earlier: Sums over the events before the block: gram (of outer products of
                regressors), moment, levels, recent, met, lately, opinion (as in `Known`), ease,
                coming (as in `Statistics`), latest (users, LATEST), items oldest first and -1
                for none, and item_weights (users, 2 + interests, items): of a
                mean, of a mean of liking, of interests.
            rank: When each item is met: its place in the block, -1 before it, `window` after
                it, a larger number never; shape (users, items), int64.
            fold: Fold of `inputs` that each user belongs to, shape (users,).
            timed: Whether a user's events stand in time order, shape (users,), bool. The
                choice loss then is that of the next event; else it spreads over all to come.
            weights: How much each member learns from each user, shape (users, members); None
                for 1.
            shown: Slates: `row` and `at` (slates,), the user and the place in the block before
                which each was shown; `items` and `places` (slates, k), -1 where it ends;
                `chosen` (slates,), a column or -1; `ends` (slates,): 1, 0, or -1 for unknown.
            ends: Whether the session ends with each event, shape (users, events), likewise.
            about: What is known by name: `context` (users, context_dim); `notes` (users, events,
                note_dim) and `written` (users, events), 1 or 0; and what `note_sums` keeps of the
                notes before the block, `note_sum`, `note_weight` and `note_last`. None: nothing.
            inputs: Cross-fitted inputs; None takes the model's own.
        """
        inputs = self.inputs if inputs is None else inputs
        users, n = items.shape
        used = torch.arange(n, device=items.device) < length[:, None]  # (users, events)
        hide = None
        if self.training and self.config.id_dropout > 0:
            hide = torch.rand(self.config.n_items, device=items.device) < self.config.id_dropout
        vectors = self.item_vectors(hide)
        each = fold[:, None].expand(items.shape)
        about = {} if about is None else about
        places = places_of(self, items, levels, earlier, fold, timed, inputs, about)
        raw_features = event_features(self, places, items, earlier, fold, timed, inputs)
        features = self.scaled(raw_features)
        residual = self.level_values[levels] - inputs.base[each, items]
        place = torch.arange(n, device=items.device).expand(items.shape)
        before = earlier["levels"].sum(-1)
        past = earlier["item_weights"] @ vectors  # (users, 2 + interests, d)
        interests = self._interests(vectors[items], past[:, 2:])  # (users, 1 + events, ...)
        context, notes = about.get("context"), about.get("notes")
        summary = self.summary_tokens(past[:, 0], past[:, 1], before, timed, context)
        tokens = torch.cat(
            [
                summary[:, None],
                self.event_tokens(vectors, items, levels, residual, place, timed[:, None], notes),
                self.query_tokens(vectors[items], features, interests[:, :-1]),
            ],
            1,
        )  # (users, 1 + 2 events, d)
        hidden = self.encoder(tokens, self._block_mask(used)).last_hidden_state
        asked = hidden[:, n + 1 :]
        count = before[:, None] + torch.arange(n + 1, device=items.device)
        state = self.states(hidden[:, : n + 1], interests, count)  # before each event, and after
        logits = self.feedback_logits(asked, features)
        loss = _feedback_loss(logits[used], levels[used], weights, used)
        at = self._choice_places(n)
        ease, coming = choice_scores(self, items, earlier, fold, inputs, at)
        over = timed[:, None].expand(-1, len(at))
        raw = self.raw_utilities(self.choice_vectors(vectors), state[:, at], ease, coming, over)
        utilities, choice_loss = self._choice(raw, rank, at, timed, used)
        loss = loss + self.config.choice_weight * choice_loss
        output = BehaviourOutput(feedback_shares=logits.softmax(-1).mean(-2), utilities=utilities)
        if shown is not None and self.config.places:
            raw_features = slate_features(self, places, shown, items, earlier, fold, timed, inputs)
            asked_features = self.scaled(raw_features)
            loss = loss + self._answer_slates(
                output, shown, rank, levels, state, vectors, asked_features
            )
        elif ends is not None and self.config.leaves:
            leave = self.slates.leave_logit(state[:, :-1], levels)
            loss = loss + _binary_loss(leave[used], ends[used])
            output.leaves = leave.sigmoid()
        if self.config.dwells:
            output.log_seconds = self.slates.log_seconds(features, levels)
        output.loss = loss
        return output

    def _choice(
        self, raw: Tensor, rank: Tensor, at: Tensor, timed: Tensor, used: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of what is next at these places, and their loss."""
        rank = rank[:, None, :]
        utilities = raw.masked_fill(rank < at[:, None], -torch.inf).log_softmax(-1)
        later = (rank >= at[:, None]) & (rank <= self.config.window)
        target = torch.where(timed[:, None, None], rank == at[:, None], later)
        chosen = utilities.masked_fill(~target, 0).sum(-1) / target.sum(-1).clamp(min=1)
        return utilities, -chosen[used[:, at]].mean()

    def _answer_slates(
        self,
        output: BehaviourOutput,
        shown: dict[str, Tensor],
        rank: Tensor,
        levels: Tensor,
        state: Tensor,
        vectors: Tensor,
        features: Tensor,
    ) -> Tensor:
        """Fill in what is said of the slates; the loss of that."""
        row, at, chosen = shown["row"], shown["at"], shown["chosen"]
        if not len(row):
            none = features.new_zeros(0)
            output.chosen, output.leaves = (features[..., 0], none), none
            return state.sum() * 0
        before = state[row, at]
        asked = shown["items"].clamp(min=0)
        gone = (shown["items"] < 0) | (rank[row[:, None], asked] < at[:, None])  # or consumed
        looks = self.slates.look(vectors[asked])
        appeal = self.slates.appeal(before, looks, features, shown["places"].clamp(min=0))
        appeal = appeal.masked_fill(gone, -torch.inf)
        options = torch.cat([torch.zeros_like(appeal[:, :1]), appeal], 1).log_softmax(-1)
        output.chosen = options[:, 1:].exp(), options[:, 0].exp()
        loss = -options.gather(1, chosen[:, None] + 1).mean()
        if self.config.leaves:
            answer = levels[row, at.clamp(max=levels.shape[1] - 1)]
            leave = self.slates.leave_logit(before, torch.where(chosen >= 0, answer, -1))
            output.leaves = leave.sigmoid()
            loss = loss + _binary_loss(leave, shown["ends"])
        return loss

    def _interests(self, met: Tensor, past: Tensor) -> Tensor:
        """Interests before each event and after the last, (users, 1 + events, interests, d)."""
        n = met.shape[1]
        weights = fading_weights(n + 1, self.interest_decays)[
            ..., :n
        ]  # (interests, places, events)
        since = self.interest_decays ** torch.arange(n + 1, device=met.device)[:, None]
        return torch.einsum("kts,usd->utkd", weights, met) + past[:, None] * since[..., None]

    def _choice_places(self, n: int) -> Tensor:
        """Places of a block at which choice is predicted: all, or some in fitting."""
        if not self.training:
            return torch.arange(n, device=self.device)
        some = torch.randperm(n, device=self.device)[: math.ceil(n * self.config.choice_share)]
        return some.sort().values

    def _block_mask(self, used: Tensor) -> Tensor:
        """Additive float mask, shape (users, 1, 1 + 2 events, 1 + 2 events).

        The library's eager attention adds a boolean mask as numbers, and the future leaks.
        """
        n = used.shape[1]
        device = used.device
        causal = torch.ones(n, n, dtype=torch.bool, device=device).tril()
        sees = torch.zeros(1 + 2 * n, 1 + 2 * n, dtype=torch.bool, device=device)
        sees[:, 0] = True
        sees[1 : n + 1, 1 : n + 1] = causal
        sees[n + 1 :, 1 : n + 1] = causal.tril(-1)
        sees[n + 1 :, n + 1 :] = torch.eye(n, dtype=torch.bool, device=device)
        real = torch.cat([torch.ones_like(used[:, :1]), used, used], 1)
        allowed = sees & (real[:, None, :] | torch.eye(1 + 2 * n, dtype=torch.bool, device=device))
        mask = torch.zeros(allowed.shape, dtype=self.dtype, device=device)
        return mask.masked_fill(~allowed, torch.finfo(self.dtype).min)[:, None]


def _feedback_loss(logits: Tensor, levels: Tensor, weights: Tensor | None, used: Tensor) -> Tensor:
    """Cross-entropy of events, (events, members, levels) and (events,).

    Each member's own where there are weights (users, members), else that of their mean.
    """
    logs = logits.log_softmax(-1)
    if weights is None:
        return nn.functional.nll_loss(logs.logsumexp(1) - math.log(logs.shape[1]), levels)
    own = -logs.gather(2, levels[:, None, None].expand(-1, logs.shape[1], 1))[..., 0]
    each = weights[:, None, :].expand(*used.shape, -1)[used]  # (events, members)
    return (own * each).sum() / each.sum().clamp(min=1e-9)


def _binary_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy where the truth is known (0 or 1, not -1); 0 where it never is."""
    known = truth >= 0
    if not bool(known.any()):
        return logits.sum() * 0
    wanted = truth[known].to(logits.dtype)
    return nn.functional.binary_cross_entropy_with_logits(logits[known], wanted)
