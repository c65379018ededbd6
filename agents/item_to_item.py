"""What collaborative filters say of items by the events of a history, as inputs of a policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

LARGEST = 60_000.0
"""What float16 holds, nearly."""


@dataclass(frozen=True)
class ItemToItem:
    """Matrices of item-to-item filters, whose scores are sums of rows over a user's events.

    Attributes:
        matrices: What an event with one item adds to the score of another, in units of a score
            below which all are alike, (kinds, head, head).
        head: Catalogue index of each row and column, (head,); other items score nothing.
        decays: What an event's weight keeps with each event after it, one number a kind.
    """

    matrices: NDArray[np.float16]
    head: NDArray[np.int64]
    decays: tuple[float, ...]


class ItemToItemScores(nn.Module):
    """Logarithms of the sums of such rows over the events of each history, from 0 to 11.

    Nothing of it is learned, and it is no part of the weights that are saved.

    Args:
        n_items: Size of the catalogue.
        history: Places of the observation.
        known: The matrices.
    """

    matrices: Tensor  # (kinds, head, head), float16
    place: Tensor  # (items,): row in the matrices, -1 for none
    weights: Tensor  # (kinds, history): of an event by its age

    def __init__(self, n_items: int, history: int, known: ItemToItem) -> None:
        super().__init__()
        head = torch.from_numpy(known.head)
        place = torch.full((n_items,), -1)
        place[head] = torch.arange(len(head))
        decays = torch.tensor(known.decays)[:, None]
        parts = {
            "matrices": torch.from_numpy(known.matrices),
            "place": place,
            "weights": (decays ** torch.arange(history)).half(),
        }
        for name, part in parts.items():
            self.register_buffer(name, part, persistent=False)
        self.kinds = len(known.decays)
        self._all = len(head) == n_items and bool((place == torch.arange(n_items)).all())

    @torch.no_grad()
    def forward(self, items: Tensor, lengths: Tensor, choices: Tensor | None = None) -> Tensor:
        """Scores of choices after histories, (n, kinds, choices).

        Args:
            items: Oldest first, (n, history), int64.
            lengths: Used places, (n,), int64.
            choices: Items, (n, choices), int64; None: the catalogue.
        """
        places = torch.arange(items.shape[1], device=items.device)
        row = self.place[items]
        used = (places < lengths[:, None]) & (row >= 0)
        counts = used.sum(1)
        age = (lengths[:, None] - 1 - places)[used]
        row, ends = row[used], counts.cumsum(0)
        bag = F.embedding_bag
        sums = torch.stack(
            [
                bag(row, matrix, ends - counts, mode="sum", per_sample_weights=weights[age])
                for matrix, weights in zip(self.matrices, self.weights, strict=True)
            ],
            1,
        )
        # Of half the bytes sums take a third of the time; those beyond float16 are infinite.
        scores = sums.clamp_(1, LARGEST).float().log_()
        if choices is None and self._all:
            return scores
        at = self.place if choices is None else self.place[choices]
        at = at.expand(len(items), -1)[:, None].expand(-1, self.kinds, -1)
        return scores.gather(2, at.clamp(min=0)).mul_(at >= 0)
