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
from audience.reward_models.parts import part_count
from audience.reward_models.user_statistics import pick, put

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
class Part:
    """What some rows hold, with a place more in each for a token of its own.

    A copy, hardly wider than its longest row; a row alone is not copied.

    Attributes:
        own: Where they stand among all that were asked.
        rows: The rows, shape (m,).
        length: Tokens of each, shape (m,).
        at: Place of each row's own token among all places of the part, shape (m,).
        unseen: Additive mask of the places beyond it, shape (m, 1, places); None: there are none.
        keys: One tensor a layer, shape (m, places, d).
        values: Likewise.
    """

    own: slice
    rows: Tensor
    length: Tensor
    at: Tensor
    unseen: Tensor | None
    keys: list[Tensor]
    values: list[Tensor]

    @classmethod
    def of(cls, cache: Cache, rows: Tensor, own: slice) -> Part:
        """Those of these rows that stand at `own`."""
        both = cache.keys, cache.values
        if len(rows) == 1:
            row, length = int(rows), pick(cache.length, rows)
            places = int(length) + 1
            keys, values = (
                [of.narrow(0, row, 1).narrow(1, 0, places) for of in kept] for kept in both
            )
            return cls(own, rows, length, length, None, keys, values)
        rows = rows[own]
        length = cache.length.index_select(0, rows)
        places = min((int(length.max()) // MULTIPLE + 1) * MULTIPLE, cache.room + 1)
        place = torch.arange(places, device=rows.device)
        unseen = cache.keys[0].new_zeros(len(rows), places)
        unseen.masked_fill_(place > length[:, None], torch.finfo(unseen.dtype).min)
        at = torch.arange(0, places * len(rows), places, device=rows.device).add_(length)
        keys, values = ([of[:, :places].index_select(0, rows) for of in kept] for kept in both)
        return cls(own, rows, length, at, unseen[:, None], keys, values)


def shares(rows: Tensor) -> list[slice]:
    """The parts in which rows (m,) are best passed side by side.

    Where rows stand by rising length, a part is hardly wider than what it holds.
    """
    size = -(-len(rows) // part_count(len(rows), rows.device))
    return [slice(at, at + size) for at in range(0, len(rows), size)]


def new_cache(
    model: BehaviourModel,
    rows: int,
    events: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Cache:
    """An empty cache for `rows` users, of so many events each; by default the model's window.

    What is passed through it is computed in its type: that of the blocks.
    """
    config = model.config
    events = config.window if events is None else events
    shape = (rows, events + 2, config.hidden_size)  # the summary, the events, a query
    new = [
        torch.zeros(shape, dtype=dtype, device=model.device) for _ in range(2 * len(model.layers))
    ]
    length = torch.zeros(rows, dtype=torch.int64, device=model.device)
    return Cache(new[::2], new[1::2], length)


def pass_one(
    blocks: list[FrozenBlock], part: Part, hidden: Tensor, keep: Cache | None = None
) -> Tensor:
    """Pass one token a row of a part, each seeing itself and what came before.

    The heads of a row are rows of one product: each holds its own part of the query and zeros
    elsewhere. A product a head, over a few dozen places, costs more than these zeros.

    Args:
        blocks: Of the behaviour model.
        part: What the rows hold; the next token of these rows may be passed with it again, as
            copying it is much of what one token costs.
        hidden: The tokens, shape (m, d).
        keep: The cache that keeps them; None: none does.

    Returns:
        Outputs, shape (m, d).
    """
    place = None
    if keep is not None and part.unseen is not None:  # what was not copied is kept where it stands
        place = torch.add(part.length, part.rows, alpha=keep.room + 1)
    whole, hidden = hidden.dtype, hidden.to(part.keys[0].dtype)
    for layer, block in enumerate(blocks):
        query, key, value = block.split(hidden)
        keys, values = part.keys[layer], part.values[layer]
        keys.flatten(0, 1).index_copy_(0, part.at, key)
        values.flatten(0, 1).index_copy_(0, part.at, value)
        if keep is not None and place is not None:
            keep.keys[layer].flatten(0, 1).index_copy_(0, place, key)
            keep.values[layer].flatten(0, 1).index_copy_(0, place, value)
        asks, turned = query[:, None] * block.heads, keys.transpose(1, 2)  # (m, heads, d)
        if part.unseen is None:
            scores = torch.bmm(asks, turned)
        else:
            scores = torch.baddbmm(part.unseen, asks, turned)
        context = torch.bmm(scores.softmax(-1), values)
        hidden = block.close(hidden, context.mul_(block.heads).sum(1))
    if keep is not None:
        put(keep.length, part.rows, part.length + 1)
    return hidden.to(whole)


def append(blocks: list[FrozenBlock], cache: Cache, rows: Tensor, tokens: Tensor) -> Tensor:
    """Pass new tokens of these rows, each seeing itself and what came before; keep them.

    Args:
        blocks: Of the behaviour model.
        cache: Changed in place.
        rows: Distinct rows, shape (m,).
        tokens: Shape (m, t, d): t tokens a row, for which there must be room.

    Returns:
        Outputs, shape (m, t, d).
    """
    t, dtype = tokens.shape[1], cache.keys[0].dtype
    unseen = torch.full((t, t), torch.finfo(dtype).min, dtype=dtype, device=tokens.device)
    hidden = _several(blocks, cache, rows, tokens, unseen.triu(1))
    cache.length.index_add_(0, rows, torch.full_like(rows, t))
    return hidden


def ask(blocks: list[FrozenBlock], cache: Cache, rows: Tensor, tokens: Tensor) -> Tensor:
    """Pass queries: each sees its row's events and itself, and is not kept.

    Args:
        blocks: Of the behaviour model.
        cache: Not changed.
        rows: Shape (m,).
        tokens: Shape (m, q, d): q queries a row.

    Returns:
        Outputs, shape (m, q, d).
    """
    return _several(blocks, cache, rows, tokens, None)


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
    whole, hidden = hidden.dtype, hidden.to(cache.keys[0].dtype)
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
    return hidden.to(whole)
