"""The network of the behaviour tower: its parameters, its tokens and its heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import BertPreTrainedModel
from transformers.models.bert.modeling_bert import BertEncoder, BertLayer

from audience.reward_models.about_users import AboutUsers
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
"""Scores that utilities weigh: log-popularity, and how far EASE and
what comes next exceed a floor."""

INTERESTS = (0.5, 0.8, 0.95)
"""What an item vector keeps of its weight with each further event, in the user's interests of
the last few events."""

FEATURE_LIMIT = 6.0
"""Standard deviations at which a query's features are cut off."""


class BehaviourNetwork(BertPreTrainedModel):
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
    def layers(self) -> list[BertLayer]:
        """The BERT blocks."""
        return [layer for layer in self.encoder.layer if isinstance(layer, BertLayer)]

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
            coming: Scores of what comes next, shape (..., items).
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
