"""What the behaviour model says of real users' events, from each user's own earlier events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.behaviour import BehaviourModel, BehaviourOutput
from audience.reward_models.blocks import BlockDataset, overlapping
from audience.reward_models.engine import BehaviourEngine
from audience.reward_models.histories import Histories
from audience.reward_models.log_slates import Slates
from audience.reward_models.quality_data import EventPredictions
from audience.reward_models.signals import Signals

BATCH = 32
"""Blocks, or contexts, that are passed together."""


@torch.inference_mode()
def predict_events(model: BehaviourModel, histories: Histories) -> EventPredictions:
    """Predict every event from that user's own earlier events, in time order.

    Args:
        model: The behaviour model, in evaluation mode.
        histories: Events of the users, no item twice for one user.
    """
    shares = np.zeros((len(histories.items), len(model.level_values)), np.float32)
    rank = np.zeros(len(histories.items), np.int64)
    nll = np.zeros(len(histories.items), np.float32)
    for batch, said, places in _passes(model, histories):
        assert said.utilities is not None and said.feedback_shares is not None
        met = said.utilities.gather(2, batch["items"][..., None])  # (blocks, events, 1)
        better = (said.utilities > met).sum(-1).cpu().numpy()
        missed = -met[..., 0].cpu().numpy()
        chance = said.feedback_shares.cpu().numpy()
        for row, into, source in places:
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
        utilities[part] = engine.utilities(states, rows).cpu().numpy()
    return utilities


@torch.inference_mode()
def predict_slates(
    model: BehaviourModel, histories: Histories, slates: Slates
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What is said of each slate before it is shown, and of leaving after it.

    Args:
        model: The behaviour model, in evaluation mode, with a learned outside option.
        histories: Events of the users, no item twice for one user.
        slates: What they were shown.

    Returns:
        Probability that each item shown is chosen (shown,), that nothing is (slates,), and of
        leaving after the real answer (slates,), nan where leaving is not learned.
    """
    items = np.zeros(len(slates.items))
    nothing, leaves = np.zeros(len(slates)), np.full(len(slates), np.nan)
    signals = Signals(slates, None, None, None, np.zeros((len(histories), 0), np.float32))
    for batch, said, _ in _passes(model, histories, signals):
        which = batch["shown"]["which"].cpu().numpy()
        if not len(which):
            continue
        assert said.chosen is not None
        chosen, none = (t.double().cpu().numpy() for t in said.chosen)
        there = np.arange(chosen.shape[1]) < slates.sizes[which][:, None]
        into = slates.offsets[which][:, None] + np.arange(chosen.shape[1])
        items[into[there]] = chosen[there]
        nothing[which] = none
        if said.leaves is not None:
            leaves[which] = said.leaves.double().cpu().numpy()
    return items, nothing, leaves


@torch.inference_mode()
def predict_ends(
    model: BehaviourModel, histories: Histories
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Leaving after each event, and log-seconds with its item, each (events,).

    Args:
        model: The behaviour model, in evaluation mode.
        histories: Events of the users, no item twice for one user.

    Returns:
        Probability of leaving, mean and standard deviation of log-seconds; nan where not learned.
    """
    found = np.full((3, len(histories.items)), np.nan)
    ends = np.zeros(len(histories.items), np.bool_)
    signals = Signals(None, ends, None, None, np.zeros((len(histories), 0), np.float32))
    for _, said, places in _passes(model, histories, signals):
        parts = [said.leaves, *(said.log_seconds or (None, None))]
        for row, part in enumerate(parts):
            if part is not None:
                values = part.double().cpu().numpy()
                for user, into, source in places:
                    found[row, into] = values[user, source]
    return found[0], found[1], found[2]


def _passes(
    model: BehaviourModel, histories: Histories, signals: Signals | None = None
) -> Iterator[tuple[dict[str, Any], BehaviourOutput, list[tuple[int, slice, slice]]]]:
    """Pass all blocks: the batch, what is said of it, and (row, events, places) of each block."""
    values = model.level_values.cpu().numpy().astype(np.float64)
    window, order = model.config.window, model.config.order
    cut = overlapping(histories, window)
    blocks = BlockDataset(
        histories,
        cut,
        model.inputs,
        values,
        window,
        order=order,
        signals=signals,
        about=model.about,
    )
    for at in range(0, len(blocks), BATCH):
        rows = range(at, min(at + BATCH, len(blocks)))
        batch: Any = _to(blocks.collate([blocks[i] for i in rows]), model.device)
        places = []
        for row, i in enumerate(rows):
            block = cut[i]
            first = histories.offsets[block.user]
            into = slice(first + block.scored, first + block.end)
            places.append((row, into, slice(block.scored - block.start, block.end - block.start)))
        yield batch, model(**batch), places


def _to(value: object, device: torch.device) -> object:
    if isinstance(value, dict):
        return {k: _to(v, device) for k, v in value.items()}
    return value.to(device) if isinstance(value, torch.Tensor) else value
