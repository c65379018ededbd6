"""What of the behaviour model hangs on the collaborative inputs alone, fitted before the tower.

Small networks on features in memory want many small steps; the tower, to which a step is a
catalogue, few large ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.block_features import (
    choice_scores,
    event_features,
    places_of,
    slate_features,
)
from audience.reward_models.blocks import BlockDataset
from audience.reward_models.inputs import CollaborativeInputs

BASE_BLOCKS = 8000
"""Blocks, about 400,000 events, to which the feedback base is fitted at most: it has a few
thousand weights a member."""

BASE_EPOCHS, BASE_BATCH, BASE_RATE = 12, 512, 2e-3
"""Passes over those events, events a step and peak learning rate of the feedback base."""

LINEAR_SLATES = 50_000
"""Slates to which the linear part of the appeal is fitted at most: each of its steps takes all."""

LEAST_STEPS, MOST_STEPS = 100, 3000
"""Steps of the feedback base, whatever the size of the log."""

GATE_BLOCKS = 256
"""Blocks to which the gates are first fitted: there are few gates, and each place of a block
costs a catalogue."""


def fit_bases(
    model: BehaviourModel, training: BlockDataset, crossed: CollaborativeInputs, seed: int
) -> None:
    """Fit all heads but what the tower adds, in place.

    Args:
        model: The model to fit.
        training: Blocks of the fitting users.
        crossed: Cross-fitted inputs for `training`.
        seed: Of batches, dropout and first weights.
    """
    some = range(0, len(training), max(1, math.ceil(len(training) / BASE_BLOCKS)))
    found: list[_Asked] = [_asked(model, batch, crossed) for batch in _batches(training, 64, some)]
    x, y, weight, seconds, ends = (
        torch.cat(part) for part in zip(*(f.events for f in found), strict=True)
    )
    model.feature_mean.copy_(x.mean(0))
    model.feature_std.copy_(x.std(0).clamp(min=1e-3))
    x = model.scaled(x)
    _fit_feedback(model, x, y, weight, seed)
    heads = model.slates
    if model.config.places:
        _fit_appeal(model, [f.slates for f in found if f.slates is not None], seed)
        answers = [f.answers for f in found if f.answers is not None]
        y, ends = (torch.cat(part) for part in zip(*answers, strict=True))
    if model.config.leaves:
        with torch.no_grad():
            heads.leave_base.weight.copy_(_log_odds(y, ends, len(heads.leave_base.weight)))
    if model.config.dwells:
        _fit_dwell(model, x, torch.cat([f.events[1] for f in found]), seconds, seed)

    with torch.no_grad():  # a start near which the likelihood is already sensible: popularity
        model.gate_base.weight.zero_()
        model.gate_base.bias.copy_(torch.tensor([1.0, 0.5, 0.5]))
    some = range(0, len(training), max(1, math.ceil(len(training) / GATE_BLOCKS)))
    parts = [_gate_part(model, batch, crossed) for batch in _batches(training, 16, some)]
    _minimise(model.gate_base, lambda: torch.stack([_gate_loss(model, *p) for p in parts]).mean())


@dataclass(frozen=True)
class _Asked:
    """What the heads are first fitted to, of a batch of blocks.

    Attributes:
        events: Features, level, weight for each member, log-seconds and end of each event.
        slates: Features (slates, k, features), places, which are open, and the choice.
        answers: Level (or the number of levels: nothing chosen) and end of each slate.
    """

    events: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
    slates: tuple[Tensor, Tensor, Tensor, Tensor] | None
    answers: tuple[Tensor, Tensor] | None


def _asked(model: BehaviourModel, batch: dict[str, Any], crossed: CollaborativeInputs) -> _Asked:
    items, levels, earlier = batch["items"], batch["levels"], batch["earlier"]
    of = items, earlier, batch["fold"], batch["timed"], crossed
    about = batch.get("about", {})
    places = places_of(model, items, levels, earlier, batch["fold"], batch["timed"], crossed, about)
    used = torch.arange(items.shape[1]) < batch["length"][:, None]
    weights = batch.get("weights", torch.ones(len(items), model.config.members))
    unknown = torch.full(items.shape, -1)
    events = (
        event_features(model, places, *of)[used],
        levels[used],
        weights[:, None].expand(*used.shape, -1)[used],
        batch.get("log_seconds", unknown * torch.nan)[used],
        batch.get("ends", unknown)[used],
    )
    if "shown" not in batch:
        return _Asked(events, None, None)
    shown = batch["shown"]
    row, at, chosen = shown["row"], shown["at"], shown["chosen"]
    features = slate_features(model, places, shown, *of)
    gone = batch["rank"][row[:, None], shown["items"].clamp(min=0)] < at[:, None]
    there = (shown["items"] >= 0) & ~gone
    answer = levels[row, at.clamp(max=levels.shape[1] - 1)]
    answer = torch.where(chosen >= 0, answer, len(model.level_values))
    return _Asked(
        events, (features, shown["places"].clamp(min=0), there, chosen), (answer, shown["ends"])
    )


def _fit_feedback(model: BehaviourModel, x: Tensor, y: Tensor, weight: Tensor, seed: int) -> None:
    """Fit the members of the feedback base: one regression for all, then each on its sample.

    Args:
        model: Whose `feedback_base` is fitted.
        x: Scaled features, shape (events, features).
        y: Levels, shape (events,).
        weight: What each member learns from each event, shape (events, members).
        seed: Of batches, dropout and first weights.
    """
    base = model.feedback_base
    members, n_levels = base.members, base.n_out
    assert base.linear is not None
    shared = nn.Linear(x.shape[1], n_levels)
    nn.init.zeros_(shared.weight)
    nn.init.zeros_(shared.bias)
    _minimise(shared, lambda: nn.functional.cross_entropy(shared(x), y))
    with torch.no_grad():
        base.linear.weight.copy_(shared.weight.repeat(members, 1))
        base.linear.bias.copy_(shared.bias.repeat(members))

    def loss(rows: Tensor) -> Tensor:
        logs = base(x[rows]).log_softmax(-1)  # (batch, members, levels)
        own = -logs.gather(2, y[rows, None, None].expand(-1, members, 1))[..., 0]
        return (own * weight[rows]).sum() / weight[rows].sum().clamp(min=1e-9)

    _descend(base, [base.hidden.weight], loss, len(x), seed)


def _fit_appeal(
    model: BehaviourModel, parts: list[tuple[Tensor, Tensor, Tensor, Tensor]], seed: int
) -> None:
    """Fit what of the appeal of the items shown hangs on features and position."""
    width = max(part[1].shape[1] for part in parts)

    def padded(tensor: Tensor) -> Tensor:
        fill = [0, 0] * (tensor.dim() - 2) + [0, width - tensor.shape[1]]
        return nn.functional.pad(tensor, fill)

    x, places, there = (torch.cat([padded(part[i]) for part in parts]) for i in range(3))
    chosen, heads = torch.cat([part[3] for part in parts]), model.slates
    x = model.scaled(x)
    base = heads.appeal_base
    linear = base.linear
    assert linear is not None
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)

    def surprise(appeal: Tensor, rows: Tensor | slice) -> Tensor:
        options = nn.functional.pad(appeal.masked_fill(~there[rows], -torch.inf), (1, 0))
        return -options.log_softmax(-1).gather(1, chosen[rows, None] + 1).mean()

    def loss(rows: Tensor) -> Tensor:
        return surprise(heads.base_appeal(x[rows], places[rows]), rows)

    # The linear part first: beyond what the log shows, where policies go, it goes on as it
    # began, and the hidden layer levels off.
    few = slice(None, None, max(1, math.ceil(len(x) / LINEAR_SLATES)))
    at = places[few].clamp(max=heads.places - 1)
    _minimise(
        nn.ModuleList([linear, heads.place]),
        lambda: surprise(linear(x[few])[..., 0] + heads.place(at)[..., 0], few),
    )
    _descend(nn.ModuleList([base, heads.place]), [base.hidden.weight], loss, len(x), seed)


def _fit_dwell(model: BehaviourModel, x: Tensor, y: Tensor, seconds: Tensor, seed: int) -> None:
    """Fit log dwell times to features and the level given; then their spread."""
    known = torch.nonzero(seconds.isfinite())[:, 0]
    heads = model.slates
    base = heads.dwell_base
    assert base.linear is not None
    nn.init.zeros_(base.linear.weight)
    if not len(known):
        return
    x, y, seconds = x[known], y[known], seconds[known]
    with torch.no_grad():
        base.linear.bias.fill_(float(seconds.mean()))

    def loss(rows: Tensor) -> Tensor:
        return (heads.log_seconds(x[rows], y[rows])[0] - seconds[rows]).square().mean()

    _descend(base, [base.hidden.weight], loss, len(x), seed)
    with torch.no_grad():
        chunks = (tensor.split(4096) for tensor in (x, y, seconds))
        missed = [heads.log_seconds(a, b)[0] - c for a, b, c in zip(*chunks, strict=True)]
        spread = torch.cat(missed).square().mean().sqrt()
        heads.dwell_spread.copy_(spread.clamp(min=1e-3).log())


def _log_odds(answer: Tensor, ends: Tensor, answers: int) -> Tensor:
    """Log odds of leaving after each answer, (answers, 1); one pseudo-event at the rate of all."""
    known = ends >= 0
    count = torch.bincount(answer[known], minlength=answers)
    left = torch.bincount(answer[known], ends[known].float(), minlength=answers)
    rate = (left.sum() + 0.5) / (count.sum() + 1)
    return torch.logit((left + rate) / (count + 1))[:, None]


def _descend(
    layers: nn.Module,
    fresh: list[Tensor],
    loss: Callable[[Tensor], Tensor],
    rows: int,
    seed: int,
) -> None:
    """Minimise a loss over rows by AdamW.

    Args:
        layers: What is fitted.
        fresh: Weights of its that start at random.
        loss: Of the rows of a batch.
        rows: How many there are.
        seed: Of batches, dropout and fresh weights.
    """
    steps = int(min(max(BASE_EPOCHS * rows / BASE_BATCH, LEAST_STEPS), MOST_STEPS))
    optimizer = torch.optim.AdamW(layers.parameters(), lr=BASE_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, BASE_RATE, total_steps=steps, pct_start=0.1
    )
    layers.train()
    order = torch.zeros(0, dtype=torch.long)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for weight in fresh:
            nn.init.xavier_uniform_(weight)
        for _ in range(steps):
            if len(order) < min(BASE_BATCH, rows):
                order = torch.cat([order, torch.randperm(rows)])
            batch, order = order[:BASE_BATCH], order[BASE_BATCH:]
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
            schedule.step()
    layers.eval()


def _gate_part(
    model: BehaviourModel, batch: dict[str, Any], crossed: CollaborativeInputs
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gate inputs, scores, consumed items and targets at four places of each block."""
    n = batch["items"].shape[1]
    at = torch.linspace(min(1, n - 1), n - 1, 4).long().unique()
    ease, coming = choice_scores(
        model, batch["items"], batch["earlier"], batch["fold"], crossed, at
    )
    rank, timed = batch["rank"][:, None, :], batch["timed"]
    later = (rank >= at[:, None]) & (rank <= model.config.window)
    target = torch.where(timed[:, None, None], rank == at[:, None], later)
    used = (at < batch["length"][:, None]) & target.any(-1)
    scores = torch.stack([s.expand_as(ease) for s in model.scores(ease, coming)], -1)
    count = batch["earlier"]["levels"].sum(-1)[:, None] + at
    asked = count.log1p()[..., None] / 4
    target = target[used] / target[used].sum(-1, keepdim=True)
    return asked[used], scores[used], (rank < at[:, None])[used], target


def _gate_loss(
    model: BehaviourModel, asked: Tensor, scores: Tensor, gone: Tensor, target: Tensor
) -> Tensor:
    raw = torch.einsum("pg,pig->pi", model.gate_base(asked), scores)
    said = raw.masked_fill(gone, -torch.inf).log_softmax(-1)
    return -(said.masked_fill(target == 0, 0) * target).sum(-1).mean()


def _minimise(layer: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Fit what is linear by L-BFGS, with a little weight decay."""
    weights = list(layer.parameters())
    optimizer = torch.optim.LBFGS(weights, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss() + 1e-4 * sum(w.square().sum() for w in weights if w.dim() > 1)
        value.backward()
        return value

    optimizer.step(closure)


def _batches(training: BlockDataset, size: int, rows: range) -> Iterator[dict[str, Any]]:
    for at in range(0, len(rows), size):
        yield training.collate([training[i] for i in rows[at : at + size]])
