"""Train an agent in the simulator: settings in, a directory with a model and its figures out."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure

from audience.agents.callbacks import EvaluationCallback, ProgressCallback, UsersCallback
from audience.agents.evaluation import evaluate
from audience.agents.policies import ItemScoringPolicy
from audience.agents.vec_env import SB3VecEnv, make_sb3_env
from audience.reward_models.users import Assumptions, UserModel

PPO_DEFAULTS: dict[str, Any] = {
    "n_steps": 32,  # a session's step limit is 30
    "batch_size": 2048,
    "n_epochs": 4,
    "learning_rate": 1e-3,
    # A recommendation pays at once or soon: .9 with .8 learned a closed-form world of 1,692 items
    # faster than .95 with .95, which carries the noise of twenty later responses.
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "ent_coef": 0.003,  # .01 and .001 did no better; entropies begin at about 6
    "target_kl": 0.05,  # late in training a few epochs can wreck a policy that is nearly sure
}
"""Of PPO with `ItemScoringPolicy` and 256 users: `PPO(ItemScoringPolicy, env, **PPO_DEFAULTS)`.
Stable-Baselines3's own (rollouts of 2,048 steps a user, minibatches of 64) are made for one
environment: with 256 users the first update would come after 524,288 steps."""

VERSIONED = ("audience", "numpy", "torch", "gymnasium", "stable-baselines3")
"""Packages whose versions decide what a run gives."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training run; the command line of `audience-train` is derived from them."""

    users: str = "runs/users"
    """Directory of the fitted user model (from audience-fit)."""

    out: str = "runs/agent"
    """Directory for the model, its figures and the TensorBoard files."""

    algo: str = "ppo"
    """Algorithm: ppo."""

    steps: int = 300_000
    """User-steps to train for, rounded up to whole rollouts."""

    slate_size: int = 1
    """Items shown at a step."""

    step_limit: int = 30
    """Steps after which a session is cut off."""

    num_envs: int = 256
    """Users who are recommended to at a time."""

    item_bias: Literal["popularity", "none"] = "popularity"
    """What to start from: slates drawn by popularity, or evenly from the catalogue."""

    assumptions: Assumptions = field(default_factory=Assumptions)
    """What the log could not teach about the users."""

    evaluations: int = 10
    """How often to evaluate on validation users on the way, 0 for never."""

    sessions_per_user: int = 4
    """Sessions of each validation user in the final evaluation."""

    seed: int = 0
    """Of everything: the users' draws, the policy's initial values and its own draws."""

    device: str = "auto"
    """Where the policy lives: auto, cpu, cuda."""

    overwrite: bool = False
    """Replace a finished run with other settings in the same directory."""

    def __post_init__(self) -> None:
        if self.algo not in ALGORITHMS:
            raise ValueError(f"algo must be one of {', '.join(ALGORITHMS)}, got {self.algo!r}")
        for name, low in (
            ("steps", 1),
            ("slate_size", 1),
            ("step_limit", 1),
            ("num_envs", 1),
            ("evaluations", 0),
            ("sessions_per_user", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)!r}")

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Settings of the environment, for training and evaluation alike."""
        return {
            "slate_size": self.slate_size,
            "step_limit": self.step_limit,
            **dataclasses.asdict(self.assumptions),
        }


def train(users: UserModel, settings: TrainSettings, progress: bool = True) -> Path:
    """Train an agent, or reuse the finished run with the same settings in `settings.out`.

    Writes `settings.json`, TensorBoard files, `model.zip` (for the algorithm's `load`) and, last,
    `training.json`: a run without it was cut off, and starts over.

    Args:
        users: The user model to train in; `settings.users` is only its name.
        settings: Of the run.
        progress: Whether to show a progress bar.

    Returns:
        The directory.

    Raises:
        ValueError: The directory holds a finished run with other settings, and `overwrite` is
            not set.
    """
    out = Path(settings.out)
    record = _record(users, settings)
    if _finished(out, record, settings.overwrite):
        return out
    out.mkdir(parents=True, exist_ok=True)
    for leftover in ("training.json", "model.zip", "events.out.tfevents.*", ".*.tmp*"):
        for path in out.glob(leftover):
            path.unlink()
    _write_json(out / "settings.json", record)

    env = make_sb3_env(
        "audience/Recommend-v0",
        settings.num_envs,
        seed=settings.seed,
        users=users,
        **settings.env_kwargs,
    )
    model = ALGORITHMS[settings.algo](env, users, settings)
    model.set_logger(configure(str(out), ["tensorboard"]))
    callbacks: list[Any] = [UsersCallback()]
    if settings.evaluations:
        every = -(-settings.steps // settings.evaluations)
        # Other draws than those of training and of the final evaluation.
        seed = settings.seed + settings.num_envs
        callbacks.append(EvaluationCallback(users, every, seed=seed, **settings.env_kwargs))
    if progress:
        callbacks.append(ProgressCallback())
    began = time.perf_counter()
    model.learn(settings.steps, callback=callbacks)
    seconds = time.perf_counter() - began
    model.logger.close()

    temporary = out / f".model.{os.getpid()}.tmp.zip"  # the library appends .zip to other names
    model.save(temporary)
    temporary.replace(out / "model.zip")
    final = evaluate(
        model,
        users,
        population="validation",
        sessions_per_user=settings.sessions_per_user,
        seed=settings.seed,
        **settings.env_kwargs,
    ).summary(settings.seed)
    _write_json(
        out / "training.json",
        {
            "algo": settings.algo,
            "steps": model.num_timesteps,
            "wall_seconds": seconds,
            "steps_per_second": model.num_timesteps / seconds,
            "final": {"simulator": final},
            "settings": record["settings"],
        },
    )
    return out


def _ppo(env: SB3VecEnv, users: UserModel, settings: TrainSettings) -> PPO:
    arguments = {**PPO_DEFAULTS}
    # A rollout of as many steps with any number of users, in equal minibatches.
    rollout = PPO_DEFAULTS["n_steps"] * 256
    steps = min(rollout, settings.steps)
    arguments["n_steps"] = max(2, -(-steps // settings.num_envs))
    arguments["batch_size"] = _largest_divisor(
        arguments["n_steps"] * settings.num_envs, PPO_DEFAULTS["batch_size"]
    )
    return PPO(
        ItemScoringPolicy,
        env,
        policy_kwargs=policy_arguments(users, settings),
        seed=settings.seed,
        device=settings.device,
        **arguments,
    )


ALGORITHMS: dict[str, Callable[[SB3VecEnv, UserModel, TrainSettings], BaseAlgorithm]] = {
    "ppo": _ppo
}
"""What `algo` may name, and what makes it."""


def policy_arguments(users: UserModel, settings: TrainSettings) -> dict[str, Any]:
    """`policy_kwargs` of `ItemScoringPolicy` for these users.

    Where the user model has `text_vectors`, shape (items, width), the policy reads them too.
    """
    vectors: NDArray[np.float32] | None = getattr(users, "text_vectors", None)
    popularity = settings.item_bias == "popularity"
    bias = np.log(users.catalogue.popularity).astype(np.float32) if popularity else None
    return {"item_vectors": vectors, "item_bias": bias}


def _largest_divisor(number: int, at_most: int) -> int:
    return max(d for d in range(1, min(number, at_most) + 1) if number % d == 0)


def _record(users: UserModel, settings: TrainSettings) -> dict[str, Any]:
    """What decides a run, as settings.json holds it."""
    chosen = dataclasses.asdict(settings)
    del chosen["overwrite"]
    starts = users.starts("fitting")
    # A card differs with every fit; closed-form users have none, and are what their data are.
    card = json.dumps(getattr(users, "card", None), sort_keys=True, default=str)
    digest = hashlib.sha256(card.encode())
    for part in (users.catalogue.item_ids, users.catalogue.counts, starts.items, starts.levels):
        digest.update(np.ascontiguousarray(part).tobytes())
    return {
        "settings": chosen,
        "users": digest.hexdigest()[:16],
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
    }


def _finished(out: Path, record: dict[str, Any], overwrite: bool) -> bool:
    """Whether `out` holds this very run, finished."""
    if not ((out / "training.json").exists() and (out / "model.zip").exists()):
        return False
    earlier = json.loads((out / "settings.json").read_text())
    wanted = json.loads(json.dumps(record))
    if earlier == wanted:
        print(f"{out}: reused, finished earlier with the same settings")
        return True
    if overwrite:
        return False
    differing = [
        f"{name} was {earlier['settings'].get(name)!r} and is now {value!r}"
        for name, value in wanted["settings"].items()
        if earlier["settings"].get(name) != value
    ] or [f"{key} changed" for key in ("users", "versions") if earlier.get(key) != wanted[key]]
    raise ValueError(
        f"{out} holds a finished run with other settings ({'; '.join(differing)}); pass another "
        f"out, or overwrite to replace it"
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)
