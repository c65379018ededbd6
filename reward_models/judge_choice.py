"""Choice of a judge: a conditional logit over neighbourhood scores, popularity and factors.

Scores of an item are sums, over the events of a history, of a weight between the two items
(`judge_channels.py`); the logit is linear in their logarithms, with slopes fitted by likelihood
(McFadden 1974). What factors learn beyond (`judge_factors.py`) is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.fit_threads import fits
from audience.reward_models.histories import Histories
from audience.reward_models.judge_channels import (
    Channels,
    faded,
    halved,
    rounded,
    single,
    sums_before,
)
from audience.reward_models.judge_factors import GONE, Asked, NextFactors, means_of
from audience.reward_models.judge_slopes import Sample, fitted_slopes

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FLOOR = 0.02
"""Of the mean top score: what lies below is all the same, as its logarithm is noise."""

EVENTS = (6000, 2000)
"""Events that the slopes of the next and of any later event are fitted on, as many of each user:
judged is what holds for the mean user."""

FACTOR_EVENTS = (100_000, 5_000)
"""Events of the fitting users that factors are fitted on, and of others that they are checked
on."""

FLOOR_EVENTS = 500
"""Events, about, that floors are read off, in each order."""

LENGTH_UNIT = 4.0
"""Log of the number of items met is divided by this: about 1 for a history of 50."""

SAMPLE_CELLS = 200_000_000
"""Numbers in a sample of events (400 MB): of a large catalogue there are fewer events in it."""

CACHED_CELLS = 2**18
"""Numbers of scores worked on at a time: what several passes read and write stays in the cache."""

STATES = 3
"""What slopes hang on: 1, how long a history is, and how popular. The last takes .6 % (movielens)
and .2 % (ml-100k) off the NLL that judge als has of validation users' next events."""

POPULAR_UNIT, POPULAR_PRIOR = 0.7, 5.0
"""A history's mean log-popularity, less that of all events, is divided by this (its standard
deviation over users is .4 on movielens, .25 on ml-100k; only the ridge feels the unit), and shrunk
by so many events of the mean popularity."""

NEXT, LATER = 0, 1
"""What is asked: the next event, or any later one."""


@dataclass(frozen=True, eq=False)
class LogLinearChoice:
    """Log-probability of each item to be chosen, from the history alone.

    What comes next and what comes at any later time are two questions: on movielens, whose
    order is that of sittings, slopes that answer the first well (NDCG@10 of the next event .138
    against .092) rank a random half of a user's events badly (.36 against .50). So there are
    two sets, fitted on events in their own and in random order.

    u[a] = sum over c and k of s[o, k, c] h[k] log max(score[c, a] / floor[c], 1), normalised
    over what is not consumed, where s are the slopes, o what is asked, the last c popularity, and
    h the state of the history: 1, the log of the number of items met over LENGTH_UNIT, and how
    popular the mean one is (see `_state`). Of what comes next factors tell more (`NextFactors`).

    Attributes:
        weights: Of item j for a history with item i, [m, i, j], shape (matrices, head, head).
        source: The matrix of each channel, shape (channels,).
        head: Catalogue index of each row and column of `weights`, shape (head,).
        decay: Weight of an event against the one after it, shape (channels,).
        floor: Lowest score of each channel, shape (channels,).
        log_popularity: Shape (items,).
        slopes: Shape (orders, STATES, channels + 1); see NEXT and LATER.
        factors: What is added to the utility of what comes next.
    """

    weights: F32
    source: I64
    head: I64
    decay: F64
    floor: F64
    log_popularity: F64
    slopes: F64
    factors: NextFactors

    @classmethod
    def fit(
        cls,
        channels: Callable[[Histories], list[Channels]],
        fitting: Histories,
        parts: list[tuple[Histories, Histories]],
        check: Histories,
        head: I64,
        vectors: F32,
        popularity: F64,
        seed: int,
    ) -> LogLinearChoice:
        """Fit slopes and factors across parts of the users, as weights know their own by heart.

        Args:
            channels: Weights of some users' events, shape (head, head), and their decays.
            fitting: Events of the fitting users, which the weights in use come from.
            parts: Users that weights come from, and those whose events slopes are fitted on.
            check: Users who tell how long to fit the factors.
            head: Catalogue index of each row, shape (head,).
            vectors: Of the texts of the head's items, shape (head, dim).
            popularity: Share of each item, shape (items,).
            seed: Of the events drawn.
        """
        new = cls._of(channels(fitting), head, popularity)
        rng = np.random.default_rng(seed)
        cells = (len(new.decay) + 1) * len(popularity)
        users = sum(len(own) for _, own in parts)
        share = [min(most, SAMPLE_CELLS // cells) / users for most in EVENTS]
        samples: list[list[Sample]] = [[], []]
        packed = []
        for others, own in parts:
            part = replace(cls._of(channels(others), head, popularity), floor=new.floor)
            if not samples[NEXT]:
                part = part._floored(own, rng)
                new = replace(new, floor=part.floor)
            for order in (NEXT, LATER):
                samples[order] += part._sample(own, order, share[order], rng)
            # Weights are rounded to half precision: nothing is lost.
            packed.append((halved(part.weights), replace(part, weights=part.weights[:0])))
        start = new.slopes[0]
        slopes = np.stack([fitted_slopes(of, start) for of in samples])
        del samples
        new = replace(new, slopes=slopes)
        most = [min(events, SAMPLE_CELLS // len(head)) for events in FACTOR_EVENTS]
        each = _each(fitting.lengths, most[0])

        def asked(at: int) -> list[Asked]:
            weights, part = packed[at]
            part = replace(part, weights=single(weights), slopes=slopes)
            return part._asked(parts[at][1], each, np.random.default_rng((seed, at)))

        found = [one for part in fits(asked, range(len(parts))) for one in part]
        checked = new._asked(check, _each(check.lengths, most[1]), rng)
        factors, scale = NextFactors.fit(found, checked, vectors, seed)
        slopes[NEXT] *= scale
        return replace(new, slopes=slopes, factors=factors)

    @classmethod
    def _of(cls, channels: list[Channels], head: I64, popularity: F64) -> LogLinearChoice:
        """Popularity alone."""
        weights = np.stack([rounded(w) for w, _ in channels])
        source = np.repeat(np.arange(len(channels)), [len(decays) for _, decays in channels])
        decay = np.concatenate([decays for _, decays in channels])
        start = np.zeros((2, STATES, len(decay) + 1))
        start[:, 0, -1] = 1.0
        none = NextFactors.none(len(head))
        floor = np.ones(len(decay))
        return cls(weights, source, head, decay, floor, np.log(popularity), start, none)

    def _floored(self, tuning: Histories, rng: np.random.Generator) -> LogLinearChoice:
        """With floors from the top scores before some events, in their own and random order."""
        tops = [np.zeros((0, len(self.decay)))]
        for order in (NEXT, LATER):
            for items, rows in _drawn(tuning, order, FLOOR_EVENTS / max(len(tuning), 1), rng):
                tops.append(self._before(items, rows)[0].max(2))
        mean = np.concatenate(tops).astype(np.float64).sum(0) / max(sum(map(len, tops)), 1)
        return replace(self, floor=np.maximum(FLOOR * mean, 1e-9))

    def _sample(
        self, tuning: Histories, order: int, share: float, rng: np.random.Generator
    ) -> list[Sample]:
        """Regressors and answers at some events; of nobody no sample."""
        found = []
        for items, rows in _drawn(tuning, order, share, rng):
            scores, met = self._before(items, rows)
            found.append(Sample(self._logs(scores), met, self._state(met), items[rows]))
        return [Sample.joined(found)] if found else []

    def _asked(self, tuning: Histories, share: float, rng: np.random.Generator) -> list[Asked]:
        """What is said of `share` events (in the mean) of each user, those of the head."""
        found = []
        for items, rows in _drawn(tuning, NEXT, share, rng):
            at = self._place[items]
            rows = rows[at[rows] >= 0]
            scores, met = self._before(items, rows)
            said = self.utilities(scores, met, self.factors.before(at, rows))
            base = halved(np.maximum(said[:, self.head], GONE))
            found.append(Asked(base, means_of(at, rows, len(self.head)), at[rows]))
        return found

    # In use

    def utilities(
        self,
        scores: F32,
        met: NDArray[np.bool_],
        sums: F32 | None,
        popularity_discount: float = 0.0,
        rows: I64 | None = None,
    ) -> F64:
        """Log-probabilities over the catalogue, consumed items -inf.

        Args:
            scores: Shape (users, channels, head).
            met: What each user consumed, shape (users, items).
            sums: Of the factors of what each user met, shape (users, *factors.shape); None asks
                for what comes at any later time, not next.
            popularity_discount: Part of log-popularity taken out of them, 0…1.
            rows: Users asked about, by default all.

        Returns:
            Shape (rows, items); all -inf for a user who consumed everything.
        """
        rows = np.arange(len(met)) if rows is None else rows
        n_items, order = met.shape[1], LATER if sums is None else NEXT
        out = np.empty((len(rows), n_items))
        per_floor = torch.from_numpy((1 / self.floor[:, None]).astype(np.float32))
        cells = len(self.decay) * len(self.head)  # of a user
        for at in range(0, len(rows), chunk := max(1, CACHED_CELLS // cells)):
            part = rows[at : at + chunk]
            gone = met[part]
            slopes = self._state(gone) @ self.slopes[order]
            logs = scores[part]  # (chunk, channels, head)
            # In bits, and by torch, whose logarithms take half as long as NumPy's.
            torch.from_numpy(logs).mul_(per_floor).clamp_(min=1).log2_()
            raw = (slopes[:, -1:] - popularity_discount) * self.log_popularity
            of_head = np.matmul((slopes[:, None, :-1] * np.log(2)).astype(np.float32), logs)[:, 0]
            if sums is not None:
                of_head += self.factors.utilities(sums[part])
            if len(self.head) == n_items:
                raw += of_head
            else:
                raw[:, self.head] += of_head
            raw[gone] = -np.inf
            top = raw.max(1, keepdims=True)
            top[np.isneginf(top)] = 0.0
            with np.errstate(divide="ignore"):
                whole = np.log(np.exp(raw - top).sum(1, keepdims=True)) + top
            out[at : at + chunk] = np.where(np.isneginf(whole), -np.inf, raw - whole)
        return out

    def scores_of(self, histories: Histories) -> F32:
        """Scores after whole histories, shape (users, channels, head)."""
        place, head = self._place, len(self.head)
        found = np.empty((len(histories), len(self.decay), head), np.float32)
        for c, (source, decay) in enumerate(zip(self.source, self.decay, strict=True)):
            found[:, c] = faded(histories, place, head, decay) @ self.weights[source]
        return found

    def sums_of(self, histories: Histories) -> F32:
        """Sums of factors after whole histories, shape (users, *factors.shape)."""
        return self.factors.sums_of(histories, self._place)

    def add(self, scores: F32, sums: F32, rows: I64, items: I64) -> None:
        """One event more for each of these (distinct) rows of scores and sums, in place."""
        place = self._place[items]
        self.factors.add(sums, rows, place)
        known = (place >= 0)[:, None]
        for c, (source, decay) in enumerate(zip(self.source, self.decay, strict=True)):
            fresh = self.weights[source, place] * known
            if decay:
                fresh += scores[rows, c] * np.float32(decay)
            scores[rows, c] = fresh

    def ranks(self, histories: Histories) -> tuple[NDArray[np.int64], F64]:
        """Of each event's item before it happens: items ahead of it, and -log-probability."""
        rank = np.zeros(len(histories.items), np.int64)
        surprise = np.zeros(len(histories.items))
        for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
            items = histories.items[start:end]
            scores, met = self._before(items)
            sums = self.factors.before(self._place[items], np.arange(len(items)))
            utilities = self.utilities(scores, met, sums)
            own = np.take_along_axis(utilities, items[:, None], 1)
            rank[start:end], surprise[start:end] = (utilities > own).sum(1), -own[:, 0]
        return rank, surprise

    def _before(self, items: I64, rows: I64 | None = None) -> tuple[F32, NDArray[np.bool_]]:
        """Scores and consumed items before (some) events of one user, no item twice."""
        rows = np.arange(len(items)) if rows is None else rows
        place = self._place[items]
        scores = np.zeros((len(rows), len(self.decay), len(self.head)), np.float32)
        for source in range(len(self.weights)):
            of = self.source == source
            each = self.weights[source, place[:-1]]
            each[place[:-1] < 0] = 0
            scores[:, of] = sums_before(each, self.decay[of], rows)
        time = np.full(len(self.log_popularity), len(items))
        time[items] = np.arange(len(items))
        return scores, time < rows[:, None]

    def _logs(self, scores: F32) -> NDArray[np.float16]:
        """Regressors (events, channels + 1, items) of scores (events, channels, head)."""
        shape = len(scores), len(self.decay) + 1, len(self.log_popularity)
        logs = np.zeros(shape, np.float16)
        scaled = scores / self.floor[:, None].astype(np.float32)
        logs[:, :-1, self.head] = halved(np.log(np.maximum(scaled, 1.0, out=scaled), out=scaled))
        logs[:, -1] = self.log_popularity
        return logs

    def _state(self, met: NDArray[np.bool_]) -> F64:
        """What slopes hang on, of consumed items (users, items) to (users, STATES)."""
        mean = np.exp(self.log_popularity) @ self.log_popularity
        count = np.count_nonzero(met, 1)
        popular = met @ (self.log_popularity - mean) / (count + POPULAR_PRIOR) / POPULAR_UNIT
        return np.column_stack([np.ones(len(met)), np.log1p(count) / LENGTH_UNIT, popular])

    @property
    def _place(self) -> NDArray[np.int64]:
        place = np.full(len(self.log_popularity), -1)
        place[self.head] = np.arange(len(self.head))
        return place

    # As arrays

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it consists of."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        factors = own.pop("factors").arrays()
        own["weights"] = self.weights.astype(np.float16)
        return own | {f"factors.{name}": array for name, array in factors.items()}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> LogLinearChoice:
        """The inverse of `arrays`."""
        own = {name: array for name, array in arrays.items() if not name.startswith("factors.")}
        own["weights"] = own["weights"].astype(np.float32)
        factors = {n.removeprefix("factors."): a for n, a in arrays.items() if n not in own}
        return cls(**own, factors=NextFactors.of_arrays(factors))


def _each(lengths: I64, most: int) -> int:
    """As many events of each user (or all) as make no more than `most`, but one."""
    longer = np.bincount(lengths)[::-1].cumsum()[::-1][1:]  # users with 1, 2… events
    return max(1, int(np.searchsorted(longer.cumsum(), most, side="right")))


def _drawn(
    histories: Histories, order: int, share: float, rng: np.random.Generator
) -> Iterator[tuple[I64, I64]]:
    """Of each user the items, in what order is asked, and `share` events (in the mean)."""
    for begin, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
        items = histories.items[begin:end]
        items = rng.permutation(items) if order == LATER else items
        some = int(share + rng.random())
        yield items, np.sort(rng.permutation(len(items))[:some])
