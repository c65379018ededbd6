"""What every policy here shares: an observation encoded, and its choices scored by items."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from audience.agents.base import allowed_choices, histories_of
from audience.agents.history_encoder import HIDDEN, HistoryEncoder, ItemVectors, query_gain
from audience.agents.item_to_item import ItemToItem, ItemToItemScores


@dataclass(frozen=True)
class Shapes:
    """What the spaces of an environment say.

    Attributes:
        n_items: Size of the catalogue.
        history: Places of the observed history.
        n_levels: Feedback levels.
        candidates: Candidates that actions index, 0 where they index the catalogue.
    """

    n_items: int
    history: int
    n_levels: int
    candidates: int

    @classmethod
    def of(cls, observed: spaces.Space[Any], policy: str) -> Shapes:
        """Those of an observation space.

        Raises:
            ValueError: It is not that of an `audience` environment; the message names the policy.
        """
        missing = {"item", "feedback", "length"} - set(getattr(observed, "spaces", {}))
        if not isinstance(observed, spaces.Dict) or missing:
            raise ValueError(
                f"{policy} needs a Dict observation with item, feedback and length, as the "
                f"audience environments give it; {sorted(missing)} missing, got {observed}"
            )
        item, feedback = observed["item"], observed["feedback"]
        assert isinstance(item, spaces.Box) and isinstance(feedback, spaces.Box)
        among = observed.spaces.get("candidates")
        return cls(
            n_items=int(item.high.max()) + 1,
            history=item.shape[0],
            n_levels=int(feedback.high.max()) + 1,
            candidates=0 if among is None or among.shape is None else among.shape[0],
        )

    def slate_size(self, action: spaces.Space[Any], policy: str, slates: bool = True) -> int:
        """Places of the slates that the actions are.

        Args:
            action: The action space.
            policy: For messages.
            slates: Whether the policy knows slates of more than one item.

        Raises:
            ValueError: The actions do not index the catalogue, or the candidates.
        """
        choices = self.candidates or self.n_items
        if isinstance(action, spaces.Discrete) and action.n == choices and action.start == 0:
            return 1
        many = isinstance(action, spaces.MultiDiscrete) and action.nvec.ndim == 1
        if slates and many and (action.nvec == choices).all():  # type: ignore[attr-defined]
            return len(action.nvec)  # type: ignore[attr-defined]
        more = f", or MultiDiscrete([{choices}] * slate_size) for slates" if slates else ""
        raise ValueError(
            f"{policy} needs the action space Discrete({choices}){more}: one action an item of "
            f"the observation; got {action}"
        )


@dataclass(frozen=True)
class Encoded:
    """A batch of observations, encoded.

    Attributes:
        history: Encodings of the events, (n, width).
        allowed: Which choices may be recommended, (n, choices), bool.
        items: Vectors (items, dim) and biases (items,) of the catalogue, where that is what is
            chosen from.
        candidates: Else what is, (n, choices).
        known: Scores of the choices by item-to-item filters, (n, kinds, choices), where the policy
            is given such.
    """

    history: Tensor
    allowed: Tensor
    items: tuple[Tensor, Tensor] | None = None
    candidates: Tensor | None = None
    known: Tensor | None = None


class ItemScorer(nn.Module):
    """Encodes observations; scores choices by inner products of queries with item vectors.

    Where item-to-item filters are given, their scores are added, each times a weight that is part
    of the query.

    Args:
        shapes: Of the environment.
        dim: Width of the item vectors.
        item_vectors: See `ItemVectors`.
        item_bias: Likewise.
        item_to_item: Matrices of the filters.
    """

    def __init__(
        self,
        shapes: Shapes,
        dim: int = 64,
        item_vectors: NDArray[np.floating] | None = None,
        item_bias: NDArray[np.floating] | None = None,
        item_to_item: ItemToItem | None = None,
    ) -> None:
        super().__init__()
        self.shapes, self.dim = shapes, dim
        self.items = ItemVectors(shapes.n_items, dim, item_vectors, item_bias)
        self.filters: ItemToItemScores | None = None
        if item_to_item is not None:
            self.filters = ItemToItemScores(shapes.n_items, shapes.history, item_to_item)
        self.encoder = HistoryEncoder(shapes.n_levels, dim, shapes.history)
        self.width = self.encoder.width

    def query_net(self, heads: int = 1) -> QueryNet:
        """A network that makes queries for `scores` from encodings."""
        kinds = 0 if self.filters is None else self.filters.kinds
        return QueryNet(self.width, self.dim, heads, weights=kinds)

    def encode(self, obs: Mapping[str, Tensor]) -> Encoded:
        """The observation's events and choices; with candidates, nothing else is read."""
        items, levels, lengths = events(obs)
        candidates, open_ = obs.get("candidates"), allowed(obs, self.shapes.n_items)
        if candidates is None:
            vectors, bias = self.items()
            history = self.encoder(items, levels, lengths, vectors)
            known = None if self.filters is None else self.filters(items, lengths)
            return Encoded(history, open_, items=(vectors, bias), known=known)
        candidates = candidates.long()
        known = None if self.filters is None else self.filters(items, lengths, candidates)
        return Encoded(self.histories(obs), open_, candidates=candidates, known=known)

    def histories(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Encodings of the events alone, (n, width)."""
        items, levels, lengths = events(obs)
        occurring, place = None, items  # all items, where that is less than the batch names
        if "candidates" in obs:
            occurring, place = torch.unique(items, return_inverse=True)
        elif items.numel() < self.shapes.n_items:
            occurring = items.flatten()
            place = torch.arange(len(occurring), device=items.device).reshape(items.shape)
        found: Tensor = self.encoder(place, levels, lengths, self.items(occurring)[0])
        return found

    def scores(self, encoded: Encoded, query: Tensor) -> Tensor:
        """Scores of the choices for queries (n, [heads,] dim + kinds): (n, [heads,] choices)."""
        scores = self._products(encoded, query[..., : self.dim] / math.sqrt(self.dim))
        if encoded.known is None:
            return scores
        weights = query[..., self.dim :]
        if query.ndim == 2:
            return torch.baddbmm(scores[:, None], weights[:, None], encoded.known)[:, 0]
        return torch.baddbmm(scores, weights, encoded.known)

    def _products(self, encoded: Encoded, query: Tensor) -> Tensor:
        """Inner products with the choices' vectors, and their biases, (n, [heads,] choices)."""
        candidates = encoded.candidates
        if encoded.items is not None:
            vectors, bias = encoded.items
            if query.ndim == 2:
                return torch.addmm(bias, query, vectors.T)
            return query @ vectors.T + bias
        assert candidates is not None
        if query.ndim == 2:
            return self.items.scores(query, candidates)
        vectors, bias = self.items(candidates.flatten())
        found = query @ vectors.unflatten(0, candidates.shape).transpose(1, 2)
        return found + bias.unflatten(0, candidates.shape)[:, None]


class QueryNet(nn.Module):
    """A query from an encoding: a linear path beside a hidden layer.

    "More of what was liked" is linear, and is found within a few updates.

    Args:
        width: Of the encoding.
        dim: Of a query.
        heads: Queries for each encoding.
        weights: Further numbers of a query, which weigh what else is known of the items; they
            start at 0.
    """

    def __init__(self, width: int, dim: int, heads: int = 1, weights: int = 0) -> None:
        super().__init__()
        self.heads, self.size = heads, dim + weights
        self.hidden = nn.Sequential(nn.Linear(width, HIDDEN), nn.Tanh())
        self.out = nn.Linear(width + HIDDEN, heads * self.size)
        nn.init.normal_(self.out.weight, std=query_gain(width + HIDDEN))
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.weight.unflatten(0, (heads, self.size))[:, dim:] = 0

    def forward(self, encoding: Tensor) -> Tensor:
        """(n, width) to (n, dim + weights), or to (n, heads, dim + weights) for several heads."""
        query: Tensor = self.out(torch.cat([encoding, self.hidden(encoding)], 1))
        return query if self.heads == 1 else query.reshape(-1, self.heads, self.size)


def value_net(width: int, outputs: int = 1) -> nn.Sequential:
    """A critic of two hidden layers, (n, width) to (n, outputs)."""
    return nn.Sequential(
        nn.Linear(width, HIDDEN),
        nn.Tanh(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.Tanh(),
        nn.Linear(HIDDEN, outputs),
    )


def events(obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Items and levels (n, history) and lengths (n,): the events as integers.

    Stable-Baselines3's `preprocess_obs` would make floats of them.
    """
    return obs["item"].long(), obs["feedback"].long(), obs["length"].long().reshape(-1)


def allowed(obs: Mapping[str, Tensor], n_items: int) -> Tensor:
    """What may be recommended, (n, choices), bool: not consumed, and in `mask` where there is one.

    The mask of candidates knows of what was consumed; without it, they are compared.
    """
    items, _, lengths = events(obs)
    used = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
    if "candidates" in obs:
        if "mask" in obs:
            return obs["mask"] != 0
        consumed = torch.where(used, items, -1)
        return ~(obs["candidates"].long()[:, :, None] == consumed[:, None]).any(2)
    closed = torch.zeros(len(items), n_items + 1, dtype=torch.bool, device=items.device)
    # Unused places hold 0, a real item: they are sent to a column beyond the catalogue.
    closed.scatter_(1, torch.where(used, items, n_items), True)
    open_ = ~closed[:, :n_items]
    return open_ & (obs["mask"] != 0) if "mask" in obs else open_


def observed_tensors(
    observation: Mapping[str, NDArray[Any]],
    n_items: int,
    device: torch.device,
    action_masks: NDArray[Any] | None = None,
) -> dict[str, Tensor]:
    """One observation or a batch as tensors (n, ...), with one `mask` of all that forbids.

    Raises:
        ValueError: The observation lacks a part, or a mask is of another shape.
    """
    items, levels, lengths = histories_of(observation)
    mask = allowed_choices(observation, items, lengths, n_items, action_masks)
    found = {"item": items, "feedback": levels, "length": lengths[:, None], "mask": mask}
    if "candidates" in observation:
        found["candidates"] = np.atleast_2d(np.asarray(observation["candidates"], np.int64))
    return {key: torch.as_tensor(value, device=device) for key, value in found.items()}
