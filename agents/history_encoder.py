"""Item vectors, and what a policy makes of a user's events."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

FEEDBACK_DIM = 8
"""Width of the learned feedback embedding: a scale has about ten levels."""

HIDDEN = 128
"""Width of the hidden layers: twice the default width of the item vectors."""


class ItemVectors(nn.Module):
    """Vectors of all items: a learned part each, plus a projection of given vectors.

    Args:
        n_items: Size of the catalogue.
        dim: Width of the vectors.
        fixed: Given vectors (of text, or CF), shape (n_items, any width), finite; they stay as
            they are, centred and brought to unit variance; only their projection is learned.

    Raises:
        ValueError: `fixed` has another shape, or is not finite.
    """

    def __init__(self, n_items: int, dim: int, fixed: NDArray[np.floating] | None = None) -> None:
        super().__init__()
        self.fixed: Tensor | None
        self.projection: nn.Linear | None = None
        # Unit variance, so that scores move as soon as the query does; beside given vectors the
        # learned part starts small, so that like items start alike.
        learned_std = 1.0 if fixed is None else 0.1
        self.learned = nn.Parameter(learned_std * torch.randn(n_items, dim))
        if fixed is None:
            self.register_buffer("fixed", None)
            return
        vectors = np.asarray(fixed, np.float32)
        if vectors.ndim != 2 or len(vectors) != n_items or not np.isfinite(vectors).all():
            raise ValueError(
                f"item_vectors must be finite numbers of shape ({n_items}, width), one row an "
                f"item of the catalogue, got shape {vectors.shape}"
            )
        vectors = vectors - vectors.mean(0)
        self.register_buffer("fixed", torch.from_numpy(vectors / max(vectors.std(), 1e-8)))
        self.projection = nn.Linear(vectors.shape[1], dim, bias=False)
        nn.init.normal_(self.projection.weight, std=1 / math.sqrt(vectors.shape[1]))

    def forward(self) -> Tensor:
        """All vectors, (n_items, dim)."""
        if self.projection is None:
            return self.learned
        return self.projection(self.fixed) + self.learned


class HistoryEncoder(nn.Module):
    """A user's events as one vector, cheap enough for hundreds of users a step on a CPU.

    Mean of the item vectors, their mean weighted by a learned weight of the feedback, the last
    item's vector, the mean and the last feedback embedding, and how many events there are. Pools
    instead of a transformer: both sums are one `embedding_bag`, no (users, history, dim) tensor
    is ever made.

    Args:
        n_levels: Feedback levels.
        dim: Width of the item vectors.
        history: Places of the observation.
    """

    def __init__(self, n_levels: int, dim: int, history: int) -> None:
        super().__init__()
        self.history = history
        self.feedback = nn.Embedding(n_levels, FEEDBACK_DIM)
        # From -1 for the lowest level to 1 for the highest: liked items pull, disliked push.
        weights = torch.linspace(-1, 1, n_levels) if n_levels > 1 else torch.ones(1)
        self.feedback_weight = nn.Parameter(weights)
        self.width = 3 * dim + 2 * FEEDBACK_DIM + 1

    def forward(self, items: Tensor, levels: Tensor, lengths: Tensor, vectors: Tensor) -> Tensor:
        """Encode histories.

        Args:
            items: Catalogue indices, oldest first, (n, history), int64.
            levels: Feedback levels, (n, history), int64.
            lengths: Used places, (n,), int64.
            vectors: Of all items, (n_items, dim).

        Returns:
            (n, width), each part of about unit size.
        """
        used = (torch.arange(items.shape[1], device=items.device) < lengths[:, None]).float()
        count = lengths.clamp_min(1)[:, None].float()
        # A mean of n independent vectors has size 1/sqrt(n); dividing by sqrt(n) keeps it at 1.
        share = used / count.sqrt()
        mean = F.embedding_bag(items, vectors, mode="sum", per_sample_weights=share)
        weight = self.feedback_weight[levels] * share
        liked = F.embedding_bag(items, vectors, mode="sum", per_sample_weights=weight)
        last = (lengths - 1).clamp_min(0)[:, None]
        some = (lengths > 0).float()[:, None]  # without events, everything below is 0
        last_item = F.embedding(items.gather(1, last)[:, 0], vectors) * some
        mean_feedback = F.embedding_bag(
            levels, self.feedback.weight, mode="sum", per_sample_weights=used / count
        )
        last_feedback = self.feedback(levels.gather(1, last)[:, 0]) * some
        length = lengths[:, None].float() / self.history
        return torch.cat([mean, liked, last_item, mean_feedback, last_feedback, length], 1)
