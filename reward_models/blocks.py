"""Blocks of events: how histories of any length are cut into a window for the behaviour tower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from audience.reward_models.collaborative import FORGETTING
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import (
    DECAYS,
    REACH,
    CollaborativeInputs,
)

NEVER = 2**31
"""Rank of an item that the user never meets."""


@dataclass(frozen=True)
class Block:
    """Where a block lies in one user's events: [start, end), scored from `scored` on."""

    user: int
    start: int
    end: int
    scored: int


def covering(histories: Histories, window: int) -> list[Block]:
    """Blocks that cover every event once."""
    return [
        Block(user, start, min(start + window, n), start)
        for user, n in enumerate(histories.lengths.tolist())
        for start in range(0, n, window)
    ]


def overlapping(histories: Histories, window: int) -> list[Block]:
    """Blocks that score every event once, each with at least half a window before it."""
    half = window // 2
    blocks = []
    for user, n in enumerate(histories.lengths.tolist()):
        for start in range(0, max(n - half, 1), half):
            end = min(start + window, n)
            blocks.append(Block(user, start, end, 0 if start == 0 else start + half))
    return [block for block in blocks if block.end > block.scored]


class BlockDataset(Dataset[dict[str, Any]]):
    """Blocks as rows for `BehaviourModel.forward`.

    Args:
        histories: Events of the users, no item twice for one user.
        blocks: What to cut.
        inputs: The collaborative inputs that the blocks will meet.
        level_values: Value of each level, shape (levels,).
        window: Longest block.
        folds: Fold of each user, shape (users,); None: all in the first.
        order: "time": the events stand in time order; "random": their order says nothing.
        shuffled: Share of the rows of an epoch whose user's events are put in random order, 0…1;
            the others stay in time order.
        seed: Of the orders; row i of epoch e is the same in every run.
    """

    def __init__(
        self,
        histories: Histories,
        blocks: list[Block],
        inputs: CollaborativeInputs,
        level_values: NDArray[np.float64],
        window: int,
        folds: NDArray[np.int64] | None = None,
        order: str = "time",
        shuffled: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.histories, self.blocks, self.window = histories, blocks, window
        self.folds = np.zeros(len(histories), np.int64) if folds is None else folds
        self.order, self.shuffled, self.seed, self.epoch = order, shuffled, seed, 0
        self.level_values = level_values
        self.inputs = inputs
        self._base = inputs.base.cpu().numpy()
        self._design = inputs.design.cpu().numpy()
        self._std = float(inputs.unit[1])

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        block, fold = self.blocks[index], int(self.folds[self.blocks[index].user])
        first, last = self.histories.offsets[block.user : block.user + 2]
        items, levels = self.histories.items[first:last], self.histories.levels[first:last]
        timed = self.order == "time"
        rng = np.random.default_rng((self.seed, self.epoch, index))
        if rng.random() < self.shuffled:
            timed, order = False, rng.permutation(len(items))
            items, levels = items[order], levels[order]
        n_items = self._base.shape[1]
        rank = np.full(n_items, NEVER, np.int64)
        rank[items[block.end :]] = self.window
        rank[items[block.start : block.end]] = np.arange(block.end - block.start)
        rank[items[: block.start]] = -1
        row = {
            "items": items[block.start : block.end],
            "levels": levels[block.start : block.end],
            "rank": rank,
            "fold": fold,
            "timed": timed,
        }
        return row | self._earlier(items[: block.start], levels[: block.start], fold)

    def _earlier(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], fold: int
    ) -> dict[str, Any]:
        n_levels = len(self.level_values)
        x = self._design[fold, items]
        residual = (self.level_values[levels] - self._base[fold, items]).astype(np.float32)
        mean = np.zeros(self._base.shape[1], np.float32)
        liking = mean.copy()
        mean[items] = 1 / max(len(items), 1)
        liking[items] = residual / self._std / max(len(items), 1)
        return {
            "gram": x.T @ x,
            "moment": x.T @ residual,
            "recent": self._recent(residual),
            "latest": items[::-1][:REACH],
            "level_sums": np.bincount(levels, minlength=n_levels).astype(np.float32),
            "item_mean": mean,
            "item_liking": liking,
        }

    def _recent(self, residual: NDArray[np.float32]) -> NDArray[np.float32]:
        age = np.arange(len(residual))[::-1]
        weight = np.array(DECAYS, np.float32) ** age[:, None]  # (events, decays)
        return np.stack([residual @ weight, weight.sum(0)]).astype(np.float32)

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Stack rows into the arguments of `BehaviourModel.forward`."""
        length = np.array([len(row["items"]) for row in rows])
        items = np.zeros((len(rows), int(length.max())), np.int64)
        levels = np.zeros_like(items)
        for i, row in enumerate(rows):
            items[i, : length[i]], levels[i, : length[i]] = row["items"], row["levels"]
        stacked = {
            key: torch.from_numpy(np.stack([row[key] for row in rows]))
            for key in ("gram", "moment", "recent", "item_mean", "item_liking", "rank")
        }
        fold = torch.tensor([row["fold"] for row in rows])
        rank = stacked.pop("rank")
        earlier = stacked | {
            "levels": torch.from_numpy(np.stack([row["level_sums"] for row in rows])),
            "ease": self._ease(stacked["item_mean"] > 0, fold),
            "coming": self._coming([row["latest"] for row in rows], fold),
        }
        return {
            "items": torch.from_numpy(items),
            "levels": torch.from_numpy(levels),
            "length": torch.from_numpy(length),
            "earlier": earlier,
            "rank": rank,
            "fold": fold,
            "timed": torch.tensor([row["timed"] for row in rows]),
        }

    def _coming(self, latest: list[NDArray[np.int64]], fold: Tensor) -> Tensor:
        """Follower scores from the events before the block."""
        scores = torch.zeros(len(latest), self._base.shape[1])
        filled = [i for i, items in enumerate(latest) if len(items)]
        if filled:
            users = np.repeat(filled, [len(latest[i]) for i in filled])
            items = torch.from_numpy(np.concatenate([latest[i] for i in filled]))
            ages = np.concatenate([np.arange(len(latest[i])) for i in filled])
            weight = torch.from_numpy((FORGETTING**ages).astype(np.float32))
            of = torch.from_numpy(users)
            rows = self.inputs.linear_rows(self.inputs.followers.cpu(), items, fold[of])
            scores.index_add_(0, of, rows * weight[:, None])
        return scores

    def _ease(self, seen: Tensor, fold: Tensor) -> Tensor:
        """EASE scores from the events before the block, shape (rows, items)."""
        scores = torch.zeros(seen.shape)
        head = self.inputs.head.cpu()
        for part in torch.unique(fold[seen.any(1)]).tolist():
            rows = torch.nonzero((fold == part) & seen.any(1))[:, 0]
            known = seen[rows][:, head].float()
            scores[rows[:, None], head] = known @ self.inputs.ease[part].cpu()
        return scores
