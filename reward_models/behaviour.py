"""The behaviour tower: BERT blocks over a user's events, with heads for what the user does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertPreTrainedModel
from transformers.models.bert.modeling_bert import BertEncoder, BertLayer
from transformers.utils.generic import ModelOutput

from audience.reward_models.about_users import AboutUsers
from audience.reward_models.block_features import (
    choice_scores,
    event_features,
    fading_weights,
    places_of,
    slate_features,
)
from audience.reward_models.configuration import BehaviourConfig
from audience.reward_models.heads import MemberLayers, SlateHeads
from audience.reward_models.inputs import TEXT_AXES, CollaborativeInputs
from audience.reward_models.query_features import Scales, over
from audience.reward_models.text_nearness import LATEST, SPANS, nearness
from audience.reward_models.tilt import ChoiceTilt
from audience.reward_models.user_statistics import Statistics

EASE_FLOOR = 0.01
"""Low scores of EASE are noise about 0. This part of an item's popularity (1 for the most
popular) is added before the logarithm is taken where sets are asked about: popularity orders
what EASE cannot, and leaves the top to it."""

SCORES = 3
"""Scores that utilities weigh: log-popularity, and how far EASE and followers exceed a floor."""

INTERESTS = (0.5, 0.8, 0.95)
"""What an item vector keeps of its weight with each further event, in the user's interests of
the last few events."""

FEATURE_LIMIT = 6.0
"""Standard deviations at which a query's features are cut off."""


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


class BehaviourModel(BertPreTrainedModel):
    """A user as a sequence model.

    The sequence is one summary token (of what lies before the window) and one token an event,
    each seeing itself and what came before. A query token asks for the feedback on one item:
    it sees the same events and itself, never another query. The state that choices hang on is
    the output of the latest event beside the user's recent interests.

    Where the log has them, user features enter the summary and the features of queries, and what
    a user wrote (a note, a vector of the text tower) enters the token of its event and, beside the
    text of the item asked about, the features of queries: what people write about tells what they
    will like.

    Attributes:
        about: What is known of users by name; kept beside the weights, not among them.
    """

    config: BehaviourConfig
    config_class = BehaviourConfig
    base_model_prefix = "behaviour"
    text_vectors: Tensor  # (items, text_dim)
    log_popularity: Tensor  # (items,)
    known: Tensor  # (items,), bool: whether an event taught the learned part
    level_values: Tensor  # (levels,)
    feature_mean: Tensor  # (features,)
    feature_std: Tensor  # (features,)
    interest_decays: Tensor  # (interests,)

    def __init__(self, config: BehaviourConfig) -> None:
        super().__init__(config)
        if config.note_dim not in (0, config.text_dim):
            raise ValueError(
                f"note_dim must be 0 or text_dim ({config.text_dim}), got {config.note_dim}: notes "
                f"and items are encoded by the same text encoder"
            )
        self.about = AboutUsers.nobody(config.context_dim, config.note_dim, config.n_items)
        d, n_levels = config.hidden_size, len(config.level_values or [0.0])
        self.register_buffer("text_vectors", torch.zeros(config.n_items, config.text_dim))
        self.register_buffer("log_popularity", torch.zeros(config.n_items))
        self.register_buffer("known", torch.ones(config.n_items, dtype=torch.bool))
        self.register_buffer("level_values", torch.tensor(config.level_values or [0.0]))
        self.register_buffer("interest_decays", torch.tensor(INTERESTS))
        self.inputs = CollaborativeInputs(
            1, config.n_items, n_levels, config.factors, config.linear_items
        )
        n_features = self.inputs.n_features + config.context_dim + 2 * (config.note_dim > 0)
        n_features += (LATEST + TEXT_AXES * len(SPANS)) * (config.places > 0)
        n_state = (1 + len(INTERESTS)) * d + 1
        self.register_buffer("feature_mean", torch.zeros(n_features))
        self.register_buffer("feature_std", torch.ones(n_features))
        self.text_projection = nn.Linear(config.text_dim, d)
        self.item_part = nn.Embedding(config.n_items, d)
        self.level_part = nn.Embedding(n_levels, d)
        self.residual_part = nn.Linear(1, d)
        self.summary_part = nn.Linear(2 * d + 1, d)
        if config.context_dim:
            self.context_part = nn.Linear(config.context_dim, d, bias=False)
        if config.note_dim:  # where nothing was written, nothing is added
            self.note_part = nn.Linear(config.note_dim, d, bias=False)
        self.query_part = nn.Sequential(nn.Linear(n_features, d), nn.GELU(), nn.Linear(d, d))
        self.affinity_part = nn.Linear(len(INTERESTS) * d, d)
        self.position_part = nn.Embedding(config.window, d) if config.order == "time" else None
        self.normalise = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.encoder = BertEncoder(config)
        drop = config.hidden_dropout_prob
        self.feedback_base = MemberLayers(config.members, n_features, n_levels, drop, linear=True)
        self.feedback_head = MemberLayers(config.members, d + n_features, n_levels, drop)
        self.state_head = nn.Linear(n_state, d)
        self.item_head = nn.Linear(d, d)
        self.item_bias = nn.Embedding(config.n_items, 1)
        self.timed_part = nn.Embedding(2, d)
        self.gate_base = nn.Linear(1, SCORES)
        self.gate_head = nn.Linear(n_state, SCORES)
        self.slates = SlateHeads(config, n_state, n_features)
        self.tilt = ChoiceTilt(config.n_items, n_levels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # The transformer starts as no correction of the collaborative inputs.
        slates = self.slates
        for corrects in ("taste", "leave_out"):
            if module is getattr(slates, corrects, None):
                nn.init.zeros_(module.get_parameter("weight"))
        if module in (self.item_bias, self.gate_head, getattr(slates, "place", None)):
            nn.init.zeros_(module.get_parameter("weight"))

    @property
    def learned(self) -> frozenset[str]:
        """What of a slate's answer was learned from the log."""
        config = self.config
        heads = {
            "outside": config.places > 0,
            "position": config.places > 1,
            "leave": config.leaves,
            "dwell": config.dwells,
        }
        return frozenset(name for name, there in heads.items() if there)

    def freeze_bases(self) -> None:
        """Fit no more what hangs on the collaborative inputs alone."""
        self.feedback_base.requires_grad_(False)
        for name in ("appeal_base", "place", "dwell_base", "dwell_spread"):
            if hasattr(self.slates, name):
                getattr(self.slates, name).requires_grad_(False)

    # Tokens

    def item_vectors(self, hide: Tensor | None = None) -> Tensor:
        """Text and learned part of every item, shape (items, d).

        Args:
            hide: Items that go without the learned part, shape (items,), bool.
        """
        hide = ~self.known if hide is None else hide | ~self.known
        part = self.item_part.weight.masked_fill(hide[:, None], 0.0)
        return self.text_projection(self.text_vectors) + part

    def event_tokens(
        self,
        vectors: Tensor,
        items: Tensor,
        levels: Tensor,
        residuals: Tensor,
        position: Tensor,
        timed: Tensor,
        notes: Tensor | None = None,
    ) -> Tensor:
        """Tokens of events, shape (..., d); arguments of shape (...), notes (..., note_dim)."""
        std = self.inputs.unit[1]
        token = vectors[items] + self.level_part(levels)
        token = token + self.residual_part((residuals / std)[..., None])
        if self.position_part is not None:
            token = token + self.position_part(position) * timed[..., None]
        if notes is not None and self.config.note_dim:
            token = token + self.note_part(notes)
        return self.dropout(self.normalise(token))

    def query_tokens(self, asked: Tensor, features: Tensor, interests: Tensor) -> Tensor:
        """Tokens of queries, shape (..., d).

        Args:
            asked: Vectors of the items asked about, shape (..., d).
            features: Scaled features, shape (..., features).
            interests: Of the user, shape (..., interests, d).
        """
        near = (self.interest_unit * interests * asked[..., None, :]).flatten(-2)
        token = asked + self.query_part(features) + self.affinity_part(near)
        return self.dropout(self.normalise(token))

    def summary_tokens(
        self,
        mean: Tensor,
        liking: Tensor,
        count: Tensor,
        timed: Tensor,
        context: Tensor | None = None,
    ) -> Tensor:
        """Tokens of what lies before the window, and of the user whatever the events.

        Args:
            mean: Mean item vector of those events, shape (users, d).
            liking: The same weighted by residual, shape (users, d).
            count: Their number, shape (users,).
            timed: Whether the user's events stand in time order, shape (users,), bool.
            context: User features, shape (users, context_dim); None for mean users.
        """
        scale = count.log1p()[:, None] / 4
        token = self.summary_part(torch.cat([mean, liking, scale], -1))
        if context is not None and self.config.context_dim:
            token = token + self.context_part(context)
        return self.dropout(self.normalise(token + self.timed_part(timed.long())))

    def states(self, hidden: Tensor, interests: Tensor, count: Tensor) -> Tensor:
        """What choices hang on, shape (..., n_state).

        Args:
            hidden: Output of the latest event (or the summary), shape (..., d).
            interests: Decayed sums of the vectors of the items met, shape (..., interests, d).
            count: Events so far, shape (...).
        """
        near = (self.interest_unit * interests).flatten(-2)
        return torch.cat([hidden, near, count.log1p()[..., None] / 4], -1)

    @property
    def interest_unit(self) -> Tensor:
        """What makes sums weighted means, in long histories; shape (interests, 1)."""
        return (1 - self.interest_decays)[:, None]

    def asked_features(self, features: Tensor, of: dict[str, Tensor], items: Tensor) -> Tensor:
        """Collaborative features of queries, and beside them what else the model takes in.

        Args:
            features: As `CollaborativeInputs.query_features` gives them, shape (..., q, n).
            of: FURTHER of the users, as far as the model takes them in, each of shape (..., *).
            items: The items asked about, shape (..., q).

        Returns:
            Shape (..., q, n_features): further the user's features, and the inner products of
            the item's text with the mean of the latest notes and with the last one; and where
            slates are learned from, `nearness` to the latest events.
        """
        parts = [features]
        if self.config.places:
            parts += nearness(self.inputs.design[0, items, -TEXT_AXES:], of["latest"])
        if self.config.context_dim:
            parts.append(of["context"][..., None, :].expand(*items.shape, -1))
        if self.config.note_dim:
            notes = torch.stack([of["note_mean"], of["note_last"]], -1)  # (..., note_dim, 2)
            if items.shape[-1] < len(self.text_vectors) / 8:
                parts.append(self.text_vectors[items] @ notes)
            else:  # about all items are asked: no copy of their vectors for each user
                near = self.text_vectors @ notes  # (..., items, 2)
                parts.append(near.gather(-2, items[..., None].expand(*items.shape, 2)))
        return torch.cat(parts, -1) if len(parts) > 1 else features

    def scaled(self, features: Tensor) -> Tensor:
        """Query features of mean 0 and standard deviation 1."""
        scaled = (features - self.feature_mean) / self.feature_std
        return scaled.clamp(-FEATURE_LIMIT, FEATURE_LIMIT)

    # Heads

    def feedback_logits(self, hidden: Tensor, features: Tensor) -> Tensor:
        """Logits of the feedback levels by each member, shape (..., members, levels)."""
        both = torch.cat([hidden, features], -1)
        return self.feedback_base(features) + self.feedback_head(both)

    def choice_vectors(self, vectors: Tensor) -> Tensor:
        """What a state's inner product is taken with, shape (items, d)."""
        return self.item_head(vectors) / math.sqrt(self.config.hidden_size)

    def raw_utilities(
        self,
        choices: Tensor,
        state: Tensor,
        ease: Tensor,
        coming: Tensor,
        timed: Tensor,
    ) -> Tensor:
        """Utilities of all items, not normalised, shape (..., items).

        Args:
            choices: Choice vectors, shape (items, d).
            state: Shape (..., n_state).
            ease: EASE scores, shape (..., items).
            coming: Follower scores, shape (..., items).
            timed: Whether the events stand in time order, shape (...), bool.
        """
        everything = bool(timed.all())
        if not everything and self.config.order == "time" and not bool(timed.any()):
            return self.set_scores(ease)
        gate = self.gates(state)
        utilities = self.state_head(state) @ choices.T + self.item_bias.weight[:, 0]
        for i, score in enumerate(self.scores(ease, coming)):
            utilities = utilities + gate[..., i : i + 1] * score
        if self.config.order == "random" or everything:
            return utilities
        return torch.where(timed[..., None], utilities, self.set_scores(ease))

    def gates(self, state: Tensor) -> Tensor:
        """Weights of the SCORES, shape (..., SCORES), of states (..., n_state)."""
        weights: Tensor = self.gate_base(state[..., -1:]) + self.gate_head(state)
        return weights

    def tilt_features(self, statistics: Statistics, rows: Tensor, items: Tensor) -> Tensor:
        """Features that the tilt weighs, of items (m, q) asked of users (m,); (m, q, features)."""
        floors = Scales.of(self.inputs, 0).floors
        expected = over(self.inputs.scores_at(statistics, rows, items), floors)
        return self.tilt.features(self.tilt.context(statistics.seen(rows)), items, expected)

    def scores(
        self, ease: Tensor, coming: Tensor, inputs: CollaborativeInputs | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The SCORES that utilities weigh, which broadcast to (..., items)."""
        inputs = self.inputs if inputs is None else inputs
        first = torch.zeros(1, dtype=torch.long, device=ease.device)
        return self.log_popularity, *inputs.expected(ease, coming, first)

    def set_scores(self, ease: Tensor) -> Tensor:
        """What comes at all, of a set of events, is left to EASE: the tower knows order."""
        popularity = (self.log_popularity - self.log_popularity.max()).exp()
        return (ease.clamp(min=0) + EASE_FLOOR * popularity + 1e-4).log()

    # Whole blocks, in fitting and in measuring

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
                regressors), moment, levels, recent, met, ease, coming (as in `Statistics`),
                latest (users, LATEST), items oldest first and -1 for none, opinion (users,
                events, 2), and item_weights (users, 2 + interests, items): of a
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

    @property
    def layers(self) -> list[BertLayer]:
        """The BERT blocks."""
        return [layer for layer in self.encoder.layer if isinstance(layer, BertLayer)]

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
