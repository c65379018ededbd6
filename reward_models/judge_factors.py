"""What a judge's choice learns beyond counts: factors of what was met and of what comes next.

A history is the mean of its events' factors, lately met ones weighing more; an item comes next the
more its own factors agree with it (FPMC: Rendle et al., WWW 2010; Fossil: He and McAuley, ICDM
2016). They are fitted by likelihood on top of what the neighbourhoods say, across parts of the
users, and what texts share is shared. They take 1.1 % (movielens) and .9 % (ml-100k) off the NLL
that judge als has of validation users' next events (NDCG@10 .150 to .157, .156 to .160); a network
of 16 units over the same neighbourhoods takes off nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audience.reward_models.histories import Histories
from audience.reward_models.judge_channels import faded, rounded, sums_before

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

PACES = (0.5, 0.95)
"""Weights of an event against the one after it, in the two means of a history."""

SIZE = 128
"""Factors of an item."""

REACH = 100
"""Latest events that means are taken over in fitting: older ones weigh less than .006."""

DROPPED = 0.7
"""Part of a history's factors that a step of the fit does without."""

PASSES, BATCH, RATE = 4, 1024, 8e-3
"""Passes over the events, events a step, and the highest learning rate of Adam."""

GONE = -6e4
"""Utility of what cannot be chosen, within half precision: its exponential is 0."""

SCALE = 0.05
"""Standard deviation of factors at the start."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Events of users whom the neighbourhoods did not meet, and what these say of them.

    Attributes:
        base: Utility of each item of the head, GONE where consumed, shape (events, head), float16.
        means: Of each pace, weights of the events before, summing to 1 in a row (0 in the first
            one), each of shape (events, head).
        item: Which one of the head was met, shape (events,).
    """

    base: NDArray[np.float16]
    means: tuple[sp.csr_matrix, ...]
    item: I64

    @classmethod
    def joined(cls, parts: list[Asked]) -> Asked:
        """All of them as one."""
        of_paces = zip(*(part.means for part in parts), strict=True)
        return cls(
            np.concatenate([part.base for part in parts]),
            tuple(sp.csr_matrix(sp.vstack(of)) for of in of_paces),
            np.concatenate([part.item for part in parts]),
        )


def means_of(places: I64, rows: I64, head: int) -> tuple[sp.csr_matrix, ...]:
    """`Asked.means` of some events of one user.

    Args:
        places: Of the user's items in the head, -1 beyond it, shape (events,).
        rows: Which events are asked about.
        head: Items of the head.
    """
    reach = np.minimum(rows, REACH)
    of = np.repeat(np.arange(len(rows)), reach)
    age = np.arange(len(of)) - np.repeat(np.cumsum(reach) - reach, reach)
    met = places[rows[of] - 1 - age]
    of, age, met = of[met >= 0], age[met >= 0], met[met >= 0]
    found = []
    for pace in PACES:
        weight = pace ** age.astype(np.float64)
        weight /= np.bincount(of, weight, len(rows))[of]
        cells = weight.astype(np.float32), (of, met)
        found.append(sp.csr_matrix(cells, (len(rows), head)))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class NextFactors:
    """Factors of what was met and of what comes next, for the items of the head.

    u[a] = bias[a] + come[a] . sum over paces p of m[p], where m[p] is the mean of met[p] over the
    events of the history, each weighing PACES[p] of the one after it.

    Attributes:
        met: Shape (paces, head, size).
        come: Shape (head, size).
        bias: Shape (head,).
    """

    met: F32
    come: F32
    bias: F32

    @classmethod
    def none(cls, head: int) -> NextFactors:
        """Factors that say nothing."""
        shapes = (len(PACES), head, 0), (head, 0), (head,)
        return cls(*(np.zeros(shape, np.float32) for shape in shapes))

    @classmethod
    def fit(
        cls, asked: list[Asked], check: list[Asked], vectors: F32, seed: int
    ) -> tuple[NextFactors, float]:
        """Fit by Adam, and keep the pass that tells the checked events best; none may be best.

        Args:
            asked: Events to fit on, in parts.
            check: Events of other users, a part for each; without one there are no factors.
            vectors: Of the texts of the head's items, shape (head, dim).
            seed: Of the start, the order of events and what is dropped.

        Returns:
            The factors, and what the utilities that they are added to are to be multiplied by.
        """
        check = [user for user in check if len(user.item)]
        if not check or not any(len(part.item) for part in asked):
            return cls.none(len(vectors)), 1.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _Network(torch.from_numpy(vectors.astype(np.float32)))
            return network.fitted(Asked.joined(asked), check)

    # In use

    @property
    def shape(self) -> tuple[int, int]:
        """Of the sums of one history: of its factors for each pace, and of its weights."""
        return len(PACES), self.come.shape[1] + 1

    def sums_of(self, histories: Histories, place: I64) -> F32:
        """Sums after whole histories, shape (users, *self.shape).

        Args:
            histories: Of the users.
            place: Of each item of the catalogue in the head, -1 beyond it.
        """
        found = np.zeros((len(histories), *self.shape), np.float32)
        for p, pace in enumerate(PACES):
            events = faded(histories, place, len(self.come), pace)
            found[:, p, :-1] = events @ self.met[p]
            found[:, p, -1] = events.sum(1).A1
        return found

    def add(self, sums: F32, rows: I64, at: I64) -> None:
        """One event more, of these places in the head (-1: beyond), for these distinct rows."""
        known = at >= 0
        fresh = sums[rows] * np.array(PACES, np.float32)[:, None]
        fresh[known, :, :-1] += self.met[:, at[known]].transpose(1, 0, 2)
        fresh[known, :, -1] += 1
        sums[rows] = fresh

    def before(self, at: I64, rows: I64) -> F32:
        """Sums before some events of one user, shape (rows, *self.shape).

        Args:
            at: Of the user's items in the head, -1 beyond it, shape (events,).
            rows: Which events are asked about.
        """
        known = (at >= 0).astype(np.float32)[:, None]
        found = np.zeros((len(rows), *self.shape), np.float32)
        for p, pace in enumerate(PACES):
            each = np.concatenate([self.met[p, at] * known, known], 1)
            found[:, p] = sums_before(each, np.array([pace]), rows)[:, 0]
        return found

    def utilities(self, sums: F32) -> F32:
        """What is added to the utilities of the head, (users, *self.shape) to (users, head)."""
        mean = (sums[..., :-1] / np.maximum(sums[..., -1:], 1e-9)).sum(1)
        return mean @ self.come.T + self.bias

    # As arrays

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it consists of."""
        return {name: getattr(self, name).astype(np.float16) for name in ("met", "come", "bias")}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> NextFactors:
        """The inverse of `arrays`."""
        return cls(**{name: array.astype(np.float32) for name, array in arrays.items()})


class _Network(nn.Module):
    """Factors in fitting: of each item its own, and of its text what all texts share."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        head, dim = vectors.shape
        self.vectors = vectors
        self.scale = nn.Parameter(torch.ones(()))
        self.bias = nn.Parameter(torch.zeros(head))
        self.met = nn.Parameter(SCALE * torch.randn(len(PACES), head, SIZE))
        self.come = nn.Parameter(SCALE * torch.randn(head, SIZE))
        self.met_text = nn.Parameter(SCALE * torch.randn(len(PACES), dim, SIZE))
        self.come_text = nn.Parameter(SCALE * torch.randn(dim, SIZE))

    def whole(self) -> tuple[Tensor, Tensor]:
        """Factors of what was met, and of what comes."""
        met = self.met + self.vectors @ self.met_text
        return met, self.come + self.vectors @ self.come_text

    def forward(self, asked: Asked, rows: I64) -> Tensor:
        """Utilities of the head before these events, shape (rows, head)."""
        met, come = self.whole()
        mean = torch.zeros(len(rows), SIZE)
        for weights, factors in zip(asked.means, met, strict=True):
            mean = mean + _means(weights[rows], factors)
        mean = nn.functional.dropout(mean, DROPPED, self.training)
        base = torch.from_numpy(asked.base[rows]).float()
        return torch.addmm(self.bias, mean, come.T) + self.scale * base

    def fitted(self, asked: Asked, check: list[Asked]) -> tuple[NextFactors, float]:
        """See `NextFactors.fit`."""
        steps = -(-len(asked.item) // BATCH)
        optimizer = torch.optim.Adam(self.parameters(), RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, RATE, total_steps=PASSES * steps + 1, pct_start=0.1
        )
        best, kept = _surprise(None, check), (NextFactors.none(len(self.bias)), 1.0)
        for _ in range(PASSES):
            self.train()
            for rows in torch.randperm(len(asked.item)).split(BATCH):
                optimizer.zero_grad()
                _nats(self(asked, part := rows.sort()[0].numpy()), asked.item[part]).backward()
                optimizer.step()
                schedule.step()
            self.eval()
            if (found := _surprise(self, check)) < best:
                best, kept = found, self.taken()
        return kept

    @torch.no_grad()
    def taken(self) -> tuple[NextFactors, float]:
        """What is learned."""
        learned = (rounded(of.numpy()) for of in (*self.whole(), self.bias))
        return NextFactors(*learned), float(self.scale)


@torch.no_grad()
def _surprise(network: _Network | None, check: list[Asked]) -> float:
    """Nats of the mean user's events, with a network or as the neighbourhoods have them."""
    found = []
    for user in check:
        rows = np.arange(len(user.item))
        said = torch.from_numpy(user.base).float() if network is None else network(user, rows)
        found.append(float(_nats(said, user.item)))
    return float(np.mean(found))


def _nats(utilities: Tensor, item: I64) -> Tensor:
    """Mean surprise at items."""
    return nn.functional.cross_entropy(utilities, torch.from_numpy(item))


def _means(weights: sp.csr_matrix, factors: Tensor) -> Tensor:
    """Product of a sparse matrix with factors."""
    cells, start = torch.from_numpy(weights.data), torch.from_numpy(weights.indptr[:-1])
    return nn.functional.embedding_bag(
        torch.from_numpy(weights.indices), factors, start, mode="sum", per_sample_weights=cells
    )
