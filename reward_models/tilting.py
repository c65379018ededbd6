"""Fitting the tilt of free runs: free-running histories beside the real ones they begin like."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import CollaborativeInputs
from audience.reward_models.quality_data import FIRST_EVENT
from audience.reward_models.simulation import LONGEST

SLOTS = 120
"""Users who run at a time. One who is done makes room for the next, so that every step sees all
places of a history: what is learned at the first events would else be forgotten at the last."""

MOST_USERS = 1000
"""Users who run at most; of more, a random part."""

SAMPLES = 32
"""Items drawn for each user and step, from which the features' mean and covariance follow."""

RATE, SLOWING = 0.1, 60.0
"""First step size, and steps after which it is halved: as Robbins & Monro (1951) ask."""

RIDGE = 0.02
"""Added to the covariance, so that what hardly varies hardly moves."""


def fit_tilt(
    users: BertUserModel,
    validation: Histories,
    fitting: Histories,
    crossed: CollaborativeInputs,
    folds: NDArray[np.int64],
    passes: int,
    seed: int,
) -> None:
    """Fit the model's tilt in place, so that features, and levels of feedback, agree in the mean.

    Fitting users are simulated with the inputs of the folds that do not hold them. The mean of
    the weights over the second half of all steps stays.

    Args:
        users: Users with a fitted tower.
        validation: Histories of the validation users.
        fitting: Histories of the fitting users.
        crossed: Cross-fitted inputs.
        folds: Fold of each fitting user.
        passes: How often each user runs.
        seed: Of the users and of all draws.
    """
    tilt, rng = users.model.tilt, np.random.default_rng([seed, 2])
    chosen = [(users, validation.at_least(FIRST_EVENT + 1))]
    left = max(MOST_USERS - len(chosen[0][1]), 0)
    kept = np.sort(rng.permutation(np.flatnonzero(fitting.lengths > FIRST_EVENT))[:left])
    for fold in np.unique(folds[kept]):
        view = _with_inputs(users, crossed, int(fold))
        chosen.append((view, fitting.take(kept[folds[kept] == fold])))
    chosen = [(of, real.first(LONGEST)) for of, real in chosen if len(real)]
    total = sum(len(real) for _, real in chosen)
    if total < 2:
        return
    share = min(SLOTS / total, 1.0)
    runs = [_Runs(of, real, max(round(share * len(real)), 1), rng) for of, real in chosen]
    slots = sum(len(run.who) for run in runs)
    events = sum(len(real.items) - FIRST_EVENT * len(real) for _, real in chosen)
    steps = passes * -(-events // slots)
    weights, levels = torch.zeros(len(tilt.weights)), torch.zeros(len(tilt.levels))
    spread, late = torch.eye(len(weights)) * 0.1, torch.zeros(len(weights))
    given = np.concatenate([real.levels for _, real in chosen])
    shares = torch.from_numpy(np.bincount(given, minlength=len(levels)) / len(given)).float()
    late_levels = torch.zeros(len(levels))
    for step in range(steps):
        found = (sum(part) / slots for part in zip(*(run() for run in runs), strict=True))
        gap, outer, of_levels = found
        spread = 0.95 * spread + 0.05 * outer
        precision = spread + RIDGE * torch.eye(len(weights))
        rate = RATE / (1 + step / SLOWING)
        weights = weights + rate * torch.linalg.solve(precision, gap)
        levels = levels + rate * of_levels / (shares * (1 - shares) + RIDGE)
        if step >= steps // 2:
            late += weights / (steps - steps // 2)
            late_levels += levels / (steps - steps // 2)
        with torch.no_grad():
            tilt.weights.copy_(weights)
            tilt.levels.copy_(levels)
    with torch.no_grad():
        tilt.weights.copy_(late)
        tilt.levels.copy_(late_levels)


class _Runs:
    """Free runs of some users, one after another in each of several slots.

    Args:
        users: Who runs.
        real: What they really did, more than FIRST_EVENT events each.
        slots: How many run at a time, at most all.
        rng: Of all draws.
    """

    def __init__(
        self, users: BertUserModel, real: Histories, slots: int, rng: np.random.Generator
    ) -> None:
        self.real, self.rng = real, rng
        self.features = _real_features(users, real)
        self.sessions = users.roam(slots)
        self.queue = rng.permutation(len(real))
        self.who, self.queue = self.queue[:slots], self.queue[slots:]
        self.place = np.full(slots, FIRST_EVENT)
        # First runs end early by chance, else all slots would stay at the same place for long.
        first = 1 + (real.lengths[self.who] - FIRST_EVENT) * rng.random(slots)
        self.end = FIRST_EVENT + first.astype(np.int64)
        self.sessions.start(np.arange(slots), real.take(self.who).first(FIRST_EVENT))

    @torch.inference_mode()
    def __call__(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over the slots: real minus simulated features, their covariance, and levels.

        Then one free event in each slot.
        """
        self._relieve()
        engine, states = self.sessions.engine, self.sessions.states
        slots = np.arange(len(self.who))
        rows = torch.from_numpy(slots).to(states.hidden.device)
        below = engine.utilities(states, rows).double().exp().cumsum(1)
        drawn = torch.from_numpy(self.rng.random((len(slots), SAMPLES))).to(below) * below[:, -1:]
        items = torch.searchsorted(below, drawn, right=True).clamp(max=below.shape[1] - 1)
        features = engine.model.tilt_features(states.statistics, rows, items)  # (m, samples, f)
        mean = features.mean(1)
        centred = features - mean[:, None]
        outer = torch.einsum("msf,msg->fg", centred, centred) / (SAMPLES - 1)
        there = self.real.offsets[self.who] + self.place
        given = self.sessions.live(slots, items[:, 0].cpu().numpy(), self.rng.random(len(slots)))
        self.place = self.place + 1
        n_levels = len(engine.model.tilt.levels)
        both = (np.bincount(of, minlength=n_levels) for of in (self.real.levels[there], given))
        real, simulated = (torch.from_numpy(of).float() for of in both)
        return (self.features[there] - mean.cpu()).sum(0), outer.cpu(), real - simulated

    def _relieve(self) -> None:
        """Who has run as long as the real user, or to the early end, makes room for the next."""
        done = np.flatnonzero(self.place >= self.end)
        if not len(done):
            return
        while len(self.queue) < len(done):
            self.queue = np.concatenate([self.queue, self.rng.permutation(len(self.real))])
        self.who[done], self.queue = self.queue[: len(done)], self.queue[len(done) :]
        self.place[done], self.end[done] = FIRST_EVENT, self.real.lengths[self.who[done]]
        self.sessions.start(done, self.real.take(self.who[done]).first(FIRST_EVENT))


def _with_inputs(users: BertUserModel, crossed: CollaborativeInputs, fold: int) -> BertUserModel:
    """The same users with the inputs of one fold."""
    inputs = crossed.of_fold(fold).to(users.device)
    model = copy.copy(users.model)
    model._modules = dict(model._modules) | {"inputs": inputs}
    return BertUserModel(model, users.catalogue, users.scale, {})


@torch.inference_mode()
def _real_features(users: BertUserModel, real: Histories) -> Tensor:
    """Features of the real events from FIRST_EVENT on, shape (events, features); 0 before."""
    model = users.model
    items, levels, _ = (torch.from_numpy(a).to(users.device) for a in real.padded())
    begin = torch.full((len(real),), FIRST_EVENT, device=users.device)
    values = model.level_values
    statistics = model.inputs.of(items[:, :FIRST_EVENT], levels[:, :FIRST_EVENT], begin, values)
    found = torch.zeros(len(real.items), len(model.tilt.weights))
    for place in range(FIRST_EVENT, int(real.lengths.max())):
        there = np.flatnonzero(real.lengths > place)
        rows = torch.from_numpy(there).to(users.device)
        met = items[rows, place]
        features = model.tilt_features(statistics, rows, met[:, None])[:, 0]
        found[real.offsets[there] + place] = features.cpu()
        model.inputs.add(statistics, rows, met, levels[rows, place], values)
    return found
