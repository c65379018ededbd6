"""What the behaviour model says of real users' events, from each user's own earlier events."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.blocks import BlockDataset, overlapping
from audience.reward_models.histories import Histories
from audience.reward_models.quality_data import EventPredictions
from audience.reward_models.sessions import BehaviourEngine

BATCH = 32
"""Blocks, or contexts, that are passed together."""


@torch.inference_mode()
def predict_events(model: BehaviourModel, histories: Histories) -> EventPredictions:
    """Predict every event from that user's own earlier events, in time order.

    Args:
        model: The behaviour model, in evaluation mode.
        histories: Events of the users, no item twice for one user.
    """
    values = model.level_values.cpu().numpy().astype(np.float64)
    window = model.config.window
    cut = overlapping(histories, window)
    blocks = BlockDataset(histories, cut, model.inputs, values, window, order=model.config.order)
    shares = np.zeros((len(histories.items), len(values)), np.float32)
    rank = np.zeros(len(histories.items), np.int64)
    nll = np.zeros(len(histories.items), np.float32)
    for at in range(0, len(blocks), BATCH):
        rows = range(at, min(at + BATCH, len(blocks)))
        batch = blocks.collate([blocks[i] for i in rows])
        batch = {k: _to(v, model.device) for k, v in batch.items()}
        said = model(**batch)
        met = said.utilities.gather(2, batch["items"][..., None])  # (blocks, events, 1)
        better = (said.utilities > met).sum(-1).cpu().numpy()
        missed = -met[..., 0].cpu().numpy()
        chance = said.feedback_logits.softmax(-1).cpu().numpy()
        for row, i in enumerate(rows):
            block = blocks.blocks[i]
            first = histories.offsets[block.user]
            into = slice(first + block.scored, first + block.end)
            source = slice(block.scored - block.start, block.end - block.start)
            shares[into] = chance[row, source]
            rank[into], nll[into] = better[row, source], missed[row, source]
    return EventPredictions(shares, rank, nll)


@torch.inference_mode()
def rank_items(model: BehaviourModel, contexts: Histories) -> NDArray[np.float32]:
    """Utilities of all items to come at all, given sets of events; consumed -inf.

    Args:
        model: The behaviour model, in evaluation mode.
        contexts: What is known of each user; its order is not looked at where the model was
            fitted to time order, for what is asked is not only the next event.

    Returns:
        Shape (users, items).
    """
    engine = BehaviourEngine(model, timed=False)
    utilities = np.zeros((len(contexts), model.config.n_items), np.float32)
    for at in range(0, len(contexts), BATCH):
        part = np.arange(at, min(at + BATCH, len(contexts)))
        states = engine.new_states(len(part))
        rows = torch.arange(len(part), device=model.device)
        engine.encode(states, rows, contexts.take(part))
        utilities[part] = states.utilities.cpu().numpy()
    return utilities


def _to(value: object, device: torch.device) -> object:
    if isinstance(value, dict):
        return {k: _to(v, device) for k, v in value.items()}
    return value.to(device) if isinstance(value, torch.Tensor) else value
