"""The behaviour tower in use: one token a user at a time, past events cached.

The same blocks as in fitting, with keys and values kept, since past events never change. The
library's own cache cannot free rows as sessions end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.models.bert.modeling_bert import BertLayer

from audience.reward_models.behaviour import BehaviourModel


@dataclass
class Cache:
    """Keys and values of past events, own preallocated tensors with a length per row.

    Attributes:
        keys: One tensor a layer, shape (rows, heads, window + 1, head size).
        values: Likewise.
        length: Tokens in use, shape (rows,), int64.
        taken: Rows that were asked last, and what each layer keeps of them, keys and values:
            their next event sees the same past, and copying it is most of what a step costs.
    """

    keys: list[Tensor]
    values: list[Tensor]
    length: Tensor
    taken: tuple[Tensor, list[tuple[Tensor, Tensor]]] | None = None


def new_cache(model: BehaviourModel, rows: int) -> Cache:
    """An empty cache for `rows` users."""
    config = model.config
    heads = config.num_attention_heads
    shape = (rows, heads, config.window + 1, config.hidden_size // heads)
    new = [torch.zeros(shape, device=model.device) for _ in range(2 * len(model.layers))]
    length = torch.zeros(rows, dtype=torch.int64, device=model.device)
    return Cache(new[::2], new[1::2], length)


def append(model: BehaviourModel, cache: Cache, rows: Tensor, tokens: Tensor) -> Tensor:
    """Pass new tokens of these rows, each seeing itself and what came before; keep them.

    Args:
        model: The behaviour model.
        cache: Changed in place.
        rows: Distinct rows, shape (m,).
        tokens: Shape (m, t, d): t tokens a row.

    Returns:
        Outputs, shape (m, t, d).
    """
    start = cache.length[rows]
    t = tokens.shape[1]
    at = start[:, None] + torch.arange(t, device=tokens.device)  # (m, t)
    known = _known(cache, rows, model.dtype)
    pasts = _pasts(cache, rows, known)
    cache.taken = None
    among = torch.full((t, t), torch.finfo(model.dtype).min, device=tokens.device).triu(1)
    hidden = tokens
    kept = zip(cache.keys, cache.values, strict=True)
    for layer, past, (all_keys, all_values) in zip(model.layers, pasts, kept, strict=True):
        query, key, value = _heads(layer, hidden)  # (m, heads, t, head size)
        scale = query.shape[-1] ** -0.5
        before = query @ past[0].transpose(-1, -2) * scale + known
        new = query @ key.transpose(-1, -2) * scale + among
        weights = torch.cat([before, new], -1).softmax(-1)
        width = before.shape[-1]
        context = weights[..., :width] @ past[1] + weights[..., width:] @ value
        all_keys[rows[:, None], :, at] = key.transpose(1, 2)
        all_values[rows[:, None], :, at] = value.transpose(1, 2)
        hidden = _close(layer, hidden, context)
    cache.length[rows] = start + t
    return hidden


def ask(model: BehaviourModel, cache: Cache, rows: Tensor, tokens: Tensor) -> Tensor:
    """Pass queries: each sees its row's events and itself, and is not kept.

    Args:
        model: The behaviour model.
        cache: Not changed, but for what is `taken` of it.
        rows: Shape (m,).
        tokens: Shape (m, q, d): q queries a row.

    Returns:
        Outputs, shape (m, q, d).
    """
    known = _known(cache, rows, model.dtype)
    pasts = _pasts(cache, rows, known)
    cache.taken = rows, pasts
    hidden = tokens
    for layer, past in zip(model.layers, pasts, strict=True):
        query, key, value = _heads(layer, hidden)  # (m, heads, q, head size)
        scale = query.shape[-1] ** -0.5
        scores = query @ past[0].transpose(-1, -2) * scale + known
        own = (query * key).sum(-1, keepdim=True) * scale
        weights = torch.cat([scores, own], -1).softmax(-1)
        context = weights[..., :-1] @ past[1] + weights[..., -1:] * value
        hidden = _close(layer, hidden, context)
    return hidden


def _known(cache: Cache, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask of the places in use, as many as the longest row has, (m, 1, 1, places)."""
    length = cache.length[rows]
    longest = int(length.max()) if len(rows) else 0
    place = torch.arange(longest, device=length.device)
    mask = torch.zeros(len(rows), longest, dtype=dtype, device=length.device)
    mask.masked_fill_(place >= length[:, None], torch.finfo(dtype).min)
    return mask[:, None, None]


def _pasts(cache: Cache, rows: Tensor, known: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of these rows by layer, each (m, heads, places, head size).

    Whole rows are copied, as blocks of memory: faster than only the places in use.
    """
    if cache.taken is not None and torch.equal(cache.taken[0], rows):
        return cache.taken[1]
    width = known.shape[-1]
    return [
        (keys.index_select(0, rows)[:, :, :width], values.index_select(0, rows)[:, :, :width])
        for keys, values in zip(cache.keys, cache.values, strict=True)
    ]


def _heads(layer: BertLayer, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    attention = layer.attention.self
    shape = (*hidden.shape[:-1], -1, attention.attention_head_size)
    project = (attention.query, attention.key, attention.value)
    query, key, value = (p(hidden).view(shape).transpose(1, 2) for p in project)
    return query, key, value


def _close(layer: BertLayer, hidden: Tensor, context: Tensor) -> Tensor:
    merged = context.transpose(1, 2).reshape(hidden.shape)
    attended = layer.attention.output(merged, hidden)
    return layer.feed_forward_chunk(attended)
