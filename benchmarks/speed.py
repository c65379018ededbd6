"""Speed: user-steps per second, beside the bare forward pass of the same network."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from pathlib import Path
from typing import Any

import torch

from audience.agents.base import Agent
from audience.agents.greedy import GreedyAgent, ScoringUsers
from audience.benchmarks.files import write_json, write_text
from audience.benchmarks.speed_figures import write_figures
from audience.benchmarks.speed_measure import latency
from audience.benchmarks.speed_memory import machine
from audience.benchmarks.speed_rows import catalogue_row, fit_row, row
from audience.benchmarks.speed_settings import SLATES, SpeedSettings
from audience.benchmarks.speed_table import markdown, sentence
from audience.benchmarks.speed_training import training_row
from audience.benchmarks.speed_users import synthetic_users
from audience.benchmarks.speed_views import ViewName
from audience.envs.candidates import LARGE
from audience.envs.default_users import movielens_directory, shared_users
from audience.envs.scripted import scripted_users
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.device import resolve_device
from audience.reward_models.users import UserModel

VERSIONS = ("audience", "gymnasium", "numpy", "stable-baselines3", "torch", "transformers")
"""Packages whose versions decide how fast a step is."""

SYNTHETIC_ITEMS = 3000
"""Items of the synthetic users on whom history is scaled where no BERT users are given: about
as many as the default users have."""


def speed(settings: SpeedSettings) -> dict[str, Any]:
    """Measure, row by row.

    Writes `settings.json`, `speed.json` after each row, `table.md`, the figures `catalogue` and
    `history` (png and svg), and TensorBoard files in `summary`. Nothing is resumed: rows of two
    runs would be rows of two states of the machine.

    Returns:
        What `speed.json` says. `rows[]`: `series` (views, history, catalogue), `view`, `users`,
        `slate`, `items`, `candidates`, `history` (events at the start of a session), `members`,
        `device`, `dtype` (of BERT users), `user_steps_per_second`, `forward_only_per_second` (one
        query and one event a user through the cached layers of the tower alone), `efficiency`
        (their ratio), the latter two also with `_choosers` (a pass of only as many rows as choose
        something), `_heads` (a pass with the network's heads, see `BareForward`) and both,
        `bytes_per_user`, `choosing` and `resets` (shares of user-steps at which something is
        chosen, and with which an episode ends), `measured_steps`; `note` where figures are None.
        `latency[]`: `agent`, `p50_ms` and `p99_ms` of one prediction. `training[]`: see
        `training_row`. `fits[]`: `seconds` of a fit by `events` of the log. `machine`, `users`,
        `settings`.

    Raises:
        UserModelError: `users` is no sound directory of users.
        ValueError: The device is not to be had.
    """
    began = time.perf_counter()
    out, budget = Path(settings.out), settings.budget
    device = resolve_device(settings.device)
    users, whose = _users(settings, device)
    told = {
        **dataclasses.asdict(settings),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }
    write_json(out / "settings.json", told)
    results: dict[str, Any] = {"users": whose, "machine": machine(device), "settings": told}
    results |= {part: [] for part in ("rows", "latency", "training", "fits")}

    def add(part: str, entry: dict[str, Any]) -> None:
        results[part].append(entry)
        write_json(out / "speed.json", results)
        print(f"[{time.perf_counter() - began:6.1f} s] {sentence(part, entry)}", flush=True)

    planned: list[tuple[ViewName, int]] = [("single", 1)]
    planned += [("vector", number) for number in budget.vector]
    planned += [("sb3", number) for number in budget.sb3]
    for slate in SLATES:
        for view, number in planned:
            add("rows", row(settings, users, "views", view, number, slate))
    for name, agent in _recommenders(users).items():
        figures = latency(agent, users, budget.predictions, settings.seed)
        add("latency", {"agent": name, "items": len(users.catalogue), **figures})
    room = 2 * max(budget.histories)
    own = users if isinstance(users, BertUserModel) and len(users.catalogue) >= room else None
    if own is None:
        sizes = max(SYNTHETIC_ITEMS, room), settings.tower
        own = synthetic_users(*sizes, device=settings.device, seed=settings.seed)
        own.to(dtype=settings.dtype)
    for events in budget.histories:
        number = budget.scaled_users
        add("rows", row(settings, own, "history", "vector", number, SLATES[-1], events=events))
    for items in budget.catalogues:
        add("rows", catalogue_row(settings, items))
    for items in budget.trained:
        add("training", training_row(settings, items))
    for number in budget.fits:
        add("fits", fit_row(settings, number))
    write_figures(out, results)
    write_text(out / "table.md", markdown(results))
    return results


def _users(settings: SpeedSettings, device: torch.device) -> tuple[UserModel, str]:
    """The users to measure, and who they are."""
    directory = Path(settings.users) if settings.users is not None else movielens_directory()
    if settings.users is None and not directory.exists():
        return scripted_users(), "scripted"
    users = shared_users(directory)
    if isinstance(users, BertUserModel):
        users.to(device, settings.dtype)
    return users, settings.users if settings.users is not None else "default"


def _recommenders(users: UserModel) -> dict[str, Agent]:
    """Agents whose latency is told; with candidates an action is no longer an item."""
    if len(users.catalogue) > LARGE or not isinstance(users, ScoringUsers):
        return {}
    return {"greedy": GreedyAgent(users)}
