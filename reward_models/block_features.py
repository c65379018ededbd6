"""What collaborative filtering says of the events and slates of whole blocks of users.

The same as `CollaborativeInputs` says of running sessions, for all places of a block at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from audience.reward_models.about_users import NOTE_DECAY, NOTE_PRIOR
from audience.reward_models.collaborative import COMPANY_DECAY, FORGETTING
from audience.reward_models.inputs import TEXT_AXES, CollaborativeInputs, opinions
from audience.reward_models.query_features import LATELY
from audience.reward_models.text_nearness import latest_axes_at_places
from audience.reward_models.user_statistics import Known

if TYPE_CHECKING:
    from audience.reward_models.behaviour import BehaviourModel

OF_USERS = ("covariance", "moment", "levels", "recent", "met", "lately")
"""What is known of a user whatever the item: fields of `Known`."""

OF_NAMES = ("context", "note_mean", "note_last")
"""What is known of a user by name: features, the shrunk mean of the latest notes, the last."""

FURTHER = (*OF_NAMES, "latest")
"""What `BehaviourModel.asked_features` takes, as far as the model takes it in."""


def places_of(
    model: BehaviourModel,
    items: Tensor,
    levels: Tensor,
    earlier: dict[str, Tensor],
    fold: Tensor,
    timed: Tensor,
    inputs: CollaborativeInputs,
    about: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Sums over what came before each event and after the last, as in `Statistics`.

    Returns:
        OF_USERS and FURTHER, each of shape (users, events + 1, *), and the residual of each
        event, shape (users, events).
    """
    each = fold[:, None].expand(items.shape)
    gram, moment, onehot, recent = inputs.event_sums(items, levels, model.level_values, each)
    n = items.shape[1] + 1
    fading = fading_weights(n, inputs.decays)[..., :-1]  # (decays, places, events)
    since = inputs.decays ** torch.arange(n, device=items.device)[:, None]
    axes = inputs.design[each, items][..., -TEXT_AXES:]
    moods = torch.einsum("dts,usc->utcd", fading, recent)
    met = torch.einsum("dts,usx->utdx", fading, axes)
    lately = torch.einsum("ts,usl->utl", fading[LATELY], onehot)
    found = _of_names(model, about, items)
    if model.config.places:
        before = inputs.design[fold[:, None], earlier["latest"].clamp(min=0)][..., -TEXT_AXES:]
        before = before * (earlier["latest"] >= 0)[..., None]
        found["latest"] = latest_axes_at_places(before, axes) * timed[:, None, None, None]
    return found | {
        "covariance": inputs.covariance(before_each(gram, earlier["gram"])),
        "moment": before_each(moment, earlier["moment"]),
        "levels": before_each(onehot, earlier["levels"]),
        "recent": moods + earlier["recent"][:, None] * since[:, None],
        "met": met + earlier["met"][:, None] * since[..., None],
        "lately": lately + earlier["lately"][:, None] * since[:, LATELY, None],
        "residual": recent[..., 0],
    }


def _of_names(model: BehaviourModel, about: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
    """OF_NAMES at each place of a block, (users, events + 1, *); none where the model has none.

    Zeros where a model that takes them in is told nothing.
    """
    users, n = items.shape
    config, zeros = model.config, model.text_vectors.new_zeros
    found = {}
    if config.context_dim:
        context = about.get("context", zeros(users, config.context_dim))
        found["context"] = context[:, None].expand(-1, n + 1, -1)
    if config.note_dim and "notes" in about:
        written = about["written"]
        before = nn.functional.pad(written.cumsum(1), (1, 0))  # notes before each place
        place = torch.arange(n + 1, device=items.device)
        there = written[:, None] * (place[:-1] < place[:, None])  # (users, places, events)
        later = before[:, :, None] - before[:, None, 1:]  # notes after each event, till then
        weight = there * NOTE_DECAY ** later.clamp(min=0)
        since = NOTE_DECAY**before
        total = weight.sum(-1) + since * about["note_weight"][:, None]
        sums = weight @ about["notes"] + since[..., None] * about["note_sum"][:, None]
        first = (before == 0)[..., None] * about["note_last"][:, None]
        found["note_mean"] = sums / (total + NOTE_PRIOR)[..., None]
        found["note_last"] = (there * (later == 0)) @ about["notes"] + first
    elif config.note_dim:
        found |= {name: zeros(users, n + 1, config.note_dim) for name in OF_NAMES[1:]}
    return found


def event_features(
    model: BehaviourModel,
    places: dict[str, Tensor],
    items: Tensor,
    earlier: dict[str, Tensor],
    fold: Tensor,
    timed: Tensor,
    inputs: CollaborativeInputs,
) -> Tensor:
    """Query features of every event of a block, shape (users, events, n_features)."""
    n, each = items.shape[1], fold[:, None].expand(items.shape)
    decays = model.level_values.new_tensor([1.0, FORGETTING, COMPANY_DECAY])
    plain, fading, late = fading_weights(n, decays)
    near = inputs.near(fold, items, items)  # (users, s, t)
    opinion = opinions(near, places["residual"], plain.T, late.T)
    place = torch.arange(n, device=items.device)[:, None]
    ease = (inputs.pairs(inputs.ease, fold, items, items) * plain.T).sum(1)
    coming = (inputs.pairs(inputs.coming, fold, items, items) * fading.T).sum(1)
    since = FORGETTING ** torch.arange(n, device=items.device)
    ease = ease + earlier["ease"].gather(1, items)
    coming = coming + earlier["coming"].gather(1, items) * since
    known = Known(
        **{name: places[name][:, :-1] for name in OF_USERS},
        opinion=(opinion + moved_on(earlier["opinion"], place))[:, :, None],
        scores=torch.stack([ease, coming], -1)[:, :, None],
    )
    flags = timed[:, None].expand(items.shape)
    features = inputs.query_features(known, items[..., None], each, flags)
    further = {name: places[name][:, :-1] for name in FURTHER if name in places}
    return model.asked_features(features, further, items[..., None])[..., 0, :]


def slate_features(
    model: BehaviourModel,
    places: dict[str, Tensor],
    shown: dict[str, Tensor],
    items: Tensor,
    earlier: dict[str, Tensor],
    fold: Tensor,
    timed: Tensor,
    inputs: CollaborativeInputs,
) -> Tensor:
    """Query features of the items of each slate, shape (slates, k, n_features)."""
    row, at, asked = shown["row"], shown["at"], shown["items"].clamp(min=0)
    age = at[:, None] - 1 - torch.arange(items.shape[1], device=items.device)
    before = (age >= 0).to(earlier["ease"].dtype)[..., None]  # (slates, events, 1)
    fading = before * FORGETTING ** age.clamp(min=0)[..., None]
    of = fold[row], items[row], asked
    late = before * COMPANY_DECAY ** age.clamp(min=0)[..., None]
    opinion = opinions(inputs.near(*of), places["residual"][row], before, late)
    ease = (inputs.pairs(inputs.ease, *of) * before).sum(1)
    coming = (inputs.pairs(inputs.coming, *of) * fading).sum(1)
    since = (FORGETTING**at)[:, None]
    ease = ease + earlier["ease"][row[:, None], asked]
    coming = coming + earlier["coming"][row[:, None], asked] * since
    known = Known(
        **{name: places[name][row, at] for name in OF_USERS},
        opinion=opinion + moved_on(shown["opinion"], at[:, None, None]),
        scores=torch.stack([ease, coming], -1),
    )
    features = inputs.query_features(known, asked, fold[row], timed[row])
    further = {name: places[name][row, at] for name in FURTHER if name in places}
    return model.asked_features(features, further, asked)


def moved_on(opinion: Tensor, events: Tensor) -> Tensor:
    """Opinions (..., 2 kinds) of events before a block after so many more; they broadcast."""
    decays = opinion.new_tensor([1.0, 1.0, COMPANY_DECAY]).repeat(2)
    return opinion * decays**events


def choice_scores(
    model: BehaviourModel,
    items: Tensor,
    earlier: dict[str, Tensor],
    fold: Tensor,
    inputs: CollaborativeInputs,
    at: Tensor,
) -> tuple[Tensor, Tensor]:
    """Scores of EASE and what comes next, before events at these places, (users, at, items)."""
    each = fold[:, None].expand(items.shape)
    decays = model.level_values.new_tensor([1.0, FORGETTING])
    plain, fading = fading_weights(items.shape[1], decays)[:, at]  # (at, events)
    ease = plain @ inputs.linear_rows(inputs.ease, items, each) + earlier["ease"][:, None]
    moved = fading @ inputs.linear_rows(inputs.coming, items, each)
    since = (FORGETTING**at)[:, None]
    return ease, moved + earlier["coming"][:, None] * since


def fading_weights(n: int, decays: Tensor) -> Tensor:
    """Weight of event s in the decayed sum before event t, shape (decays, n, n): [d, t, s]."""
    place = torch.arange(n, device=decays.device)
    age = (place[:, None] - 1 - place).clamp(min=0)
    return decays[:, None, None] ** age * (place < place[:, None])


def before_each(sums: Tensor, earlier: Tensor) -> Tensor:
    """Sum over what came before each event, and over all: (users, events, *) and (users, *)."""
    return torch.cat([earlier[:, None], sums], 1).cumsum(1)
