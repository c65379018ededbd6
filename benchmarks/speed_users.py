"""BERT users of random weights: what speed is measured on where no log is large enough."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.collaborative import LINEAR_ITEMS
from audience.reward_models.coming import FLOOR
from audience.reward_models.configuration import BehaviourConfig
from audience.reward_models.device import resolve_device
from audience.reward_models.fit_settings import PRESETS, PresetName
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import TEXT_AXES
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import POPULATIONS, START_EVENTS

STARS = tuple(half / 2 for half in range(1, 11))
"""Feedback levels of MovieLens."""

TEXT_DIM = 64
"""Length of the random text vectors: they are projected once, when sessions are opened, so that
a step costs the same at any length."""

POPULARITY_EXPONENT = 0.8
"""Events of the item of rank r fall like r to minus this, as in real logs (Zipf)."""

START_USERS = 16
"""Users of each population, as many at every size: how often a start is met again decides whether
it is encoded anew. The outside option is found for all of them over the whole catalogue, in a few
float64 numbers each (128 MB for a million items)."""

MODEL_BYTES = 4_000
"""Memory for each item while a model of the default size is made and opened: its parameters and
buffers, a copy on the way to a device, and the item vectors of the sessions."""


def synthetic_users(
    n_items: int, preset: PresetName = "full", *, device: str = "auto", seed: int = 0
) -> BertUserModel:
    """BERT users of the sizes of a fit, with random weights and random collaborative inputs.

    They cost what fitted users of such a log cost; what they say means nothing.

    Args:
        n_items: Size of the catalogue, at least twice START_EVENTS.
        preset: Of `audience-fit`, whose sizes of the tower are taken.
        device: "auto", "cpu" or "cuda".
        seed: Of all that is random.
    """
    rng = np.random.default_rng(seed)
    size = PRESETS[preset]
    config = BehaviourConfig(
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=2 * size.hidden_size,
        n_items=n_items,
        text_dim=TEXT_DIM,
        level_values=list(STARS),
        window=size.window,
        order="time",
        factors=size.factors + TEXT_AXES,
        linear_items=min(n_items, LINEAR_ITEMS),
        members=size.members,
    )
    catalogue = _catalogue(n_items, rng)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = BehaviourModel(config)
        _randomise(model, catalogue)
    events = [
        [(item, int(rng.integers(len(STARS)))) for item in _some(n_items, rng)]
        for _ in range(START_USERS)
    ]
    names = {name: [f"{name}-{user}" for user in range(START_USERS)] for name in POPULATIONS}
    starts = {name: Histories.from_lists(events, names[name]) for name in POPULATIONS}
    own = BertUserModel(model, catalogue, FeedbackScale(STARS), starts)
    return own.to(resolve_device(device))


def _randomise(model: BehaviourModel, catalogue: Catalogue) -> None:
    """Random numbers of the magnitude of fitted ones, in place of the zeros of a new model."""
    for parameter in model.parameters():
        if not bool(parameter.any()):  # heads that start as no correction
            parameter.normal_(0, model.config.initializer_range)
    inputs = model.inputs
    for buffer in inputs.buffers():
        if buffer.is_floating_point() and not bool(buffer.any()):
            buffer.normal_(0, 0.1)
    inputs.design[..., 0] = 1.0
    for shares in (inputs.neighbours, inputs.company, inputs.coming, inputs.item_facts):
        shares.abs_()  # none of them is ever negative
    inputs.base += float(np.mean(STARS))
    inputs.precision.fill_(1.0)
    inputs.noise.fill_(1.0)
    inputs.level_shares.fill_(1 / len(STARS))
    inputs.floors.fill_(FLOOR)
    inputs.unit.copy_(torch.tensor([np.mean(STARS), 1.0]))
    model.text_vectors.normal_(0, TEXT_DIM**-0.5)
    model.log_popularity.copy_(torch.from_numpy(np.log(catalogue.popularity)))


def _catalogue(n_items: int, rng: np.random.Generator) -> Catalogue:
    weights = (rng.permutation(n_items) + 1.0) ** -POPULARITY_EXPONENT
    counts = 1 + (weights / weights.sum() * 10 * n_items).astype(np.int64)
    ids = np.arange(n_items).astype(np.str_)
    return Catalogue(ids, ids, counts, np.full(n_items, float(np.mean(STARS))))


def _some(n_items: int, rng: np.random.Generator) -> list[int]:
    """START_EVENTS distinct items."""
    chosen: NDArray[np.int64] = rng.choice(n_items, START_EVENTS, replace=False)
    return chosen.tolist()
