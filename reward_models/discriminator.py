"""Told to tell real from simulated histories: the better it does, the worse the simulation.

Two classifiers see windows of a history: boosted trees on named features, and a recurrent
network on the events themselves. A history's score is the mean log-odds of its windows; both
versions of a user, real and simulated, are always in the same fold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor, nn

from audience.reward_models.discriminator_features import (
    WINDOW,
    ItemFacts,
    named_features,
    window_features,
)
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import UserBootstrap, auc, interval, number

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FOLDS = 5
"""Of users: each user's histories are scored by classifiers that never saw that user."""

STEPS, BATCH, HIDDEN, LEARNING_RATE = 200, 64, 32, 1e-2
"""Of the recurrent network."""


TELLING = 8
"""Features that are named as telling most."""


@dataclass(frozen=True)
class Discrimination:
    """How well histories of two kinds are told apart.

    Attributes:
        trees: AUC of the boosted trees, over histories.
        sequence: AUC of the recurrent network.
        auc: The higher of the two.
        low: Lower end of its 95 % bootstrap interval over users.
        high: Upper end.
        telling: The features that tell most by themselves, by the AUC of one number a history,
            at least .5 whichever way it points.
    """

    trees: float
    sequence: float
    auc: float
    low: float
    high: float
    telling: dict[str, float]

    def figures(self) -> dict[str, Any]:
        """For JSON; what is undefined is null."""
        numbers = {name: number(v) for name, v in vars(self).items() if name != "telling"}
        return numbers | {"telling": dict(self.telling)}


def discriminate(
    real: Histories, simulated: Histories, facts: ItemFacts, seed: int
) -> Discrimination:
    """Cross-validated AUC of telling real from simulated histories of the same users.

    Args:
        real: Histories, none empty.
        simulated: Histories of the same users in the same order, none empty.
        facts: What is known of items.
        seed: Of folds, weights and the bootstrap.

    Raises:
        ValueError: The two hold other numbers of users, fewer than 2, or an empty history.
    """
    users = len(real)
    shortest = min(real.lengths.min(initial=1), simulated.lengths.min(initial=1))
    if users < 2 or len(simulated) != users or shortest < 1:
        raise ValueError(
            f"real and simulated must hold the same users, at least 2, each with an event, got "
            f"{users} and {len(simulated)} users with histories of {shortest} events or more"
        )
    both = [_windows(real, facts), _windows(simulated, facts)]
    fold_of_user = np.random.default_rng(seed).permutation(users) % min(FOLDS, users)
    features, events, user = (np.concatenate(parts) for parts in zip(*both, strict=True))
    fake = np.repeat([False, True], [len(both[0][2]), len(both[1][2])])
    used = np.isfinite(events[..., 0])
    scores = {"trees": np.zeros(len(fake)), "sequence": np.zeros(len(fake))}
    for fold in range(fold_of_user.max() + 1):
        held = fold_of_user[user] == fold
        # What no history is long enough for tells nothing, and scikit-learn cannot bin it.
        known = features[:, ~np.isnan(features[~held]).all(0)]
        trees = HistGradientBoostingClassifier(
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=8,
            early_stopping=False,
            random_state=seed,
        ).fit(known[~held], fake[~held])
        scores["trees"][held] = trees.decision_function(known[held])
        scores["sequence"][held] = _recurrent(
            np.nan_to_num(events), used, fake, ~held, held, seed + fold
        )
    who = np.concatenate([np.arange(users)] * 2)
    is_fake = np.repeat([False, True], users)
    found = {}
    for name, score in scores.items():
        key = user + users * fake
        found[name] = np.bincount(key, score, 2 * users) / np.bincount(key, minlength=2 * users)
    aucs = {name: auc(score, is_fake) for name, score in found.items()}
    worse = max(aucs, key=lambda name: aucs[name])
    low, high = interval(UserBootstrap(users, seed).auc(found[worse], is_fake, who))
    telling = _telling(real, simulated, facts)
    return Discrimination(aucs["trees"], aucs["sequence"], aucs[worse], low, high, telling)


def permuted_feedback(histories: Histories, seed: int) -> Histories:
    """The same items in the same order, with the levels dealt anew among all events."""
    levels = np.random.default_rng(seed).permutation(histories.levels)
    return Histories(histories.users, histories.offsets, histories.items, levels)


def _telling(real: Histories, simulated: Histories, facts: ItemFacts) -> dict[str, float]:
    found = {}
    pair = named_features(real, facts), named_features(simulated, facts)
    for name, values in pair[0].items():
        both = np.concatenate([values, pair[1][name]])
        fake = np.repeat([False, True], len(real))[np.isfinite(both)]
        one = auc(both[np.isfinite(both)], fake)
        found[name] = max(one, 1 - one) if np.isfinite(one) else 0.5
    best = sorted(found, key=lambda name: -found[name])[:TELLING]
    return {name: found[name] for name in best}


def _windows(histories: Histories, facts: ItemFacts) -> tuple[F64, F32, I64]:
    """Features (windows, features), events (windows, WINDOW, inputs; NaN if unused), users."""
    features, user, start = window_features(histories, facts)
    of_event = facts.inputs(histories.items, histories.levels)
    end = np.minimum(start + WINDOW, histories.offsets[user + 1])
    place = start[:, None] + np.arange(WINDOW)
    used = place < end[:, None]
    events = of_event[np.minimum(place, len(of_event) - 1)]
    events[~used] = np.nan
    return features, events, user


class _Network(nn.Module):
    """Mean over events of a GRU's opinions."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.into = nn.Linear(inputs, HIDDEN)
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Sequential(nn.Dropout(0.2), nn.Linear(HIDDEN, 1))

    def forward(self, events: Tensor, used: Tensor) -> Tensor:
        """(windows, WINDOW, inputs) and (windows, WINDOW) to log-odds (windows,)."""
        hidden, _ = self.gru(torch.relu(self.into(events)))
        said = self.out(hidden)[..., 0] * used
        return said.sum(1) / used.sum(1)


def _recurrent(
    events: F32,
    used: NDArray[np.bool_],
    fake: NDArray[np.bool_],
    train: NDArray[np.bool_],
    held: NDArray[np.bool_],
    seed: int,
) -> F64:
    """Log-odds of the held windows by a network trained on the others."""
    x, u = torch.from_numpy(events), torch.from_numpy(used.astype(np.float32))
    y = torch.from_numpy(fake.astype(np.float32))
    rows = np.flatnonzero(train)
    generator = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(events.shape[2])
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS)
        for _ in range(STEPS):
            part = torch.from_numpy(generator.choice(rows, min(BATCH, len(rows)), replace=False))
            optimizer.zero_grad()
            said = network(x[part], u[part])
            nn.functional.binary_cross_entropy_with_logits(said, y[part]).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    test = torch.from_numpy(np.flatnonzero(held))
    with torch.inference_mode():
        return network(x[test], u[test]).numpy().astype(np.float64)
