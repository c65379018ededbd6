"""Train an agent in the simulator: settings in, a directory with a model and its figures out."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HParam, configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from audience.agents.algorithms import PPO_DEFAULTS, ROLLOUT, algorithm_of, make_algorithm
from audience.agents.callbacks import ProgressCallback, UsersCallback, project_items
from audience.agents.chance import Leaving
from audience.agents.checkpoints import (
    NAME,
    callback_states,
    differences,
    load_checkpoint,
    restored,
    save_checkpoint,
    set_callback_states,
)
from audience.agents.first_values import fit_critic
from audience.agents.greedy import GreedyAgent
from audience.agents.item_knowledge import item_to_item_of, item_vectors, known_of_items
from audience.agents.saving import write_labels
from audience.agents.training_settings import TrainSettings
from audience.agents.vec_env import SB3VecEnv, make_sb3_env
from audience.agents.warm_start import clone_choices, imitate
from audience.agents.watching import EvaluationCallback, save_model, worlds
from audience.envs.candidates import LARGE
from audience.reward_models.histories import Histories
from audience.reward_models.users import UserModel, check_alike

__all__ = ["PPO_DEFAULTS", "VERSIONED", "TrainSettings", "policy_arguments", "train"]

VERSIONED = ("audience", "numpy", "torch", "gymnasium", "stable-baselines3", "sb3-contrib")
"""Packages whose versions decide what a run gives."""

AFTER_WARM_START = 0.25
"""Of the default learning rate, once a policy has imitated; from there it falls to 0 as the
training ends. Twice or four times as much, all along, leaves the teacher's ways behind before there
is anything better: less of the return in the simulator, and in an inner judge."""

TAUGHT = 50
"""Items that greedy is asked about while it teaches, beside those of the slate: of its usual 200
for movielens it recommends one of these 50 in 99 % of states, in a third of the time."""

MODEL, BEST, FIGURES = "model.zip", "best.zip", "training.json"


def train(
    users: UserModel,
    settings: TrainSettings,
    progress: bool = True,
    *,
    inner_judge: UserModel | None = None,
    replay: UserModel | None = None,
    histories: Histories | None = None,
) -> Path:
    """Train an agent; go on with a run of the same settings, or reuse it where it is finished.

    Writes into `settings.out`: `settings.json`, what a `Recommender` reads (ids and feedback
    values that the agent's numbers stand for), TensorBoard files, from time to time
    `checkpoint.pt`, then `model.zip` (for the algorithm's `load`) and, last, `training.json`. A
    run that was killed goes on from its checkpoint, and ends as if it had not been.

    Args:
        users: The user model to train in; `settings.users` is only its name.
        settings: Of the run; of its several seeds, the first.
        progress: Whether to show a progress bar.
        inner_judge: An independent user model that training is watched in.
        replay: Real users that the agent meets at evaluations.
        histories: Real events that a warm start clones; by default the fitting users' starts.

    Returns:
        The directory.

    Raises:
        ValueError: The directory holds a run with other settings and `overwrite` is not set, or
            another world has another catalogue.
    """
    out = Path(settings.out)
    check_alike("inner_judge", inner_judge, users)
    check_alike("replay", replay, users)
    record = record_of(users, settings)
    if _finished(out, record, settings.overwrite):
        return out
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / NAME
    kept = None
    if checkpoint.exists() and not settings.overwrite:
        kept = load_checkpoint(checkpoint, record)
    for leftover in (FIGURES, MODEL, ".*.tmp*") + ((NAME, BEST, "events.*") if not kept else ()):
        for path in out.glob(leftover):
            path.unlink()
    _write_json(out / "settings.json", record)
    write_labels(out, users.catalogue, users.scale)

    env = training_env(users, settings)
    watch = _watch(users, settings, inner_judge, replay)
    every = min(ROLLOUT, -(-settings.steps // 10))  # user-steps between points of a curve
    callbacks: list[BaseCallback] = [UsersCallback(every)]
    callbacks += [watch] if watch is not None else []
    began, before = time.perf_counter(), 0.0
    if kept is not None:
        model = restored(kept, algorithm_of(settings.algo).make, env, settings.device)
        set_callback_states(callbacks, kept["callbacks"])
        before = kept["callbacks"]["Checkpointing"]["seconds"]
        print(f"{out}: goes on after {model.num_timesteps:,} user-steps")
    else:
        model = make_algorithm(
            settings.algo,
            env,
            seed=settings.seed,
            device=settings.device,
            steps=settings.steps,
            **policy_arguments(users, settings),
            **_rates(users, settings),
        )
    if isinstance(model, OnPolicyAlgorithm):
        _leaving(users, settings).count(model)
    if kept is None:
        _warm_start(model, users, settings, histories)
    model.set_logger(configure(str(out), ["tensorboard"]))
    keeper = Checkpointing(checkpoint, record, settings.checkpoint_seconds, callbacks, before)
    shown = [ProgressCallback()] if progress else []
    done = model.num_timesteps
    if done < settings.steps and not (watch and watch.stopped):
        model.learn(
            settings.steps - done,
            callback=[keeper, *callbacks, *shown],
            reset_num_timesteps=kept is None,
            log_interval=_log_interval(model, every // env.num_envs),  # type: ignore[arg-type]
        )
    seconds = before + time.perf_counter() - began
    steps = model.num_timesteps
    if settings.early_stop and (out / BEST).exists():
        model = type(model).load(out / BEST, device=settings.device, custom_objects=None)
        model.set_logger(configure(str(out), ["tensorboard"]))
    save_model(model, out / MODEL)
    results = worlds(
        model,
        users,
        inner_judge,
        replay,
        population="validation",
        sessions_per_user=settings.sessions_per_user,
        seed=settings.seed,
        **evaluation_kwargs(users, settings),
    )
    final = {name: result.summary(settings.seed) for name, result in results.items()}
    _conclude(model, settings, users, final, steps)
    _write_json(
        out / FIGURES,
        {
            "algo": settings.algo,
            "steps": steps,
            "wall_seconds": seconds,
            "steps_per_second": steps / seconds,
            "final": final,
            "settings": dataclasses.asdict(settings),
        },
    )
    checkpoint.unlink(missing_ok=True)
    return out


class Checkpointing(BaseCallback):
    """Writes a checkpoint before a rollout, where the last one is old enough.

    Args:
        path: Of the checkpoint.
        record: Of the run.
        every: Seconds between checkpoints.
        others: Callbacks whose state belongs to it.
        seconds: That the run took before it was interrupted.
    """

    def __init__(
        self,
        path: Path,
        record: dict[str, Any],
        every: float,
        others: list[BaseCallback],
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self.path, self.record, self.every, self.others = path, record, every, others
        self._began = time.perf_counter() - seconds
        self._last = time.perf_counter()

    def get_state(self) -> dict[str, Any]:
        """How long the run took so far."""
        return {"seconds": time.perf_counter() - self._began}

    def _on_rollout_start(self) -> None:
        # Here the last rollout is learned from and the next one not begun.
        if time.perf_counter() - self._last < self.every or self.n_calls == 0:
            return
        states = callback_states([self, *self.others])
        save_checkpoint(self.path, self.model, self.record, states)
        self._last = time.perf_counter()

    def _on_step(self) -> bool:
        return True


def training_env(users: UserModel, settings: TrainSettings) -> SB3VecEnv:
    """The environment of a training."""
    # Without candidates the history tells what is consumed: no need to carry masks about.
    own = {"pessimism": settings.pessimism, "mask_in_observation": _offers(users, settings)}
    assumptions = _leaving(users, settings).assumptions
    return make_sb3_env(
        "audience/Recommend-v0",
        settings.users_at_a_time,
        seed=settings.seed,
        users=users,
        **{**own, **evaluation_kwargs(users, settings), **dataclasses.asdict(assumptions)},
    )


def _leaving(users: UserModel, settings: TrainSettings) -> Leaving:
    return Leaving.of(users, settings.assumptions, algorithm_of(settings.algo).on_policy)


def _offers(users: UserModel, settings: TrainSettings) -> bool:
    """Whether each step offers candidates."""
    return settings.candidates is not None or len(users.catalogue) > LARGE


def evaluation_kwargs(users: UserModel, settings: TrainSettings) -> dict[str, Any]:
    """Settings of the environment that an algorithm's own actions fit in.

    Raises:
        ValueError: Actions are embeddings, and there is no text to make item vectors of.
    """
    if not algorithm_of(settings.algo).embeds:
        return settings.env_kwargs
    vectors = item_vectors(users) if settings.item_text else None
    if vectors is None:
        raise ValueError(
            f"algo={settings.algo!r} looks items up by their vectors, which are made of their "
            f"text: it needs item_text and a catalogue with texts; take ppo or dqn for ids"
        )
    embeds = {"actions": "embedding", "item_vectors": vectors}
    # Stable-Baselines3's own policies take no more than what they were trained with.
    return {**settings.env_kwargs, **embeds, "mask_in_observation": _offers(users, settings)}


def policy_arguments(users: UserModel, settings: TrainSettings) -> dict[str, Any]:
    """`item_vectors`, `item_bias` and `item_to_item` of the policy for these users."""
    vectors = known_of_items(users, settings.item_text)
    popularity = settings.item_bias == "popularity"
    bias = np.log(users.catalogue.popularity).astype(np.float32) if popularity else None
    scores = item_to_item_of(users, settings.item_text)
    return {"item_vectors": vectors, "item_bias": bias, "item_to_item": scores}


def record_of(users: UserModel, settings: TrainSettings) -> dict[str, Any]:
    """What decides a run, as settings.json holds it."""
    starts = users.starts("fitting")
    # A card differs with every fit; closed-form users have none, and are what their data are.
    card = json.dumps(getattr(users, "card", None), sort_keys=True, default=str)
    digest = hashlib.sha256(card.encode())
    for part in (users.catalogue.item_ids, users.catalogue.counts, starts.items, starts.levels):
        digest.update(np.ascontiguousarray(part).tobytes())
    return {
        "settings": json.loads(json.dumps(settings.deciding())),
        "users": digest.hexdigest()[:16],
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
    }


def _watch(
    users: UserModel,
    settings: TrainSettings,
    inner_judge: UserModel | None,
    replay: UserModel | None,
) -> EvaluationCallback | None:
    if not settings.evaluations:
        return None
    return EvaluationCallback(
        users,
        -(-settings.steps // settings.evaluations),
        # Other draws than those of training and of the final evaluation.
        seed=settings.seed + settings.users_at_a_time,
        inner_judge=inner_judge,
        replay=replay,
        early_stop=settings.early_stop,
        best=Path(settings.out) / BEST if settings.early_stop else None,
        **evaluation_kwargs(users, settings),
    )


def _rates(users: UserModel, settings: TrainSettings) -> dict[str, Any]:
    """The algorithm's discount, less what sessions lose by chance; its rate after a warm start."""
    own = algorithm_of(settings.algo).defaults
    rates = {"gamma": own["gamma"] * _leaving(users, settings).kept}
    if settings.warm_start != "none":
        rates["learning_rate"] = LinearSchedule(AFTER_WARM_START * own["learning_rate"], 0.0, 1.0)
    return rates


def _warm_start(
    model: BaseAlgorithm, users: UserModel, settings: TrainSettings, histories: Histories | None
) -> None:
    generator = np.random.default_rng([settings.seed, 1])
    if settings.warm_start == "none":
        return
    if settings.warm_start == "log":
        real = users.starts("fitting") if histories is None else histories
        clone_choices(model, users, real, settings.warm_start_steps, generator)
    if settings.warm_start == "greedy":
        size = settings.slate_size
        teacher = GreedyAgent(users, settings.assumptions, size, TAUGHT + size)
        imitate(model, teacher, settings.warm_start_steps, generator)
    assert isinstance(model, OnPolicyAlgorithm)
    fit_critic(model, generator)
    env = model.get_env()
    assert env is not None
    env.seed(settings.seed)  # training begins with the sessions that it would begin with


def _log_interval(model: BaseAlgorithm, steps: int) -> int | None:
    """Rollouts between dumps of the logger; off-policy `UsersCallback` dumps."""
    return max(1, steps // model.n_steps) if isinstance(model, OnPolicyAlgorithm) else None


def _conclude(
    model: BaseAlgorithm,
    settings: TrainSettings,
    users: UserModel,
    final: dict[str, Any],
    steps: int,
) -> None:
    """The last page of TensorBoard: hyper-parameters beside results, and the item vectors."""
    chosen = {
        name: value
        for name, value in settings.deciding().items()
        if isinstance(value, (bool, str, float, int))
    }
    results = {f"final/{name}": one["return"]["mean"] for name, one in final.items()}
    for name, value in results.items():
        model.logger.record(name, value)
    excluded = ("stdout", "log", "json", "csv")
    model.logger.record("hparams", HParam(chosen, results), exclude=excluded)
    model.logger.dump(steps)
    project_items(model.logger, model.policy, users, steps)
    model.logger.close()


def _finished(out: Path, record: dict[str, Any], overwrite: bool) -> bool:
    """Whether `out` holds this very run, finished."""
    if not ((out / FIGURES).exists() and (out / MODEL).exists()):
        return False
    differing = differences(json.loads((out / "settings.json").read_text()), record)
    if not differing:
        print(f"{out}: reused, finished earlier with the same settings")
        return True
    if overwrite:
        return False
    raise ValueError(
        f"{out} holds a finished run with other settings ({'; '.join(differing)}); pass another "
        f"out, or overwrite to replace it"
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def seeds_of(settings: TrainSettings) -> Iterable[TrainSettings]:
    """The settings of each seed's run; of several, in a directory of its own each."""
    if settings.seeds == 1:
        return [settings]
    return [
        dataclasses.replace(
            settings, seed=seed, seeds=1, out=str(Path(settings.out) / f"seed-{seed}")
        )
        for seed in range(settings.seed, settings.seed + settings.seeds)
    ]
