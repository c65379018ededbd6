"""Blocks of events: how histories of any length are cut into a window for the behaviour tower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from audience.reward_models.about_users import AboutUsers, note_sums
from audience.reward_models.behaviour_network import INTERESTS
from audience.reward_models.collaborative import COMPANY_DECAY, FORGETTING, SILENT
from audience.reward_models.coming import REACH
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import (
    DECAYS,
    TEXT_AXES,
    CollaborativeInputs,
    opinions,
)
from audience.reward_models.log_slates import Slates
from audience.reward_models.query_features import LATELY
from audience.reward_models.signals import Signals, taken
from audience.reward_models.text_nearness import LATEST

NEVER = 2**31
"""Rank of an item that the user never meets."""

UNKNOWN = -1
"""Whether a session ended, where the log does not say."""


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
        weights: How much each member of an ensemble learns from each user, shape (users,
            members); None: all alike.
        signals: What the log says of these users beside items and feedback.
        about: What is known of them by name; None: nothing.
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
        weights: NDArray[np.float32] | None = None,
        signals: Signals | None = None,
        about: AboutUsers | None = None,
        seed: int = 0,
    ) -> None:
        self.histories, self.blocks, self.window = histories, blocks, window
        self.folds = np.zeros(len(histories), np.int64) if folds is None else folds
        self.order, self.shuffled, self.seed, self.epoch = order, shuffled, seed, 0
        self.level_values, self.weights, self.signals = level_values, weights, signals
        self.inputs, self.about = inputs, about
        self._named = None if about is None else about.rows(histories.users)
        self._base = inputs.base.cpu().numpy()
        self._design = inputs.design.cpu().numpy()
        self._near = inputs.neighbours.cpu().numpy(), inputs.company.cpu().numpy()
        self._place = inputs.place.cpu().numpy()
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
        row: dict[str, Any] = {
            "items": items[block.start : block.end],
            "levels": levels[block.start : block.end],
            "rank": rank,
            "fold": fold,
            "timed": timed,
            "block": index,
            "dataset": self,
        }
        if self.weights is not None:
            row["weights"] = self.weights[block.user]
        past = items[: block.start], levels[: block.start]
        row |= self._earlier(*past, row["items"], fold)
        row |= self._signals(block, int(first)) | self._about(block, items)
        if "slates" in row:
            assert self.signals is not None and self.signals.slates is not None
            slates = taken(self.signals.slates, row["slates"])
            row["slate_opinion"] = self._opinion(*past, slates.items, fold)
        return row

    def _earlier(
        self,
        items: NDArray[np.int64],
        levels: NDArray[np.int64],
        coming: NDArray[np.int64],
        fold: int,
    ) -> dict[str, Any]:
        n_levels, n_items = len(self.level_values), self._base.shape[1]
        x = self._design[fold, items]
        residual = (self.level_values[levels] - self._base[fold, items]).astype(np.float32)
        weights = np.zeros((2 + len(INTERESTS), n_items), np.float32)
        weights[0, items] = 1 / max(len(items), 1)
        weights[1, items] = residual / self._std / max(len(items), 1)
        age = np.arange(len(items))[::-1]
        weights[2:, items] = np.array(INTERESTS, np.float32)[:, None] ** age
        return {
            "gram": x.T @ x,
            "moment": x.T @ residual,
            "recent": self._recent(residual),
            "met": (np.array(DECAYS, np.float32)[:, None] ** age @ x[:, -TEXT_AXES:]).astype(
                np.float32
            ),
            "lately": self._lately(levels),
            "opinion": self._opinion(items, levels, coming, fold),
            "latest": items[::-1][:REACH],
            "level_sums": np.bincount(levels, minlength=n_levels).astype(np.float32),
            "item_weights": weights,
            "seen": items,
        }

    def _opinion(
        self,
        items: NDArray[np.int64],
        levels: NDArray[np.int64],
        asked: NDArray[np.int64],
        fold: int,
    ) -> NDArray[np.float32]:
        """What the asked items' neighbours among the events say, as in `Known`, (asked, 6)."""
        row, column = self._place[items], self._place[asked]
        known = (row >= 0)[:, None] & (column >= 0)
        # Cells are found faster by one number than by three.
        cells = np.where(known, row[:, None] * self._near[0].shape[2] + column, 0)
        near, company = (
            torch.from_numpy((of[fold].reshape(-1).take(cells) * known)[None]) for of in self._near
        )
        residual = (self.level_values[levels] - self._base[fold, items]).astype(np.float32)
        late = (COMPANY_DECAY ** np.arange(len(items))[::-1]).astype(np.float32)
        of_events = torch.from_numpy(residual)[None], torch.ones(1, 1, 1)
        said = opinions((near, company), *of_events, torch.from_numpy(late)[None, :, None])
        return said[0].numpy()

    def _lately(self, levels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Decayed sum of events of each level, (levels,)."""
        weight = DECAYS[LATELY] ** np.arange(len(levels))[::-1]
        return np.bincount(levels, weight, len(self.level_values)).astype(np.float32)

    def _recent(self, residual: NDArray[np.float32]) -> NDArray[np.float32]:
        age = np.arange(len(residual))[::-1]
        weight = np.array(DECAYS, np.float32) ** age[:, None]  # (events, decays)
        sums = [residual @ weight, weight.sum(0), residual**2 @ weight]
        return np.stack(sums).astype(np.float32)

    def _signals(self, block: Block, first: int) -> dict[str, Any]:
        """What the log says of a block beside items and feedback, in time order only."""
        signals, row = self.signals, {}
        if signals is None:
            return {}
        events = slice(first + block.start, first + block.end)
        if signals.ends is not None:
            row["ends"] = signals.ends[events].astype(np.int64)
        if signals.dwell is not None:
            row["log_seconds"] = np.log(signals.dwell[events]).astype(np.float32)
        if signals.slates is not None:
            row["slates"] = self.slates_of(block, signals.slates)
        return row

    def _about(self, block: Block, items: NDArray[np.int64]) -> dict[str, Any]:
        """What is known by name of a block's user, whose events these are, in the row's order."""
        if self.about is None or self._named is None:
            return {}
        row: dict[str, Any] = {}
        user = self._named[block.user : block.user + 1]
        if self.about.context_dim:
            row["context"] = self.about.contexts_of(user)[0]
        if self.about.note_dim:
            notes, written = self.about.notes_of(user, items[: block.end])
            row["notes"] = notes[block.start :]
            row["written"] = written[block.start :].astype(np.float32)
            sums = note_sums(notes[: block.start], written[: block.start])
            row |= dict(zip(("note_sum", "note_weight", "note_last"), sums, strict=True))
        return row

    def slates_of(self, block: Block, slates: Slates) -> NDArray[np.int64]:
        """Indices of the slates that were shown before the events of a block.

        Those after a user's last event belong to the block that holds it.
        """
        own = np.arange(*np.searchsorted(slates.user, [block.user, block.user + 1]))
        first, last = self.histories.offsets[block.user : block.user + 2]
        end = block.end + (block.end == last - first)
        return own[(slates.earlier[own] >= block.scored) & (slates.earlier[own] < end)]

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Stack rows into the arguments of `BehaviourModel.forward`."""
        length = np.array([len(row["items"]) for row in rows])
        width = max(int(length.max()), 1)

        def padded(name: str, fill: Any, dtype: Any) -> Tensor:
            shape = np.asarray(rows[0][name]).shape[1:]
            filled = np.full((len(rows), width, *shape), fill, dtype)
            for i, row in enumerate(rows):
                filled[i, : length[i]] = row[name]
            return torch.from_numpy(filled)

        stacked = {
            key: torch.from_numpy(np.stack([row[key] for row in rows]))
            for key in ("gram", "moment", "recent", "met", "lately", "item_weights", "rank")
        }
        fold = torch.tensor([row["fold"] for row in rows])
        rank = stacked.pop("rank")
        earlier = stacked | {
            "levels": torch.from_numpy(np.stack([row["level_sums"] for row in rows])),
            "opinion": padded("opinion", 0, np.float32),
            "ease": self._ease([row["seen"] for row in rows], fold),
            "coming": self._coming([row["latest"] for row in rows], fold),
            "latest": _left_filled([row["latest"][:LATEST] for row in rows]),
        }
        batch = {
            "items": padded("items", 0, np.int64),
            "levels": padded("levels", 0, np.int64),
            "length": torch.from_numpy(length),
            "earlier": earlier,
            "rank": rank,
            "fold": fold,
            "timed": torch.tensor([row["timed"] for row in rows]),
        }
        if "weights" in rows[0]:
            batch["weights"] = torch.from_numpy(np.stack([row["weights"] for row in rows]))
        if "ends" in rows[0]:
            batch["ends"] = padded("ends", UNKNOWN, np.int64)
        if "log_seconds" in rows[0]:
            batch["log_seconds"] = padded("log_seconds", np.nan, np.float32)
        about: dict[str, Tensor] = {
            name: torch.from_numpy(np.stack([row[name] for row in rows]))
            for name in ("context", "note_sum", "note_weight", "note_last")
            if name in rows[0]
        }
        if "notes" in rows[0]:
            about |= {name: padded(name, 0, np.float32) for name in ("notes", "written")}
        if about:
            batch["about"] = about
        if self.signals is not None and self.signals.slates is not None:
            starts = [self.blocks[row["block"]].start for row in rows]
            which = [row["slates"] for row in rows]
            opinion = np.concatenate([row["slate_opinion"] for row in rows])
            batch["shown"] = _shown(self.signals.slates, which, starts, opinion)
        return batch

    def _coming(self, latest: list[NDArray[np.int64]], fold: Tensor) -> Tensor:
        """Scores of what comes next from the events before the block."""
        scores = torch.zeros(len(latest), self._base.shape[1])
        filled = [i for i, items in enumerate(latest) if len(items)]
        if filled:
            users = np.repeat(filled, [len(latest[i]) for i in filled])
            items = torch.from_numpy(np.concatenate([latest[i] for i in filled]))
            ages = np.concatenate([np.arange(len(latest[i])) for i in filled])
            weight = torch.from_numpy((FORGETTING**ages).astype(np.float32))
            of = torch.from_numpy(users)
            rows = self.inputs.linear_rows(self.inputs.coming.cpu(), items, fold[of])
            scores.index_add_(0, of, rows * weight[:, None])
        return scores

    def _ease(self, earlier: list[NDArray[np.int64]], fold: Tensor) -> Tensor:
        """EASE scores from the events before the block, shape (rows, items)."""
        scores = torch.zeros(len(earlier), self._base.shape[1])
        head = self.inputs.head.cpu()
        row = np.repeat(np.arange(len(earlier)), [len(items) for items in earlier])
        place = self._place[np.concatenate(earlier)]
        there = place >= 0
        cells, shape = (row[there], place[there]), (len(earlier), len(head))
        known = sp.csr_matrix((np.ones(there.sum(), np.float32), cells), shape)
        for part in torch.unique(fold).tolist():
            rows = torch.nonzero(fold == part)[:, 0]
            of = known[rows.numpy()] @ self.inputs.ease[part].cpu().numpy()
            scores[rows[:, None], head] = torch.from_numpy(of)
        return scores


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack rows by the data set that they come from: a Trainer has one collator for all."""
    return rows[0]["dataset"].collate(rows)


def _left_filled(latest: list[NDArray[np.int64]]) -> Tensor:
    """Items of each row's latest events, which come newest first, oldest first: (rows, LATEST)."""
    filled = np.full((len(latest), LATEST), -1)
    for row, items in zip(filled, latest, strict=True):
        row[LATEST - len(items) :] = items[::-1]
    return torch.from_numpy(filled)


def _shown(
    slates: Slates,
    of_rows: list[NDArray[np.int64]],
    starts: list[int],
    opinion: NDArray[np.float32],
) -> dict[str, Tensor]:
    """Slates of the rows of a batch as arguments of `BehaviourModel.forward`."""
    which = np.concatenate(of_rows)
    row = np.repeat(np.arange(len(of_rows)), [len(own) for own in of_rows])
    sizes = slates.sizes[which]
    width = max(int(sizes.max(initial=0)), 1)
    source = slates.offsets[which][:, None] + np.arange(width)
    there = np.arange(width) < sizes[:, None]
    source = np.where(there, source, 0)
    before = np.zeros((*there.shape, 2 * len(SILENT)), np.float32)
    before[there] = opinion
    known = np.full(len(which), UNKNOWN) if slates.ends is None else slates.ends[which]
    return {
        "row": torch.from_numpy(row),
        "at": torch.from_numpy(slates.earlier[which] - np.array(starts, np.int64)[row]),
        "items": torch.from_numpy(np.where(there, slates.items[source], -1)),
        "places": torch.from_numpy(np.where(there, slates.places[source], -1)),
        "chosen": torch.from_numpy(slates.chosen[which]),
        "ends": torch.from_numpy(known.astype(np.int64)),
        "opinion": torch.from_numpy(before),
        "which": torch.from_numpy(which),
    }
