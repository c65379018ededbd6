"""Sizes of the behaviour tower."""

from __future__ import annotations

from transformers import BertConfig


class BehaviourConfig(BertConfig):
    """Sizes of the behaviour tower, as a Hugging Face configuration.

    Attributes:
        n_items: Items of the catalogue.
        text_dim: Length of an item's text vector.
        level_values: Value of each feedback level, in the log's unit.
        window: Events that attention reaches; older ones enter as a summary.
        order: "time": the choice head says what comes next, and what is recent counts.
            "random": events are exchangeable, and the choice head says what comes at all.
        factors: Factors of the explicit ALS among the inputs, axes of the text among them.
        linear_items: Items that matrices of items among the inputs cover.
        choice_weight: Weight of the choice loss beside the feedback loss.
        choice_share: Share of a block's places at which the choice loss is taken in fitting:
            neighbouring places teach nearly the same, and each costs a catalogue.
        id_dropout: Share of items whose learned part is hidden in fitting, so that text
            alone learns to serve.
        members: Members of the ensemble: feedback heads, each fitted on a bootstrap sample of
            users, over the same tokens.
        places: Positions in the slates of the log; 0 where it has no impressions, and choosing
            nothing is not learned.
        leaves: Whether leaving is learned.
        dwells: Whether dwell times are learned.
        context_dim: Number of user features that the model takes in; 0 for none.
        note_dim: Length of the vectors of what users wrote, that of `text_dim`; 0 where the model
            takes in none.
    """

    model_type = "audience-behaviour"

    hidden_size: int = 64
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    intermediate_size: int = 128
    layer_norm_eps: float = 1e-5
    vocab_size: int = 1
    n_items: int = 2
    text_dim: int = 1
    level_values: list[float] | None = None
    window: int = 64
    order: str = "random"
    factors: int = 8
    linear_items: int = 2
    choice_weight: float = 0.3
    choice_share: float = 0.25
    id_dropout: float = 0.2
    members: int = 4
    places: int = 0
    leaves: bool = False
    dwells: bool = False
    context_dim: int = 0
    note_dim: int = 0
