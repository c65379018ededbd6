"""Choice of a judge: a conditional logit over neighbourhood scores and popularity.

Scores of an item are sums, over the events of a history, of a weight between the two items;
the logit is linear in their logarithms, with slopes fitted by likelihood (McFadden 1974).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.signal import lfilter
from scipy.special import log_softmax, softmax

from audience.reward_models.collaborative import (
    LINEAR_ITEMS,
    ease_matrix,
    follower_matrix,
    interaction_matrix,
    only_items,
)
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import CELLS

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Channels = tuple[F32, tuple[float, ...]]
"""Weights between items, and what a history's events keep of theirs with each further event: a
channel for each."""

WALK_BETA = 0.6
"""Power of popularity that a walk's end is divided by."""

FLOOR = 0.02
"""Of the mean top score: what lies below is all the same, as its logarithm is noise."""

FOLLOWED, LATELY = (0.5, 0.9), 0.8
"""What followers (at two paces) and texts keep of an event with each further one. Against one
pace of .7 and no text they take .07 nats off the next event of movielens' validation users."""

WALKED = 1.0, 0.9
"""The same for walks: from all that was met, and from what was met of late."""

LENGTH_UNIT = 4.0
"""Log of the number of events is divided by this: about 1 for a history of 50 events."""

CALIBRATION_EVENTS = 2000
"""Events that the slopes are fitted on."""

NEXT, LATER = 0, 1
"""What is asked: the next event, or any later one."""

RIDGE = 1e-3
"""Of the slopes, a mean event: only keeps them finite where scores tell nothing."""


@dataclass(frozen=True, eq=False)
class LogLinearChoice:
    """Log-probability of each item to be chosen, from the history alone.

    What comes next and what comes at any later time are two questions: on movielens, whose
    order is that of sittings, slopes that answer the first well (NDCG@10 of the next event .138
    against .092) rank a random half of a user's events badly (.36 against .50). So there are
    two sets, fitted on events in their own and in random order.

    u[a] = sum over c of (s[o, 0, c] + s[o, 1, c] n) log max(score[c, a] / floor[c], 1),
    normalised over what is not consumed, where s are the slopes, o what is asked, the last c
    popularity, and n the log of the number of events over LENGTH_UNIT.

    Attributes:
        weights: Of item j for a history with item i, [m, i, j], shape (matrices, head, head).
        source: The matrix of each channel, shape (channels,).
        head: Catalogue index of each row and column of `weights`, shape (head,).
        decay: Weight of an event against the one after it, shape (channels,).
        floor: Lowest score of each channel, shape (channels,).
        log_popularity: Shape (items,).
        slopes: Shape (orders, 2, channels + 1); see NEXT and LATER.
    """

    weights: F32
    source: NDArray[np.int64]
    head: NDArray[np.int64]
    decay: F64
    floor: F64
    log_popularity: F64
    slopes: F64

    @classmethod
    def fit(
        cls,
        channels: list[Channels],
        head: NDArray[np.int64],
        popularity: F64,
        tuning: Histories,
        seed: int,
    ) -> LogLinearChoice:
        """Fit the slopes on users that the weights do not come from.

        Args:
            channels: Weights, shape (head, head), and the decays they are taken with.
            head: Catalogue index of each row, shape (head,).
            popularity: Share of each item, shape (items,).
            tuning: Events of the users to fit the slopes on.
            seed: Of the events drawn from them.
        """
        weights = np.stack([w for w, _ in channels])
        source = np.repeat(np.arange(len(channels)), [len(decays) for _, decays in channels])
        decay = np.concatenate([decays for _, decays in channels])
        start = np.zeros((2, 2, len(decay) + 1))
        start[:, 0, -1] = 1.0  # popularity alone
        new = cls(weights, source, head, decay, np.ones(len(decay)), np.log(popularity), start)
        if not len(tuning.items):
            return new
        rng = np.random.default_rng(seed)
        samples = [new._sample(tuning, order, rng) for order in (NEXT, LATER)]
        tops = np.concatenate([scores.max(2) for scores, *_ in samples])
        floor = np.maximum(FLOOR * tops.mean(0).astype(np.float64), 1e-9)
        new = replace(new, floor=floor)
        return replace(new, slopes=np.stack([new._slopes(*sample) for sample in samples]))

    def _sample(
        self, tuning: Histories, order: int, rng: np.random.Generator
    ) -> tuple[F32, NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """Scores and consumed items before some events, how many those are, and their items."""
        parts = []
        share = CALIBRATION_EVENTS / len(tuning.items)
        for begin, end in zip(tuning.offsets[:-1], tuning.offsets[1:], strict=True):
            items = tuning.items[begin:end]
            items = rng.permutation(items) if order == LATER else items
            rows = np.flatnonzero(rng.random(len(items)) < share)
            scores, met = self._before(items)
            parts.append((scores[rows], met[rows], rows, items[rows]))
        return (
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.concatenate([part[2] for part in parts]),
            np.concatenate([part[3] for part in parts]),
        )

    def _slopes(
        self, scores: F32, met: NDArray[np.bool_], count: NDArray[np.int64], item: NDArray[np.int64]
    ) -> F64:
        logs = self._logs(scores)  # (events, channels + 1, items)
        length = np.log1p(count) / LENGTH_UNIT
        rows = np.arange(len(item))

        def loss(free: F64) -> tuple[float, F64]:
            slopes = free.reshape(2, -1)
            own = (slopes[0] + length[:, None] * slopes[1]).astype(np.float32)
            logits = np.matmul(own[:, None], logs)[:, 0]  # (events, items)
            logits[met] = -np.inf
            surprise = -log_softmax(logits, 1)[rows, item].mean()
            missed = softmax(logits, 1)
            missed[rows, item] -= 1
            slope = np.matmul(logs, missed[..., None])[..., 0].astype(np.float64)
            gradient = np.stack([slope.mean(0), (length[:, None] * slope).mean(0)])
            return (
                float(surprise + RIDGE * np.square(free).sum()),
                gradient.ravel() + 2 * RIDGE * free,
            )

        found = minimize(
            loss, self.slopes[0].ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 60}
        )
        return found.x.reshape(2, -1)

    # In use

    def utilities(
        self,
        scores: F32,
        met: NDArray[np.bool_],
        count: NDArray[np.int64],
        popularity_discount: float = 0.0,
        order: int = NEXT,
    ) -> F64:
        """Log-probabilities over the catalogue, consumed items -inf.

        Args:
            scores: Shape (rows, channels, head).
            met: What each row consumed, shape (rows, items).
            count: Events of each row, shape (rows,).
            popularity_discount: Part of log-popularity taken out of them, 0…1.
            order: NEXT for what comes next, LATER for what comes at any time.

        Returns:
            Shape (rows, items); all -inf for a row that consumed everything.
        """
        out = np.empty(met.shape)
        for at in range(0, len(out), chunk := max(1, CELLS // met.shape[1])):
            part = slice(at, at + chunk)
            length = np.log1p(count[part])[:, None] / LENGTH_UNIT
            slopes = self.slopes[order, 0] + length * self.slopes[order, 1]
            raw = (slopes[:, -1:] - popularity_discount) * self.log_popularity
            for c, floor in enumerate(self.floor):
                logs = np.log(np.maximum(scores[part, c] / floor, 1.0))
                raw[:, self.head] += slopes[:, c : c + 1] * logs
            raw[met[part]] = -np.inf
            top = raw.max(1, keepdims=True)
            top[np.isneginf(top)] = 0.0
            with np.errstate(divide="ignore"):
                total = np.log(np.exp(raw - top).sum(1, keepdims=True)) + top
            out[part] = np.where(np.isneginf(total), -np.inf, raw - total)
        return out

    def scores_of(self, histories: Histories) -> F32:
        """Scores after whole histories, shape (users, channels, head)."""
        n = len(histories)
        users = np.repeat(np.arange(n), histories.lengths)
        age = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(users))
        place = self._place[histories.items]
        known = place >= 0
        found = np.empty((n, len(self.decay), len(self.head)), np.float32)
        for c, decay in enumerate(self.decay):
            weight = (decay ** age[known]).astype(np.float32)
            events = sp.csr_matrix(
                (weight, (users[known], place[known])), (n, len(self.head)), dtype=np.float32
            )
            found[:, c] = events @ self.weights[self.source[c]]
        return found

    def add(self, scores: F32, rows: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """One event more for each of these (distinct) rows of `scores`, in place."""
        place = self._place[items]
        fresh = self.weights[self.source, place[:, None]] * (place >= 0)[:, None, None]
        scores[rows] = scores[rows] * self.decay[:, None].astype(np.float32) + fresh

    def ranks(self, histories: Histories) -> tuple[NDArray[np.int64], F64]:
        """Of each event's item before it happens: items ahead of it, and -log-probability."""
        rank = np.zeros(len(histories.items), np.int64)
        surprise = np.zeros(len(histories.items))
        for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
            items = histories.items[start:end]
            scores, met = self._before(items)
            utilities = self.utilities(scores, met, np.arange(len(items)))
            own = np.take_along_axis(utilities, items[:, None], 1)
            rank[start:end], surprise[start:end] = (utilities > own).sum(1), -own[:, 0]
        return rank, surprise

    def _before(self, items: NDArray[np.int64]) -> tuple[F32, NDArray[np.bool_]]:
        """Scores and consumed items before each event of one user, no item twice."""
        place = self._place[items]
        scores = np.zeros((len(items), len(self.decay), len(self.head)), np.float32)
        for c, decay in enumerate(self.decay):
            each = self.weights[self.source[c], place[:-1]] * (place[:-1] >= 0)[:, None]
            if len(each):
                scores[1:, c] = lfilter([1.0], [1.0, -decay], each, axis=0)
        time = np.full(len(self.log_popularity), len(items))
        time[items] = np.arange(len(items))
        return scores, time < np.arange(len(items))[:, None]

    def _logs(self, scores: F32) -> F32:
        """Regressors (events, channels + 1, items) of scores (events, channels, head)."""
        logs = np.empty((len(scores), len(self.decay) + 1, len(self.log_popularity)), np.float32)
        logs[:, :-1] = 0.0
        scaled = scores / self.floor[:, None].astype(np.float32)
        logs[:, :-1, self.head] = np.log(np.maximum(scaled, 1.0))
        logs[:, -1] = self.log_popularity
        return logs

    @property
    def _place(self) -> NDArray[np.int64]:
        place = np.full(len(self.log_popularity), -1)
        place[self.head] = np.arange(len(self.head))
        return place

    # As arrays

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All that it consists of."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def head_of(popularity: F64) -> NDArray[np.int64]:
    """The most frequent items, those that weights cover, ascending."""
    return np.sort(np.argsort(-popularity, kind="stable")[:LINEAR_ITEMS]).astype(np.int64)


def ease_channel(fitting: Histories, head: NDArray[np.int64], n_items: int, l2: float) -> Channels:
    """EASE's weights (Steck, WWW 2019), and no forgetting."""
    return ease_matrix(only_items(fitting, head, n_items), len(head), l2), (1.0,)


def cosine_channel(fitting: Histories, head: NDArray[np.int64], n_items: int) -> Channels:
    """Cosine of the items' users, each weighing less the more they met, and no forgetting."""
    met = interaction_matrix(only_items(fitting, head, n_items), len(head))
    share = 1 / np.sqrt(np.maximum(np.asarray(met.sum(1)).ravel(), 1))
    common = np.asarray((met.T @ (sp.diags(share) @ met)).todense())
    size = np.sqrt(np.maximum(np.diag(common), 1e-6))
    weights = common / np.outer(size, size)
    weights[np.diag_indices(len(head))] = 0
    return weights.astype(np.float32), (1.0,)


def walk_channel(fitting: Histories, head: NDArray[np.int64], n_items: int) -> Channels:
    """Chance that a walk item - user - item ends at an item, over its popularity to a power.

    RP3beta: Paudel et al., "Updatable, accurate, diverse, and scalable recommendations for
    interactive applications", ACM TiiS 2016.
    """
    met = interaction_matrix(only_items(fitting, head, n_items), len(head))
    events = np.maximum(np.asarray(met.sum(0)).ravel(), 1)
    share = 1 / np.maximum(np.asarray(met.sum(1)).ravel(), 1)
    paths = np.asarray((met.T @ (sp.diags(share) @ met)).todense(), np.float64)
    weights = paths / events[:, None] / events**WALK_BETA
    weights[np.diag_indices(len(head))] = 0
    return weights.astype(np.float32), WALKED


def follower_channel(fitting: Histories, head: NDArray[np.int64], n_items: int) -> Channels:
    """How much oftener an item follows another than its popularity says; it soon fades."""
    return follower_matrix(only_items(fitting, head, n_items), len(head)), FOLLOWED


def text_channel(vectors: F32, head: NDArray[np.int64]) -> Channels:
    """Squared cosine of the items' texts to those met of late."""
    near = np.maximum(vectors[head] @ vectors[head].T, 0) ** 2
    near[np.diag_indices(len(head))] = 0
    return near, (LATELY,)
