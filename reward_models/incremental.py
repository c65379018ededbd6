"""The behaviour tower in use: one token a user at a time, past events cached.

The same blocks as in fitting, with keys and values kept, since past events never change. The
library's own cache cannot free rows as sessions end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.frozen import FrozenBlock
from audience.reward_models.user_statistics import pick

PARTS, LEAST_ROWS = 2, 64
"""Parts of a past, and rows of one: fewer cost more in calls than they spare."""

MULTIPLE = 8
"""Of places in a part: products with keys of such a width take up to a third less time."""


@dataclass
class Cache:
    """Keys and values of past events, own preallocated tensors with a length per row.

    Attributes:
        keys: One tensor a layer, shape (rows, places, d). The last place is never an event's: a
            query stands there where all others are in use.
        values: Likewise.
        length: Tokens in use, shape (rows,), int64.
    """

    keys: list[Tensor]
    values: list[Tensor]
    length: Tensor

    @property
    def room(self) -> int:
        """Tokens that a row can hold."""
        return self.keys[0].shape[1] - 1

    def put(self, rows: Tensor, other: Cache, theirs: Tensor) -> None:
        """Overwrite these rows with another's, which has no more places."""
        places = other.keys[0].shape[1]
        for mine, of in ((self.keys, other.keys), (self.values, other.values)):
            for into, given in zip(mine, of, strict=True):
                into[:, :places].index_copy_(0, rows, given.index_select(0, theirs))
        self.length[rows] = other.length[theirs]


@dataclass(frozen=True)
class Past:
    """What some rows hold, with a place more in each for a token of its own.

    A copy, in parts by rising length, each hardly wider than its longest row: most sessions are
    short, and what is copied and attended to beside them is lost. A row alone is not copied.

    Attributes:
        order: Which of the rows that were asked stands at each place, shape (m,); None: each
            in its own.
        rows: The rows in this order, shape (m,).
        length: Tokens of each, shape (m,).
        parts: The parts, in this order.
    """

    order: Tensor | None
    rows: Tensor
    length: Tensor
    parts: list[Part]


@dataclass(frozen=True)
class Part:
    """Some rows of a past.

    Attributes:
        own: Where they stand in it; None: they are all.
        at: Place of each row's own token among all places of the part, shape (m,).
        unseen: Additive mask of the places beyond it, shape (m, 1, places); None: there are none.
        layers: Of each, keys and values in one row a place, (m places, d), the keys as columns,
            (m, d, places), and the values, (m, places, d).
    """

    own: slice | None
    at: Tensor
    unseen: Tensor | None
    layers: list[tuple[Tensor, Tensor, Tensor, Tensor]]

    @classmethod
    def of(
        cls,
        own: slice | None,
        at: Tensor,
        unseen: Tensor | None,
        keys: list[Tensor],
        values: list[Tensor],
    ) -> Part:
        """With keys and values by layer, each (m, places, d)."""
        layers = [
            (key.flatten(0, 1), value.flatten(0, 1), key.transpose(1, 2), value)
            for key, value in zip(keys, values, strict=True)
        ]
        return cls(own, at, unseen, layers)


def new_cache(model: BehaviourModel, rows: int, events: int | None = None) -> Cache:
    """An empty cache for `rows` users, of so many events each; by default the model's window."""
    config = model.config
    events = config.window if events is None else events
    shape = (rows, events + 2, config.hidden_size)  # the summary, the events, a query
    new = [torch.zeros(shape, device=model.device) for _ in range(2 * len(model.layers))]
    length = torch.zeros(rows, dtype=torch.int64, device=model.device)
    return Cache(new[::2], new[1::2], length)


def append(
    blocks: list[FrozenBlock], cache: Cache, rows: Tensor, tokens: Tensor, past: Past | None = None
) -> Tensor:
    """Pass new tokens of these rows, each seeing itself and what came before; keep them.

    Args:
        blocks: Of the behaviour model.
        cache: Changed in place.
        rows: Distinct rows, shape (m,).
        tokens: Shape (m, t, d): t tokens a row, for which there must be room.
        past: What `ask` gave of the same rows since their last event: copying it anew is much of
            what one token costs.

    Returns:
        Outputs, shape (m, t, d).
    """
    t = tokens.shape[1]
    if t == 1 and len(rows):
        past = _past(cache, rows) if past is None else past
        hidden = _one(blocks, past, tokens[:, 0], cache)[:, None]
    else:
        unseen = torch.full((t, t), torch.finfo(tokens.dtype).min, device=tokens.device)
        hidden = _several(blocks, cache, rows, tokens, unseen.triu(1))
    cache.length.index_add_(0, rows, torch.full_like(rows, t))
    return hidden


def ask(
    blocks: list[FrozenBlock], cache: Cache, rows: Tensor, tokens: Tensor
) -> tuple[Tensor, Past | None]:
    """Pass queries: each sees its row's events and itself, and is not kept.

    Args:
        blocks: Of the behaviour model.
        cache: Not changed.
        rows: Shape (m,).
        tokens: Shape (m, q, d): q queries a row.

    Returns:
        Outputs, shape (m, q, d), and the rows' past where it was copied, for one query a row.
    """
    if tokens.shape[1] != 1 or not len(rows):
        return _several(blocks, cache, rows, tokens, None), None
    past = _past(cache, rows)
    return _one(blocks, past, tokens[:, 0])[:, None], past


def _past(cache: Cache, rows: Tensor) -> Past:
    length = pick(cache.length, rows)
    if len(rows) == 1:
        row, places = int(rows), int(length) + 1
        keys, values = (
            [of.narrow(0, row, 1).narrow(1, 0, places) for of in kept]
            for kept in (cache.keys, cache.values)
        )
        return Past(None, rows, length, [Part.of(None, length, None, keys, values)])
    order, most = None, cache.keys[0].shape[1]
    size = max(-(-len(rows) // PARTS), LEAST_ROWS)
    if size < len(rows):
        length, order = length.sort(stable=True)
        rows = rows.index_select(0, order)
    parts = []
    for begin in range(0, len(rows), size):
        own = slice(begin, begin + size)
        count, some = length[own], rows[own]
        longest = int(count.max() if order is None else count[-1])
        places = min((longest // MULTIPLE + 1) * MULTIPLE, most)
        place = torch.arange(places, device=rows.device)
        unseen = cache.keys[0].new_zeros(len(some), places)
        unseen.masked_fill_(place > count[:, None], torch.finfo(unseen.dtype).min)
        keys, values = (
            [of[:, :places].index_select(0, some) for of in kept]
            for kept in (cache.keys, cache.values)
        )
        at = count + places * torch.arange(len(some), device=rows.device)
        whole = None if order is None else own
        parts.append(Part.of(whole, at, unseen[:, None], keys, values))
    return Past(order, rows, length, parts)


def _one(
    blocks: list[FrozenBlock], past: Past, hidden: Tensor, keep: Cache | None = None
) -> Tensor:
    """Pass one token a row, (m, d) to (m, d); keys and values are kept where a cache is given.

    The heads of a row are rows of one product: each holds its own part of the query and zeros
    elsewhere. A product a head, over a few dozen places, costs more than these zeros.
    """
    if past.order is not None:
        hidden = hidden.index_select(0, past.order)
    place = None
    if keep is not None and len(past.rows) > 1:  # what was not copied is kept where it stands
        place = past.rows * keep.keys[0].shape[1] + past.length
    for layer, block in enumerate(blocks):
        query, key, value = block.split(hidden)
        if keep is not None and place is not None:
            keep.keys[layer].flatten(0, 1).index_copy_(0, place, key)
            keep.values[layer].flatten(0, 1).index_copy_(0, place, value)
        queries = query[:, None] * block.heads  # (m, heads, d)
        found = []
        for part in past.parts:
            asks, own_key, own_value = queries, key, value
            if part.own is not None:
                asks, own_key, own_value = (of[part.own] for of in (queries, key, value))
            at_keys, at_values, turned, values = part.layers[layer]
            at_keys.index_copy_(0, part.at, own_key)
            at_values.index_copy_(0, part.at, own_value)
            if part.unseen is None:
                scores = torch.bmm(asks, turned)
            else:
                scores = torch.baddbmm(part.unseen, asks, turned)
            found.append(torch.bmm(scores.softmax(-1), values))
        context = found[0] if len(found) == 1 else torch.cat(found)
        hidden = block.close(hidden, context.mul_(block.heads).sum(1))
    if past.order is None:
        return hidden
    return torch.empty_like(hidden).index_copy_(0, past.order, hidden)


def _several(
    blocks: list[FrozenBlock], cache: Cache, rows: Tensor, hidden: Tensor, among: Tensor | None
) -> Tensor:
    """Pass several tokens a row, (m, t, d) to (m, t, d).

    Args:
        blocks: Of the behaviour model.
        cache: Holds what came before.
        rows: Shape (m,).
        hidden: The tokens.
        among: Additive mask among them, (t, t), and they are kept; None: each sees only itself,
            and none is kept.
    """
    length = cache.length.index_select(0, rows)
    width = int(length.max()) if len(rows) else 0
    known = hidden.new_zeros(len(rows), width)
    places = torch.arange(width, device=rows.device)
    known.masked_fill_(places >= length[:, None], torch.finfo(hidden.dtype).min)
    at = length[:, None] + torch.arange(hidden.shape[1], device=rows.device)  # (m, t)
    for block, all_keys, all_values in zip(blocks, cache.keys, cache.values, strict=True):
        query, key, value = block.split(hidden)
        size = (len(block.heads), -1)
        asks, keys, values, before, kept = (
            part.unflatten(-1, size).transpose(1, 2)  # (m, heads, t, head size)
            for part in (
                query,
                key,
                value,
                all_keys[:, :width].index_select(0, rows),
                all_values[:, :width].index_select(0, rows),
            )
        )
        scores = asks @ before.transpose(-1, -2) + known[:, None, None]
        if among is None:
            own = (asks * keys).sum(-1, keepdim=True)
            weights = torch.cat([scores, own], -1).softmax(-1)
            context = weights[..., :width] @ kept + weights[..., width:] * values
        else:
            weights = torch.cat([scores, asks @ keys.transpose(-1, -2) + among], -1).softmax(-1)
            context = weights[..., :width] @ kept + weights[..., width:] @ values
            all_keys[rows[:, None], at], all_values[rows[:, None], at] = key, value
        hidden = block.close(hidden, context.transpose(1, 2).flatten(2))
    return hidden
