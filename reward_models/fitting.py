"""Fitting BERT users to a log: split, item text, collaborative inputs, behaviour tower, card."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.behaviour import BehaviourConfig, BehaviourModel
from audience.reward_models.bert_users import (
    BertUserModel,
    is_users,
    pseudonymous,
    replace_directory,
    resolve_device,
)
from audience.reward_models.blocks import BlockDataset, covering, overlapping
from audience.reward_models.card import card_of, summary, write_card
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.errors import LogError, UserModelError
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import CollaborativeInputs
from audience.reward_models.log import InteractionLog
from audience.reward_models.quality import quality
from audience.reward_models.quality_choice import tune_ease
from audience.reward_models.quality_data import QualityData
from audience.reward_models.quality_feedback import tune_als
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.splits import UserSplit
from audience.reward_models.text import BertTextEncoder
from audience.reward_models.tower import fit_tower
from audience.reward_models.users import POPULATIONS, Population

FOLDS = 5
"""Parts of the fitting users for cross-fitting: each part's inputs come from the other four."""


@dataclass(frozen=True)
class Size:
    """What a preset decides: sizes of the tower and how long it is fitted."""

    epochs: int
    hidden_size: int = 64
    layers: int = 2
    heads: int = 4
    window: int = 64
    factors: int = 8


PRESETS: dict[str, Size] = {
    "tiny": Size(epochs=2, hidden_size=16, layers=1, heads=2, window=16, factors=2),
    "demo": Size(epochs=3),
    "full": Size(epochs=10),
}


@dataclass
class FitSettings:
    """Settings of `audience-fit`."""

    log: str | None = None
    """Named log: movielens or ml-100k."""
    interactions: str | None = None
    """File of events (csv or parquet), in place of a named log."""
    items: str | None = None
    """File of items (csv or parquet) that goes with `interactions`."""
    text: str | None = None
    """How an item of these files reads, its columns in braces: "{title}. {category}"."""
    out: str = "runs/users"
    """Directory of the user model that is written."""
    preset: Literal["tiny", "demo", "full"] = "full"
    """How long to fit: tiny (seconds, for tests), demo (a minute or two), full."""
    half: Literal["a", "b"] | None = None
    """Fit on one half of the users who are not test users; None takes them all."""
    seed: int = 0
    """Seed of the split, the orders and the weights."""
    device: str = "auto"
    """Where to compute: auto (a GPU where there is one), cpu or cuda."""
    encoder: str | None = None
    """Directory or Hugging Face id of the text encoder; None takes the default."""
    batch_size: int = 32
    """Blocks of events a step of the fit."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    dropout: float = 0.2
    """Dropout in the tower."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if self.half not in (None, "a", "b"):
            raise ValueError(f"half must be a, b or None, got {self.half!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout}")
        if (self.interactions is None) != (self.items is None):
            raise ValueError("interactions and items go together: give both files, or a log")
        if self.log is not None and self.interactions is not None:
            raise ValueError("give either log or interactions and items, not both")

    def read_log(self) -> InteractionLog:
        """The log that these settings name.

        Raises:
            LogError: It cannot be found or breaks a rule.
        """
        if self.interactions is not None and self.items is not None:
            return InteractionLog.from_files(self.interactions, self.items, text=self.text)
        return InteractionLog.load(self.log or "movielens")


@dataclass(frozen=True)
class FitData:
    """A log, split and indexed.

    Attributes:
        split: Who is fitted, validated and tested on.
        catalogue: The items.
        scale: The feedback scale.
        histories: Events of each population, oldest first, no item twice for one user.
        values: Their feedback in the log's unit.
    """

    split: UserSplit
    catalogue: Catalogue
    scale: FeedbackScale
    histories: dict[Population, Histories]
    values: dict[Population, NDArray[np.float64]]

    @classmethod
    def of(cls, log: InteractionLog, half: Literal["a", "b"] | None, seed: int) -> FitData:
        """Split a log; with a half, an item must be common enough in both halves.

        Raises:
            LogError: Too few users or items.
        """
        groups = None
        if half is None:
            split = UserSplit.of(log.user_ids, seed)
        else:
            halves = {h: UserSplit.half_of(log.user_ids, h, seed) for h in ("a", "b")}
            split = halves[half]
            groups = [np.concatenate([s.fitting, s.validation]) for s in halves.values()]
        for name in POPULATIONS:
            if len(getattr(split, name)) == 0:
                raise LogError(
                    f"log {log.name!r}: no {name} users among {log.n_users}; a fit needs fitting, "
                    f"validation and test users. Give a log of more users."
                )
        scale = log.scale(split.fitting)
        catalogue = log.catalogue(split.fitting, groups=groups)
        histories, values = {}, {}
        for name in POPULATIONS:
            users = getattr(split, name)
            every = log.histories(users, catalogue, scale)
            histories[name], kept = every.without_repeats()
            values[name] = log.values(users, catalogue)[kept]
        return cls(split, catalogue, scale, histories, values)


def fit(log: InteractionLog, settings: FitSettings, verbose: bool = True) -> BertUserModel:
    """Fit users to a log and write them to `settings.out`; see `BertUserModel.fit`."""
    out = Path(settings.out)
    if out.exists() and not is_users(out) and any(out.iterdir()):
        raise UserModelError(
            f"out {out}: exists and is no user model directory; it would be overwritten. "
            f"Name another directory."
        )
    device = resolve_device(settings.device)
    data = FitData.of(log, settings.half, settings.seed)
    work = out.with_name(out.name + ".partial")
    written = settings_of(log, settings)
    _open_work(work, written)
    say = _speaker(verbose)
    say(
        f"fitting users to {log.name}: {len(data.split.fitting)} users, "
        f"{len(data.histories['fitting'].items):,} events, {len(data.catalogue):,} items"
    )
    vectors = BertTextEncoder(settings.encoder, device).encode(data.catalogue.texts.tolist())
    say("collaborative inputs")
    quality_data = QualityData(
        fitting=data.histories["fitting"],
        validation=data.histories["validation"],
        test=data.histories["test"],
        fitting_values=data.values["fitting"],
        validation_values=data.values["validation"],
        test_values=data.values["test"],
        scale=data.scale,
        catalogue=data.catalogue,
        seed=settings.seed,
    )
    factors = PRESETS[settings.preset].factors
    tuned = {"penalty": tune_als(quality_data, factors), "ease_l2": tune_ease(quality_data)}
    own, crossed, folds = _inputs(data, factors, tuned, settings.seed)
    model = _new_model(data, vectors, own, settings)
    window = model.config.window
    levels = np.array(data.scale.values)
    training = BlockDataset(
        data.histories["fitting"],
        covering(data.histories["fitting"], window),
        crossed,
        levels,
        window,
        folds,
        shuffle=model.config.order == "random",
        seed=settings.seed,
    )
    validation = BlockDataset(
        data.histories["validation"],
        overlapping(data.histories["validation"], window),
        own,
        levels,
        window,
    )
    say("behaviour tower")
    fit_tower(
        model,
        training,
        validation,
        crossed,
        work,
        epochs=PRESETS[settings.preset].epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        device=device,
        verbose=verbose,
    )
    starts = {name: pseudonymous(data.histories[name], name) for name in POPULATIONS}
    users = BertUserModel(model, data.catalogue, data.scale, starts).to(device)
    say("measuring on unseen users")
    users.card = card_of(
        log.name,
        settings=written | tuned | {"window": window, "members": 1, "order": model.config.order},
        measured=quality(users, quality_data),
        assumptions=_assumptions(log),
    )
    finished = work / "users"
    shutil.rmtree(finished, ignore_errors=True)
    users.save_pretrained(finished)
    write_card(finished, users.card)
    (finished / "settings.json").write_text(json.dumps(written, indent=2) + "\n")
    shutil.copytree(work / "logs", finished / "logs", dirs_exist_ok=True)
    replace_directory(finished, out)
    shutil.rmtree(work)
    say(summary(users.card))
    return users


def _inputs(
    data: FitData, factors: int, tuned: dict[str, float], seed: int
) -> tuple[CollaborativeInputs, CollaborativeInputs, NDArray[np.int64]]:
    """Inputs for use, cross-fitted inputs for fitting, and each fitting user's fold."""
    histories, values = data.histories["fitting"], data.values["fitting"]
    n_folds = min(FOLDS, len(histories))
    folds = np.random.default_rng(seed).permutation(len(histories)) % n_folds

    def part(users: NDArray[np.bool_]) -> tuple[Histories, NDArray[np.float64]]:
        chosen = np.repeat(users, histories.lengths)
        return histories.take(np.flatnonzero(users)), values[chosen]

    def fitted(parts: list[tuple[Histories, NDArray[np.float64]]]) -> CollaborativeInputs:
        return CollaborativeInputs.fit(
            parts,
            len(data.catalogue),
            np.array(data.scale.values),
            factors=factors,
            seed=seed,
            **tuned,
        )

    own = fitted([part(np.ones(len(histories), bool))])
    if n_folds < 2:
        return own, own, np.zeros(len(histories), np.int64)
    return own, fitted([part(folds != k) for k in range(n_folds)]), folds.astype(np.int64)


def _new_model(
    data: FitData, vectors: NDArray[np.float32], own: CollaborativeInputs, settings: FitSettings
) -> BehaviourModel:
    size = PRESETS[settings.preset]
    config = BehaviourConfig(
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=2 * size.hidden_size,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        n_items=len(data.catalogue),
        text_dim=vectors.shape[1],
        level_values=list(data.scale.values),
        window=size.window,
        factors=size.factors,
        ease_items=len(own.head),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = BehaviourModel(config)
    model.inputs.load_state_dict(own.state_dict())
    model.text_vectors.copy_(torch.from_numpy(vectors))
    model.log_popularity.copy_(torch.from_numpy(np.log(data.catalogue.popularity)))
    return model


def _assumptions(log: InteractionLog) -> list[str]:
    """What this log cannot teach, in words."""
    said = [
        "choice: the log has no impressions, so what is met next is taken for what would be "
        "chosen when shown; `acceptance` sets how often a slate drawn by popularity is accepted, "
        "`popularity_discount` how much of popularity is exposure rather than taste",
        "leave: the log has no sessions of use, so leaving is a constant chance, "
        "`leave_after_choice` and `leave_after_skip`",
        "dwell: the log has no dwell times; none are simulated",
        "skip: an item that was shown and not chosen leaves no trace in a user's history",
        "repeats: an item is consumed once; only a user's first event with an item counts",
    ]
    if not log.has_feedback:
        said.append("feedback: the log has none, so every event counts as the same feedback, 1")
    return said


def settings_of(log: InteractionLog, settings: FitSettings) -> dict[str, Any]:
    """What a fit depends on, as settings.json says it: settings, log, versions."""
    fields = dataclasses.asdict(settings)
    del fields["out"]
    versions = {name: version(name) for name in ("audience", "torch", "transformers", "numpy")}
    return fields | {"log": log.name, "fingerprint": log.fingerprint, "versions": versions}


def _open_work(work: Path, settings: dict[str, Any]) -> None:
    """Keep what a killed fit of the same settings left; drop what another left."""
    file = work / "settings.json"
    if not (file.is_file() and file.read_text() == json.dumps(settings)):
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings))


def _speaker(verbose: bool) -> Any:
    def say(text: str) -> None:
        if verbose:
            print(text, file=sys.stderr, flush=True)

    return say
