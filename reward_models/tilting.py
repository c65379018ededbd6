"""Fitting the tilt of the choice: free-running histories beside the real ones they begin like."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import CollaborativeInputs
from audience.reward_models.quality_data import FIRST_EVENT
from audience.reward_models.sessions import BertSessions
from audience.reward_models.simulation import LONGEST
from audience.reward_models.users import Assumptions

PASSES = 3
"""Simulations of all users one after another; the weights' mean over the last one stays."""

SAMPLES = 48
"""Items drawn for each user and step, from which the features' covariance is estimated."""

RATE, SLOWING = 0.06, 120.0
"""First step size, and steps after which it is halved: as Robbins & Monro (1951) ask."""

RIDGE = 0.02
"""Added to the covariance, so that what hardly varies hardly moves."""


@dataclass(frozen=True)
class _Part:
    """Real users beside simulated ones that begin alike."""

    real: Histories
    sessions: BertSessions


def fit_tilt(
    users: BertUserModel,
    validation: Histories,
    fitting: Histories,
    crossed: CollaborativeInputs,
    folds: NDArray[np.int64],
    most: int,
    seed: int,
) -> None:
    """Fit the weights of the model's tilt in place, so that features agree in the mean.

    Fitting users are simulated with the inputs of the folds that do not hold them.

    Args:
        users: Users with a fitted tower.
        validation: Histories of the validation users.
        fitting: Histories of the fitting users.
        crossed: Cross-fitted inputs.
        folds: Fold of each fitting user.
        most: Users at most.
        seed: Of the users and of all draws.
    """
    tilt, rng = users.model.tilt, np.random.default_rng([seed, 2])
    chosen = [(users, validation.at_least(FIRST_EVENT + 1))]
    left = max(most - len(chosen[0][1]), 0)
    kept = np.sort(rng.permutation(np.flatnonzero(fitting.lengths > FIRST_EVENT))[:left])
    for fold in np.unique(folds[kept]):
        view = _with_inputs(users, crossed, int(fold))
        chosen.append((view, fitting.take(kept[folds[kept] == fold])))
    chosen = [(of, real.first(LONGEST)) for of, real in chosen if len(real)]
    total = sum(len(real) for _, real in chosen)
    if total < 2:
        return
    wanted = _real_means(chosen)
    spread, step, mean = torch.eye(len(tilt.weights)) * 0.1, 0, torch.zeros(len(tilt.weights))
    for round_ in range(PASSES):
        parts = [_begin(of, real) for of, real in chosen]
        for place, there in wanted.items():
            found, outer = torch.zeros(len(tilt.weights)), torch.zeros(spread.shape)
            for part in parts:
                going = np.flatnonzero(part.real.lengths > place)
                if len(going):
                    of_part = _advance(part.sessions, going, rng)
                    found, outer = found + of_part[0], outer + of_part[1]
            gap = (there - found) / total
            spread = 0.9 * spread + 0.1 * outer / total
            rate = RATE / (1 + step / SLOWING)
            ridge = RIDGE * torch.eye(len(gap))
            with torch.no_grad():
                tilt.weights += rate * torch.linalg.solve(spread + ridge, gap).to(tilt.weights)
            step += 1
            if round_ == PASSES - 1:
                mean += tilt.weights.cpu() / len(wanted)
    with torch.no_grad():
        tilt.weights.copy_(mean)


def _with_inputs(users: BertUserModel, crossed: CollaborativeInputs, fold: int) -> BertUserModel:
    """The same users with the inputs of one fold."""
    inputs = crossed.of_fold(fold).to(users.device)
    model = copy.copy(users.model)
    model._modules = dict(model._modules) | {"inputs": inputs}
    return BertUserModel(model, users.catalogue, users.scale, {})


@torch.inference_mode()
def _real_means(
    chosen: list[tuple[BertUserModel, Histories]],
) -> dict[int, Tensor]:
    """Sum of the features of the real events at each place of a history."""
    sums: dict[int, Tensor] = {}
    for users, real in chosen:
        model = users.model
        items, levels, _ = (torch.from_numpy(a).to(users.device) for a in real.padded())
        begin = torch.full((len(real),), FIRST_EVENT, device=users.device)
        values = model.level_values
        statistics = model.inputs.of(items[:, :FIRST_EVENT], levels[:, :FIRST_EVENT], begin, values)
        for place in range(FIRST_EVENT, int(real.lengths.max())):
            rows = torch.from_numpy(np.flatnonzero(real.lengths > place)).to(users.device)
            met = items[rows, place]
            features = model.tilt_features(statistics, rows, met[:, None])[:, 0]
            sums[place] = sums.get(place, 0) + features.sum(0).cpu()
            model.inputs.add(statistics, rows, met, levels[rows, place], values)
    return dict(sorted(sums.items()))


def _begin(users: BertUserModel, real: Histories) -> _Part:
    sessions = users.open(len(real), 1, Assumptions())
    sessions.start(np.arange(len(real)), real.first(FIRST_EVENT))
    return _Part(real, sessions)


@torch.inference_mode()
def _advance(
    sessions: BertSessions, going: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Sums over these users of the features' mean and covariance; then one free event each."""
    engine, states = sessions.engine, sessions.states
    rows = torch.from_numpy(going).to(states.hidden.device)
    below = engine.utilities(states, rows).double().exp().cumsum(1)
    drawn = torch.from_numpy(rng.random((len(going), SAMPLES))).to(below) * below[:, -1:]
    items = torch.searchsorted(below, drawn, right=True).clamp(max=below.shape[1] - 1)
    features = engine.model.tilt_features(states.statistics, rows, items)  # (m, samples, f)
    mean = features.mean(1)
    centred = features - mean[:, None]
    outer = torch.einsum("msf,msg->fg", centred, centred) / (SAMPLES - 1)
    sessions.live(going, items[:, 0].cpu().numpy(), rng.random(len(going)))
    return mean.sum(0).cpu(), outer.cpu()
