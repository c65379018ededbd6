"""The behaviour tower in use: one token a user at a time, past events cached.

The same blocks as in fitting, with keys and values kept, since past events never change. The
library's own cache cannot free rows as sessions end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertLayer

from audience.reward_models.behaviour import BehaviourModel


@dataclass
class Cache:
    """Keys and values of past events, own preallocated tensors with a length per row.

    Attributes:
        keys: One tensor a layer, shape (rows, heads, window + 1, head size).
        values: Likewise.
        length: Tokens in use, shape (rows,), int64.
    """

    keys: list[Tensor]
    values: list[Tensor]
    length: Tensor


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
    longest = int(start.max()) + t if len(rows) else t
    place = torch.arange(longest, device=tokens.device)
    at = start[:, None] + torch.arange(t, device=tokens.device)  # (m, t)
    mask = _additive(model.dtype, place[None, None, :] <= at[..., None])  # (m, 1, t, longest)
    hidden = tokens
    for layer, all_keys, all_values in zip(model.layers, cache.keys, cache.values, strict=True):
        query, key, value = _heads(layer, hidden)
        all_keys[rows[:, None], :, at] = key.transpose(1, 2)
        all_values[rows[:, None], :, at] = value.transpose(1, 2)
        past = all_keys[rows, :, :longest], all_values[rows, :, :longest]
        hidden = _finish(layer, hidden, query, *past, mask)
    cache.length[rows] = start + t
    return hidden


def ask(model: BehaviourModel, cache: Cache, rows: Tensor, tokens: Tensor) -> Tensor:
    """Pass queries: each sees its row's events and itself, and is not kept.

    Args:
        model: The behaviour model.
        cache: Not changed.
        rows: Shape (m,).
        tokens: Shape (m, q, d): q queries a row.

    Returns:
        Outputs, shape (m, q, d).
    """
    length = cache.length[rows]
    longest = int(length.max()) if len(rows) else 0
    place = torch.arange(longest, device=tokens.device)
    known = _additive(model.dtype, place < length[:, None])[..., None, :]  # (m, 1, 1, longest)
    hidden = tokens
    for layer, all_keys, all_values in zip(model.layers, cache.keys, cache.values, strict=True):
        query, key, value = _heads(layer, hidden)  # (m, heads, q, head size)
        scale = query.shape[-1] ** -0.5
        past_keys, past_values = all_keys[rows, :, :longest], all_values[rows, :, :longest]
        scores = query @ past_keys.transpose(-1, -2) * scale + known
        own = (query * key).sum(-1, keepdim=True) * scale
        weights = torch.cat([scores, own], -1).softmax(-1)
        context = weights[..., :-1] @ past_values + weights[..., -1:] * value
        hidden = _close(layer, hidden, context)
    return hidden


def _additive(dtype: torch.dtype, allowed: Tensor) -> Tensor:
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    mask.masked_fill_(~allowed, torch.finfo(dtype).min)
    return mask[:, None]


def _heads(layer: BertLayer, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    attention = layer.attention.self
    shape = (*hidden.shape[:-1], -1, attention.attention_head_size)
    project = (attention.query, attention.key, attention.value)
    query, key, value = (p(hidden).view(shape).transpose(1, 2) for p in project)
    return query, key, value


def _finish(
    layer: BertLayer,
    hidden: Tensor,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
) -> Tensor:
    context = nn.functional.scaled_dot_product_attention(query, keys, values, mask)
    return _close(layer, hidden, context)


def _close(layer: BertLayer, hidden: Tensor, context: Tensor) -> Tensor:
    merged = context.transpose(1, 2).reshape(hidden.shape)
    attended = layer.attention.output(merged, hidden)
    return layer.feed_forward_chunk(attended)
