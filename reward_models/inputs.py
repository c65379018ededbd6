"""What collaborative filtering knows of a user, as inputs of the behaviour tower.

Everything follows in closed form from sums over the user's events, plain ones and ones that
decay with every event, so it covers the whole history, however long, and one event more is one
addition.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from audience.reward_models.collaborative import (
    FORGETTING,
)
from audience.reward_models.user_statistics import Known, Statistics

INPUTS = ("als", "ease", "item_knn", "followers")
"""What is taken in, by the names that judges call their kin by."""

TEXT_AXES = 8
"""Axes of the items' texts among the factors: with 8 the ALS fold-in errs 1.2 % less on unseen
users of movielens (RMSE .864 to .854), 0.3 % less on those of ml-100k; with shuffled text 1 %
more."""

LEVEL_PRIOR = 5.0
"""Pseudo-events with the log's mix of levels that a level histogram starts from."""

DECAYS = (0.5, 0.8, 0.95, 1.0)
"""What a residual keeps of its weight with each further event: a user's mood of the last few
events, and (1) of all of them. Feedback drifts within a user's history; on held-out users the
short memories take 2 % off the RMSE of movielens, 1 % off that of ml-100k."""

BIAS_PRIOR = 5.0
"""Pseudo-events at 0 that a user's mean residual and its spread are shrunk by."""

NEIGHBOUR_PRIOR = 1.0
"""Similarity of a neighbour without opinion."""

REACH = 30
"""Latest events that follower scores are summed over: older ones weigh less than 0.0001."""


CELLS = 2**18
"""Users times items that scores are added to at a time, on a CPU: what is read and written
several times stays in the cache (1 MB)."""

OF_FOLDS = (
    "base",
    "design",
    "noise",
    "item_levels",
    "item_facts",
    "neighbours",
    "ease",
    "followers",
    "floors",
)
"""Buffers of `CollaborativeInputs` with a part for each fold."""


class CollaborativeInputs(nn.Module):
    """Explicit ALS, item neighbours, EASE and followers of one or several folds of users.

    Cross-fitting needs one fold for each part of the fitting users, fitted on the others; in
    use there is one fold, fitted on all of them. All of it is buffers.

    Args:
        folds: Number of folds.
        n_items: Size of the catalogue.
        n_levels: Levels of the feedback scale.
        factors: Factors of the explicit ALS, axes of the text among them.
        linear_items: Items that neighbours, EASE and followers cover.
    """

    base: Tensor  # (folds, items): mean + item bias
    design: Tensor  # (folds, items, k): [1, item factors]
    precision: Tensor  # (k,)
    noise: Tensor  # (folds,)
    item_levels: Tensor  # (folds, items, levels): log of share over level_shares
    item_facts: Tensor  # (folds, items, 2): spread of residuals over unit, log of events
    level_shares: Tensor  # (levels,): of all events
    neighbours: Tensor  # (folds, linear items, linear items): adjusted cosine
    ease: Tensor  # (folds, linear items, linear items)
    followers: Tensor  # (folds, linear items, linear items)
    floors: Tensor  # (folds, 2): scores of ease and followers below it are all the same
    head: Tensor  # (linear items,): catalogue index of each row of the matrices
    unit: Tensor  # (2,): mean and standard deviation of feedback
    decays: Tensor  # (decays,)
    place: Tensor  # (items,): row in the matrices, -1 beyond the head

    def __init__(
        self, folds: int, n_items: int, n_levels: int, factors: int, linear_items: int
    ) -> None:
        super().__init__()
        k = 1 + factors
        shapes = {
            "base": (folds, n_items),
            "design": (folds, n_items, k),
            "precision": (k,),
            "noise": (folds,),
            "item_levels": (folds, n_items, n_levels),
            "item_facts": (folds, n_items, 2),
            "level_shares": (n_levels,),
            "neighbours": (folds, linear_items, linear_items),
            "ease": (folds, linear_items, linear_items),
            "followers": (folds, linear_items, linear_items),
            "floors": (folds, 2),
            "unit": (2,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("head", torch.arange(linear_items))
        self.register_buffer("place", torch.full((n_items,), -1))
        self.place[:linear_items] = torch.arange(linear_items)
        self.register_buffer("decays", torch.tensor(DECAYS))

    @property
    def n_features(self) -> int:
        """Length of a query's feature vector."""
        return 17 + 2 * len(DECAYS) + TEXT_AXES + 2 * len(self.level_shares)

    def empty(self, users: int) -> Statistics:
        """The statistics of users without events."""
        k = self.design.shape[2]
        new = self.base.new_zeros
        device = self.base.device
        return Statistics(
            covariance=self.precision.reciprocal().diag().repeat(users, 1, 1),
            moment=new((users, k)),
            levels=new((users, len(self.level_shares))),
            recent=new((users, 3, len(DECAYS))),
            met=new((users, len(DECAYS), TEXT_AXES)),
            ease=new((users, len(self.head))),
            coming=new((users, len(self.head))),
            items=torch.zeros((users, 0), dtype=torch.int64, device=device),
            given=torch.zeros((users, 0), dtype=torch.int64, device=device),
            count=torch.zeros(users, dtype=torch.int64, device=device),
        )

    def of_fold(self, fold: int) -> CollaborativeInputs:
        """One fold alone, as in use; it shares its memory."""
        alone = copy.copy(self)
        alone._buffers = dict(self._buffers)
        for name in OF_FOLDS:
            alone._buffers[name] = getattr(self, name)[fold : fold + 1]
        return alone

    # Asking

    def known(
        self, statistics: Statistics, rows: Tensor, items: Tensor, level_values: Tensor
    ) -> Known:
        """What is known of some users when items are asked about; one fold in use.

        Args:
            statistics: Of all users.
            rows: The users asked, shape (m,).
            items: The items asked about, shape (m, q).
            level_values: Value of each level, shape (levels,).
        """
        count = statistics.count[rows]
        width = int(count.max()) if len(rows) else 0
        events = statistics.items[rows, :width]  # (m, width)
        residual = level_values[statistics.given[rows, :width]] - self.base[0, events]
        used = torch.arange(width, device=items.device) < count[:, None]
        near = self.pairs(self.neighbours, torch.zeros_like(rows), events, items)
        near = near * used[:, :, None]  # (m, width, q)
        opinion = torch.stack([(near * residual[..., None]).sum(1), near.sum(1)], -1)
        return Known(
            statistics.covariance[rows],
            statistics.moment[rows],
            statistics.levels[rows],
            statistics.recent[rows],
            statistics.met[rows],
            opinion,
            self.scores_at(statistics.ease, rows, items),
            self.scores_at(statistics.coming, rows, items),
        )

    def scores_at(self, scores: Tensor, rows: Tensor, items: Tensor) -> Tensor:
        """Entries of `Statistics.ease` or `coming` for items (m, k) of users (m,); (m, k)."""
        place = self.place[items]
        found = scores[rows[:, None], place.clamp(min=0)]
        return found if len(self.head) == len(self.place) else found * (place >= 0)

    def whole(self, scores: Tensor) -> Tensor:
        """Scores of the items that EASE covers as scores of all, (m, linear) to (m, items)."""
        if len(self.head) == len(self.place):
            return scores
        whole = scores.new_zeros(len(scores), len(self.place))
        whole[:, self.head] = scores
        return whole

    def query_features(self, known: Known, items: Tensor, fold: Tensor, timed: Tensor) -> Tensor:
        """What is known of the feedback on an item before it is given.

        Args:
            known: Of the user's earlier events, shapes (..., n, *) and (..., *).
            items: The item asked about, shape (..., n).
            fold: Shape (...), broadcast over n.
            timed: Whether the events stand in time order, shape (...), bool: else nothing is
                recent.

        Returns:
            Shape (..., n, n_features): the ALS estimate and its standard deviation, the item's
            base, spread and frequency, the neighbours' opinion and weight, how far the item was
            to be expected, what its text is about and how near that is to what was met of late,
            the user's bias, spread, number of events and recent residuals, log
            odds of levels of item and user.
        """
        covariance, recent = known.covariance, known.recent
        taste = (covariance @ known.moment[..., None])[..., 0]  # (..., k)
        fold = fold[..., None].expand(items.shape)
        x = self.design[fold, items]  # (..., n, k)
        base = self.base[fold, items]
        mean, std = self.unit
        estimate = base + (x * taste[..., None, :]).sum(-1)
        variance = ((x @ covariance) * x).sum(-1).clamp(min=0)
        total, count, squares = recent[..., -1].unbind(-1)  # without decay
        shrunk = count + BIAS_PRIOR
        own = total / shrunk
        spread = ((squares + BIAS_PRIOR * std**2) / shrunk).sqrt()
        near = known.opinion[..., 1]
        neighbours = (known.opinion[..., 0] - own[..., None] * near) / (near + NEIGHBOUR_PRIOR)
        levels = known.levels + LEVEL_PRIOR * self.level_shares
        shares = levels / levels.sum(-1, keepdim=True)
        bias = (taste[..., 0] / std)[..., None].expand(items.shape)
        flag = timed.to(base.dtype)
        facts = self.item_facts[fold, items]
        met_before = facts[..., 1] > 0  # a fold may know of an item only what it goes with
        ease, coming = known.ease * met_before, known.coming * (met_before * flag[..., None])
        of_each = [
            (estimate - mean) / std,
            variance.sqrt() * self.noise[fold] / std,
            (base - mean) / std,
            (estimate - mean) / std * bias,
            neighbours / std,
            near.log1p(),
            ease,
            coming,
            *self.expected(ease, coming, fold),
        ]
        of_user = [
            taste[..., 0] / std,
            own / std,
            spread / std,
            count.log1p() / 4,
            flag,
        ]
        mood = recent[..., 0, :-1] / (recent[..., 1, :-1] + 1) / std * flag[..., None]
        mood = torch.cat([mood, own[..., None] / std], -1)
        odds = torch.cat([torch.stack(of_user, -1), mood, (shares / self.level_shares).log()], -1)
        odds = odds[..., None, :].expand(*items.shape, -1)
        axes = x[..., -TEXT_AXES:]
        met = known.met / (recent[..., 1, :, None] + 1)  # what was met of late, shrunk to nothing
        near = axes @ met.transpose(-1, -2) * flag[..., None, None]  # (..., n, decays)
        of_item = facts, self.item_levels[fold, items]
        return torch.cat([torch.stack(of_each, -1), axes, near, *of_item, odds], -1)

    def expected(self, ease: Tensor, coming: Tensor, fold: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of EASE and follower scores over their floors, at least 0.

        Args:
            ease: Shape (...).
            coming: Shape (...).
            fold: Broadcasts to that shape.
        """
        floors = self.floors[fold].clamp(min=1e-9)
        return (
            (ease / floors[..., 0]).clamp(min=1).log(),
            (coming / floors[..., 1]).clamp(min=1).log(),
        )

    def covariance(self, gram: Tensor) -> Tensor:
        """Of a user's coordinates, from the sum of outer products of regressors; (..., k, k)."""
        return torch.linalg.inv(gram + self.precision.diag())

    # Adding

    def event_sums(
        self, items: Tensor, levels: Tensor, level_values: Tensor, fold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What each event adds to gram, moment, levels and recent; (...) to (..., *).

        Gram is the sum of outer products of the items' regressors.
        """
        x, *sums = self.plain_sums(items, levels, level_values, fold)
        moment, onehot, recent = sums
        return x[..., :, None] * x[..., None, :], moment, onehot, recent

    def plain_sums(
        self, items: Tensor, levels: Tensor, level_values: Tensor, fold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The items' regressors, and what each event adds to moment, levels and recent."""
        x = self.design[fold, items]
        residual = level_values[levels] - self.base[fold, items]
        onehot = nn.functional.one_hot(levels, len(self.level_shares)).to(x.dtype)
        recent = torch.stack([residual, torch.ones_like(residual), residual**2], -1)
        return x, x * residual[..., None], onehot, recent

    def linear_rows(self, matrix: Tensor, items: Tensor, fold: Tensor) -> Tensor:
        """What each event adds to the scores of `ease` or `followers`: (...) to (..., items)."""
        n_items = self.base.shape[1]
        if len(self.head) == n_items:
            return matrix[fold, items]
        row = self.place[items]
        known = matrix[fold, row.clamp(min=0)] * (row >= 0)[..., None]
        rows = known.new_zeros((*items.shape, n_items))
        rows[..., self.head] = known
        return rows

    def pairs(self, matrix: Tensor, fold: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Entries of one of the matrices: (u,), (u, a), (u, b) to (u, a, b)."""
        row, column = self.place[rows][:, :, None], self.place[columns][:, None, :]
        found = matrix[fold[:, None, None], row.clamp(min=0), column.clamp(min=0)]
        if len(self.head) == self.base.shape[1]:
            return found
        return found * ((row >= 0) & (column >= 0))

    def add(
        self, statistics: Statistics, rows: Tensor, items: Tensor, levels: Tensor, values: Tensor
    ) -> None:
        """Add one event to each of these users (in place); one fold in use."""
        sums = self.plain_sums(items, levels, values, torch.zeros_like(items))
        x, moment, onehot, recent = sums
        # Sherman & Morrison 1950: the inverse of a sum with one outer product.
        turned = torch.bmm(statistics.covariance.index_select(0, rows), x[..., None])  # (m, k, 1)
        shrunk = turned / (1 + torch.bmm(x[:, None], turned))
        statistics.covariance.index_add_(0, rows, torch.bmm(shrunk, turned.mT), alpha=-1)
        statistics.moment.index_add_(0, rows, moment)
        statistics.levels.index_add_(0, rows, onehot)
        faded = statistics.recent.index_select(0, rows) * self.decays
        statistics.recent.index_copy_(0, rows, faded + recent[..., None])
        met = statistics.met.index_select(0, rows) * self.decays[:, None]
        statistics.met.index_copy_(0, rows, met + x[:, None, -TEXT_AXES:])
        size = max(1, CELLS // len(self.head)) if rows.device.type == "cpu" else max(1, len(rows))
        for some, met_by in zip(rows.split(size), items.split(size), strict=True):
            self._add_scores(statistics, some, met_by)
        at = statistics.count[rows]
        statistics.reserve(int(at.max()) + 1)
        statistics.items[rows, at], statistics.given[rows, at] = items, levels
        statistics.count[rows] = at + 1

    def _add_scores(self, statistics: Statistics, rows: Tensor, items: Tensor) -> None:
        place = self.place[items]
        at = place.clamp(min=0)
        ease, new = self.ease[0].index_select(0, at), self.followers[0].index_select(0, at)
        if len(self.head) < len(self.place):
            known = (place >= 0)[:, None]
            ease, new = ease.mul_(known), new.mul_(known)
        statistics.ease.index_add_(0, rows, ease)
        coming = statistics.coming.index_select(0, rows).mul_(FORGETTING).add_(new)
        statistics.coming.index_copy_(0, rows, coming)

    def of(
        self, items: Tensor, levels: Tensor, lengths: Tensor, level_values: Tensor
    ) -> Statistics:
        """The statistics of users with these events; rows (users, width), left-aligned."""
        fold = torch.zeros_like(items)
        place = torch.arange(items.shape[1], device=items.device)
        used = place < lengths[:, None]
        weight = used.to(self.base.dtype)
        age = (lengths[:, None] - 1 - place).clamp(min=0)
        gram, moment, onehot, recent = self.event_sums(items, levels, level_values, fold)
        fading = weight[..., None] * self.decays ** age[..., None]  # (users, width, decays)
        known = (self.place[items] >= 0) & used
        rows = self.place[items].clamp(min=0)
        forgotten = known * FORGETTING ** age.to(weight.dtype)
        if items.shape[1]:
            bag = nn.functional.embedding_bag
            ease = bag(rows, self.ease[0], mode="sum", per_sample_weights=known.to(weight.dtype))
            coming = bag(rows, self.followers[0], mode="sum", per_sample_weights=forgotten)
        else:
            ease = weight.new_zeros(len(items), len(self.head))
            coming = ease.clone()
        return Statistics(
            covariance=self.covariance((gram * weight[..., None, None]).sum(1)),
            moment=(moment * weight[..., None]).sum(1),
            levels=(onehot * weight[..., None]).sum(1),
            recent=torch.einsum("uwc,uwd->ucd", recent, fading),
            met=torch.einsum("uwx,uwd->udx", self.design[fold, items][..., -TEXT_AXES:], fading),
            ease=ease,
            coming=coming,
            items=items,
            given=levels,
            count=lengths,
        )
