"""Rows of speed.json: one environment of one user model, or one fit, measured."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from audience.benchmarks.speed_measure import measure
from audience.benchmarks.speed_memory import available_bytes, held_bytes
from audience.benchmarks.speed_settings import CANDIDATES, SLATES, SpeedSettings
from audience.benchmarks.speed_users import MODEL_BYTES, synthetic_users
from audience.benchmarks.speed_views import VIEWS, VectorView, ViewName
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.errors import TextEncoderError
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.users import START_EVENTS, UserModel

STEP_COPIES = 4
"""The temporaries of a step, and what the users hold, are at most this many times the latter."""

MEMORY_SHARE = 0.5
"""Of the free memory, what a row may take: estimates err, and others run beside it."""

MEASURED = (
    "user_steps_per_second",
    "forward_only_per_second",
    "efficiency",
    "bytes_per_user",
)


def row(
    settings: SpeedSettings,
    users: UserModel,
    series: str,
    view: ViewName,
    number: int,
    slate: int,
    *,
    events: int | None = None,
    candidates: int | None = None,
) -> dict[str, Any]:
    """One row.

    Args:
        settings: Of the program.
        users: A user model.
        series: What the row belongs to.
        view: Form of the environment.
        number: Users at a time.
        slate: Items of a slate.
        events: Events of the history that every user begins with and nobody leaves; None: the
            users' own starts, in sessions that end and begin anew.
        candidates: As the environment has it.
    """
    own: dict[str, Any] = {"slate_size": slate, "candidates": candidates}
    options = None
    if events is not None:
        # Whoever leaves begins anew with a short history.
        own |= {"leave_after_choice": 0.0, "leave_after_skip": 0.0, "step_limit": 10**6}
        own |= {"history_size": START_EVENTS}
        options = {"history": _history(users, events, settings.seed)}
    found = _facts(series, view, number, slate, len(users.catalogue), events, candidates)
    if isinstance(users, BertUserModel):
        found |= {"members": users.model.config.members, "device": users.device.type}
        found |= {"dtype": users.dtype}
    one, two = (held_bytes(VectorView(users, count, **own).core, users) for count in (1, 2))
    if note := too_large(STEP_COPIES * number * (two - one)):
        return found | {"note": note}
    world = VIEWS[view](users, number, **own)
    world.reset(settings.seed, options)
    measured = measure(world, users, settings.budget, settings.seed, events)
    # What two users hold more than one is a user's own; what all share falls out.
    shared = 2 * one - two
    return found | measured | {"bytes_per_user": (held_bytes(world.core, users) - shared) / number}


def catalogue_row(settings: SpeedSettings, items: int) -> dict[str, Any]:
    """A row of synthetic users with a catalogue of this size, the candidates being as many."""
    candidates, number = min(CANDIDATES, items), settings.budget.scaled_users
    facts = _facts("catalogue", "vector", number, SLATES[-1], items, None, candidates)
    if note := too_large(MODEL_BYTES * items):
        return facts | {"note": note}
    users = synthetic_users(items, settings.tower, device=settings.device, seed=settings.seed)
    users.to(dtype=settings.dtype)
    slate = SLATES[-1]
    return row(settings, users, "catalogue", "vector", number, slate, candidates=candidates)


def fit_row(settings: SpeedSettings, number: int) -> dict[str, Any]:
    """Seconds of a tiny fit to the log of this many scripted users."""
    log = ScriptedUsers(seed=settings.seed).log("popularity", users=number, seed=settings.seed)
    found = {"users": number, "events": log.n_events, "preset": "tiny", "seconds": None}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        try:
            BertUserModel.fit(
                log, Path(folder) / "users", preset="tiny", device=settings.device, verbose=False
            )
        except TextEncoderError as error:
            return found | {"note": str(error)}
        return found | {"seconds": time.perf_counter() - began}


def _facts(
    series: str,
    view: ViewName,
    number: int,
    slate: int,
    items: int,
    events: int | None,
    candidates: int | None,
) -> dict[str, Any]:
    """What a row says before anything is measured."""
    return {
        "series": series,
        "view": view,
        "users": number,
        "slate": slate,
        "items": items,
        "candidates": candidates,
        "history": START_EVENTS if events is None else events,
        "members": None,
        "device": "cpu",
        "dtype": None,
        **dict.fromkeys(MEASURED),
    }


def too_large(needed: float) -> str | None:
    """Why this many bytes are not to be had, or None where they are."""
    free = available_bytes()
    if free is None or needed <= MEMORY_SHARE * free:
        return None
    return f"needs up to {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"


def _history(users: UserModel, events: int, seed: int) -> list[tuple[str, float]]:
    rng = np.random.default_rng(seed)
    items = rng.choice(len(users.catalogue), events, replace=False)
    feedback = rng.choice(users.scale.values, events)
    return list(zip(users.catalogue.item_ids[items].tolist(), feedback.tolist(), strict=True))
