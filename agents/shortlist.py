"""The items of the largest scores in a catalogue too large to score: nearest clusters first."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FROM = 200_000
"""Items from which a shortlist pays: all of 1,000,000 took some 60 ms on one core."""

CLUSTERS, PROBES = 512, 40
"""Clusters of the items, and how many of them are looked into: a thirteenth of the catalogue."""

SAMPLED, ROUNDS = 64, 8
"""Items a cluster that k-means runs on, and its rounds."""

BLOCK = 20_000
"""Items whose nearest cluster is found at a time."""


class Shortlist:
    """Inner products of queries with item vectors, the largest of them (inverted lists).

    Items are clustered by k-means; a query looks into the clusters whose centres score highest
    (Jégou, Douze & Schmid, TPAMI 2011). The scores are exact; items in other clusters are missed.

    Args:
        vectors: Of the items, shape (items, dim).
        bias: Added to their scores, shape (items,); None: 0.
        seed: Of the items that the clusters begin from.
    """

    def __init__(self, vectors: Tensor, bias: Tensor | None = None, seed: int = 0) -> None:
        extra = torch.zeros(len(vectors), 1) if bias is None else bias[:, None].cpu()
        self._vectors = torch.cat([vectors.cpu(), extra], 1).float()  # a query's last number is 1
        clusters = max(1, min(CLUSTERS, len(vectors) // SAMPLED))
        self._centres = _k_means(self._vectors, clusters, seed)
        nearest = torch.cat([_nearest(part, self._centres) for part in self._vectors.split(BLOCK)])
        self._order = nearest.argsort(stable=True)
        self._vectors = self._vectors[self._order]  # a cluster lies in one piece
        self._ends = nearest.bincount(minlength=clusters).cumsum(0)

    def best(self, queries: Tensor, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Items and scores, best first, each of shape (n, at most count).

        Args:
            queries: Shape (n, dim).
            count: How many; where the clusters looked into hold fewer, more clusters are.
        """
        wide = torch.cat([queries.cpu().float(), torch.ones(len(queries), 1)], 1)
        found = [self._of_one(query, min(count, len(self._order))) for query in wide]
        if not found:
            return np.zeros((0, 0), np.int64), np.zeros((0, 0), np.float32)
        items, scores = (torch.stack(part).numpy() for part in zip(*found, strict=True))
        return items, scores

    def _of_one(self, query: Tensor, count: int) -> tuple[Tensor, Tensor]:
        ranked = (self._centres @ query).argsort(descending=True)
        begins = torch.cat([torch.zeros(1, dtype=torch.long), self._ends[:-1]])
        sizes = (self._ends - begins)[ranked]
        probes = max(PROBES, int((sizes.cumsum(0) < count).sum()) + 1)
        pieces = [
            slice(int(begins[cluster]), int(self._ends[cluster])) for cluster in ranked[:probes]
        ]
        scores = torch.cat([self._vectors[piece] @ query for piece in pieces])
        order = torch.cat([self._order[piece] for piece in pieces])
        best = scores.topk(count)
        return order[best.indices], best.values


def _k_means(vectors: Tensor, clusters: int, seed: int) -> Tensor:
    """Centres of clusters, (clusters, dim), by Lloyd's algorithm on a sample."""
    rng = np.random.default_rng(seed)
    size = min(len(vectors), SAMPLED * clusters)
    sample = vectors[torch.from_numpy(rng.choice(len(vectors), size, replace=False))]
    centres = sample[:clusters].clone()
    for _ in range(ROUNDS):
        nearest = _nearest(sample, centres)
        total = torch.zeros_like(centres).index_add_(0, nearest, sample)
        members = nearest.bincount(minlength=clusters)
        kept = members > 0  # a cluster that lost all members stays where it is
        centres[kept] = total[kept] / members[kept, None]
    return centres


def _nearest(vectors: Tensor, centres: Tensor) -> Tensor:
    """The nearest centre of each vector, (n,)."""
    return (vectors @ centres.T - centres.square().sum(1) / 2).argmax(1)
