"""Item vectors, and what a policy makes of a user's events."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

HIDDEN = 128
"""Width of the hidden layers: twice the default width of the item vectors."""

OWN_ROWS, ROWS = 20_000, 8_192
"""Items up to which each has a row of the learned part, and the rows that are shared beyond: with
one row an item, Adam's step, the checkpoint and the gradient would grow with the catalogue."""

BIAS_SCALE = 10.0
"""An item's bias is this times its parameter. Adam moves a parameter by at most the learning rate
at a step whatever the gradient: some 600 steps of 1e-3 could move a plain bias by only 0.6, while
telling the best of 1,700 items from the rest takes several units."""

DECAYS = (1.0, 1.0, 0.8, 0.5, 0.0)
"""What is left of an event's weight after the next one, in each channel of the encoder at the
start: all alike, by feedback, the last five or so, the last two, the last alone."""

LIKED = 1
"""The channel that starts out weighted by feedback."""


class ItemVectors(nn.Module):
    """Vectors and biases of items: a learned part each, plus a projection of given vectors.

    Catalogues of more than OWN_ROWS items share rows of the learned part: item i has the sum of two
    rows that two hashes name (Svenstrup et al., "Hash embeddings for efficient word
    representations", 2017), so that time and memory of a training step do not grow with the
    catalogue.

    Args:
        n_items: Size of the catalogue.
        dim: Width of the vectors.
        fixed: Given vectors (of text, or CF), shape (n_items, any width), finite; they are
            centred, reduced to at most `dim` principal components and brought to unit variance;
            of them only a projection is learned.
        bias: Biases to start from, shape (n_items,), finite; 0 by default.

    Raises:
        ValueError: `fixed` or `bias` has another shape, or is not finite.
    """

    fixed: Tensor | None
    start_bias: Tensor | None

    def __init__(
        self,
        n_items: int,
        dim: int,
        fixed: NDArray[np.floating] | None = None,
        bias: NDArray[np.floating] | None = None,
    ) -> None:
        super().__init__()
        self.n_items, self.rows = n_items, n_items if n_items <= OWN_ROWS else ROWS
        # Unit variance, so that scores move as soon as the query does; beside given vectors the
        # learned part starts small, so that like items start alike.
        given = _reduced(fixed, n_items, dim)
        self.learned = nn.Parameter((1.0 if given is None else 0.1) * torch.randn(self.rows, dim))
        self.bias = nn.Parameter(torch.zeros(self.rows, 1))
        self.register_buffer("fixed", given)
        self.register_buffer("start_bias", _start_bias(bias, n_items))
        self.projection: nn.Linear | None = None
        if given is not None:
            self.projection = nn.Linear(given.shape[1], dim, bias=False)
            nn.init.eye_(self.projection.weight)  # what is near in text starts near

    def forward(self, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors (n, dim) and biases (n,) of these items (n,), int64, or of all."""
        learned, bias = self._rows(items)
        bias = BIAS_SCALE * bias
        if self.start_bias is not None:
            bias = bias + (self.start_bias if items is None else self.start_bias[items])
        if self.projection is None or self.fixed is None:
            return learned, bias
        return learned + self.projection(self.fixed if items is None else self.fixed[items]), bias

    def scores(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Inner products of queries with the vectors of each one's candidates, plus their biases.

        No vector is gathered: a minibatch names a million candidates. All rows of the learned part
        are scored instead, the scores looked up; given vectors meet the query before they are
        projected.

        Args:
            queries: Shape (n, dim).
            candidates: Items, int64 (n, count).
        """
        if self.rows == self.n_items:
            vectors, bias = self()
            return torch.addmm(bias, queries, vectors.T).gather(1, candidates)
        of_rows = torch.addmm(BIAS_SCALE * self.bias[:, 0], queries, self.learned.T)
        found = of_rows.gather(1, candidates % self.rows)
        found = found + of_rows.gather(1, self._other_row(candidates))
        if self.start_bias is not None:
            found = found + self.start_bias[candidates]
        if self.projection is None or self.fixed is None:
            return found
        products: Tensor = _Products.apply(queries @ self.projection.weight, self.fixed, candidates)
        return found + products

    def _rows(self, items: Tensor | None) -> tuple[Tensor, Tensor]:
        """The learned part of vectors and biases."""
        if self.rows == self.n_items and items is None:
            return self.learned, self.bias[:, 0]
        if items is None:
            items = torch.arange(self.n_items, device=self.learned.device)
        table = torch.cat([self.learned, self.bias], 1)  # what is gathered together costs half
        found = F.embedding(items % self.rows, table)
        if self.rows < self.n_items:
            found = found + F.embedding(self._other_row(items), table)
        return found[:, :-1], found[:, -1]

    def _other_row(self, items: Tensor) -> Tensor:
        """The second row of items that share rows; the first is the plain remainder.

        By Knuth's multiplicative hash: hardly two items share both.
        """
        return (items * 2_654_435_761 % 2**32 >> 11) % self.rows


class _Products(torch.autograd.Function):
    """Inner products of queries with rows of a fixed table, none of which is copied.

    They are the gradient of a weighted sum of the rows by its weights; such sums, and their
    gradients, PyTorch computes in one pass (`embedding_bag`).
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, table: Tensor, rows: Tensor) -> Tensor:
        """(n, dim), (size, dim) and (n, count) to (n, count)."""
        ctx.save_for_backward(table, rows)
        with torch.enable_grad():
            weights = queries.new_zeros(rows.shape, requires_grad=True)
            total = F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")
        (found,) = torch.autograd.grad(total, weights, queries)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """(n, count) to (n, dim)."""
        table, rows = ctx.saved_tensors
        weights = gradient.contiguous()
        return F.embedding_bag(rows, table, per_sample_weights=weights, mode="sum"), None, None


class HistoryEncoder(nn.Module):
    """A user's events as one vector, cheap enough for hundreds of users a step on a CPU.

    Sums of the events' item vectors, in a few channels: an event's weight in a channel is a
    learned number for its age (0 for the last event) times a learned number for its feedback
    level. So order, recency and feedback all tell, at the cost of one small matrix product a
    user. Beside these stand the shares of the feedback levels, weighted by age alone, and how many
    events there are.

    Args:
        n_levels: Feedback levels.
        dim: Width of the item vectors.
        history: Places of the observation.
    """

    ages: Tensor

    def __init__(self, n_levels: int, dim: int, history: int) -> None:
        super().__init__()
        self.history, self.n_levels = history, n_levels
        decay = torch.tensor(DECAYS)[:, None]
        self.age_weight = nn.Parameter(decay ** torch.arange(history))  # (channels, history)
        levels = torch.ones(n_levels, len(DECAYS))
        if n_levels > 1:  # liked items pull, disliked push
            levels[:, LIKED] = torch.linspace(-1, 1, n_levels)
        self.level_weight = nn.Parameter(levels)
        lengths, places = torch.arange(history + 1)[:, None], torch.arange(history)
        # Age of each place in a history of each length; `history`, beyond all ages, for unused.
        ages = torch.where(places < lengths, lengths - 1 - places, history)
        self.register_buffer("ages", ages, persistent=False)
        self.width = len(DECAYS) * (dim + n_levels) + 1

    def forward(self, items: Tensor, levels: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Encode histories.

        Args:
            items: Rows of `vectors`, oldest first, (n, history), int64.
            levels: Feedback levels, (n, history), int64.
            lengths: Used places, (n,), int64.
            vectors: Of items, (any, dim).

        Returns:
            (n, width), each part of about unit size.
        """
        rows = len(items)
        weight = F.embedding(lengths, self._weights()).reshape(rows, len(DECAYS), -1)
        level = F.one_hot(levels, self.n_levels).float()  # (n, history, levels)
        liked = weight * (level @ self.level_weight).transpose(1, 2)
        pools = torch.bmm(liked, F.embedding(items, vectors)).reshape(rows, -1)
        moods = torch.bmm(weight, level).reshape(rows, -1)
        length = lengths[:, None].float() / self.history
        return torch.cat([pools, moods, length], 1)

    def _weights(self) -> Tensor:
        """Weight of each place by the length of the history, (history + 1, channels * history).

        Scaled so that the squares of a history's weights sum to 1: a sum of independent vectors
        has the size of the root of that.
        """
        by_age = torch.cat([self.age_weight, self.age_weight.new_zeros(len(DECAYS), 1)], 1)
        weights = by_age[:, self.ages].transpose(0, 1)  # (history + 1, channels, history)
        size = weights.detach().square().sum(2, keepdim=True).sqrt().clamp_min(1e-3)
        return (weights / size).reshape(self.history + 1, -1)


def _reduced(fixed: NDArray[np.floating] | None, n_items: int, dim: int) -> Tensor | None:
    """Main axes of given vectors, brought to unit variance, (n_items, at most dim)."""
    if fixed is None:
        return None
    vectors = np.asarray(fixed, np.float32)
    if vectors.ndim != 2 or len(vectors) != n_items or not np.isfinite(vectors).all():
        raise ValueError(
            f"item_vectors must be finite numbers of shape ({n_items}, width), one row an "
            f"item of the catalogue, got shape {vectors.shape}"
        )
    vectors = vectors - vectors.mean(0)
    if vectors.shape[1] > dim:
        _, axes = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
        vectors = (vectors @ axes[:, ::-1][:, :dim].astype(np.float32)).astype(np.float32)
    return torch.from_numpy(vectors / max(float(vectors.std()), 1e-8))


def _start_bias(given: NDArray[np.floating] | None, n_items: int) -> Tensor | None:
    if given is None:
        return None
    bias = np.asarray(given, np.float32)
    if bias.shape != (n_items,) or not np.isfinite(bias).all():
        raise ValueError(
            f"item_bias must be finite numbers of shape ({n_items},), one an item of the "
            f"catalogue, got shape {bias.shape}"
        )
    return torch.from_numpy(bias.copy())


def query_gain(width: int) -> float:
    """Standard deviation of the weights that make a query of `width` inputs of unit size.

    A query's coordinates then start at .3: scores begin within about half a unit of the item
    bias, so the first slates explore the whole catalogue, yet move with the item vectors at once.
    """
    return 0.3 / math.sqrt(width)
