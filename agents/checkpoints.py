"""Checkpoints of a training, from which it goes on as if it had never been interrupted.

A checkpoint is one file, made of Stable-Baselines3's own archive of the algorithm (networks,
optimisers, counters) and of what that leaves out: the environment's state, the replay buffer,
the states of all random generators and of the callbacks. Like every archive of
Stable-Baselines3 it is read by unpickling: load only your own.
"""

from __future__ import annotations

import io
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from audience.agents.vec_env import SB3VecEnv

FORMAT = 1
"""Version of the file; one of another version is refused."""

NAME = "checkpoint.pt"


class CheckpointError(ValueError):
    """A checkpoint that does not fit, or cannot be read."""


def save_checkpoint(
    path: Path,
    model: BaseAlgorithm,
    record: dict[str, Any],
    callbacks: dict[str, dict[str, Any]],
) -> None:
    """Write a checkpoint, in place of an earlier one, in one step.

    To be called between a training step and the next rollout: what a rollout has gathered so
    far is not kept.

    Args:
        path: Of the file.
        model: In training, in an `SB3VecEnv`.
        record: What decides the run; only a run of the same record may go on from here.
        callbacks: State of each callback.
    """
    env = model.get_env()
    assert isinstance(env, SB3VecEnv)
    archive = io.BytesIO()
    model.save(archive)
    state = {
        "format": FORMAT,
        "record": record,
        "model": archive.getvalue(),
        "env": env.get_state(),
        "replay": getattr(model, "replay_buffer", None),
        "random": _generators(model),
        "callbacks": callbacks,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        pickle.dump(state, file, protocol=pickle.HIGHEST_PROTOCOL)
    temporary.replace(path)


def load_checkpoint(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's content.

    Raises:
        CheckpointError: It is damaged, of another version, or of a run with another record.
    """
    cure = "name another out, or pass overwrite to start anew"
    try:
        with path.open("rb") as file:
            state = pickle.load(file)
    except Exception as error:  # whatever a broken pickle runs into
        raise CheckpointError(f"{path} is damaged ({error}); {cure}") from error
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise CheckpointError(
            f"{path} is a checkpoint of format {found!r}, this version reads format {FORMAT}; "
            f"{cure}"
        )
    differing = differences(state["record"], record)
    if differing:
        raise CheckpointError(
            f"{path} is the checkpoint of another run ({'; '.join(differing)}); {cure}"
        )
    return state


def restored(
    state: dict[str, Any], make: Callable[..., BaseAlgorithm], env: SB3VecEnv, device: str
) -> BaseAlgorithm:
    """The algorithm as it was when the checkpoint was written, and its environment too.

    Args:
        state: From `load_checkpoint`.
        make: Class of the algorithm.
        env: Of the same settings as the one it was trained in.
        device: Where the algorithm is to live.
    """
    archive = io.BytesIO(state["model"])
    algorithm: Any = make
    model: BaseAlgorithm = algorithm.load(archive, env=env, device=device, force_reset=False)
    if state["replay"] is not None:
        state["replay"].device = model.device
        model.replay_buffer = state["replay"]  # type: ignore[attr-defined]
    env.set_state(state["env"])
    _set_generators(model, state["random"])  # last: all the above draws
    return model


def callback_states(callbacks: list[BaseCallback]) -> dict[str, dict[str, Any]]:
    """State of those callbacks that have one, by class."""
    return {
        type(callback).__name__: callback.get_state()
        for callback in callbacks
        if hasattr(callback, "get_state")
    }


def set_callback_states(callbacks: list[BaseCallback], states: dict[str, dict[str, Any]]) -> None:
    """Give callbacks the states that `callback_states` gave."""
    for callback in callbacks:
        if type(callback).__name__ in states:
            callback.set_state(states[type(callback).__name__])  # type: ignore[attr-defined]


def differences(earlier: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What two records of runs differ in, in words; where the same users lie is no difference."""
    same_users = earlier["users"] == wanted["users"]
    found = [
        f"{name} was {earlier['settings'].get(name)!r} and is now {value!r}"
        for name, value in wanted["settings"].items()
        if earlier["settings"].get(name) != value and not (name == "users" and same_users)
    ]
    versions = [
        f"{name} was {earlier['versions'].get(name)} and is now {version}"
        for name, version in wanted["versions"].items()
        if earlier["versions"].get(name) != version
    ]
    if not found and not same_users:
        found = ["the users, or the catalogue, are other ones"]
    return found or versions


def _generators(model: BaseAlgorithm) -> dict[str, Any]:
    """States of all generators that a training draws from."""
    return {
        # Stable-Baselines3 shuffles minibatches, and samples replay, by NumPy's global one.
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "actions": model.action_space.np_random.bit_generator.state,
    }


def _set_generators(model: BaseAlgorithm, states: dict[str, Any]) -> None:
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    model.action_space.np_random.bit_generator.state = states["actions"]
