"""Fitting BERT users to a log: split, item text, collaborative inputs, behaviour tower, card."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.bert_users import (
    BertUserModel,
    replace_directory,
    resolve_device,
)
from audience.reward_models.blocks import BlockDataset, covering, overlapping
from audience.reward_models.card import card_of, summary, write_card
from audience.reward_models.configuration import BehaviourConfig
from audience.reward_models.errors import UserModelError
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import PRESETS, FitSettings
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import CollaborativeInputs
from audience.reward_models.judges import Judge, fit_judge
from audience.reward_models.log import InteractionLog
from audience.reward_models.quality import quality
from audience.reward_models.quality_choice import tune_ease
from audience.reward_models.quality_data import QualityData
from audience.reward_models.quality_feedback import tune_als
from audience.reward_models.session_lengths import session_lengths
from audience.reward_models.simulation import simulation_quality
from audience.reward_models.text_encoders import text_encoder
from audience.reward_models.tower import fit_tower
from audience.reward_models.user_files import is_users, pseudonymous
from audience.reward_models.users import POPULATIONS

SHUFFLED = {"time": 0.0, "random": 1.0}
"""Share of the blocks in fitting whose events are put in random order, by the model's order."""

FOLDS = 5
"""Parts of the fitting users for cross-fitting: each part's inputs come from the other four."""


def fit(log: InteractionLog, settings: FitSettings, verbose: bool = True) -> BertUserModel | Judge:
    """Fit users to a log and write them to `settings.out`; see `BertUserModel.fit`."""
    out = Path(settings.out)
    if out.exists() and not is_users(out) and any(out.iterdir()):
        raise UserModelError(
            f"out {out}: exists and is no user model directory; it would be overwritten. "
            f"Name another directory."
        )
    device = resolve_device(settings.device)
    data = FitData.of(log, settings.half, settings.seed, settings.everyone)
    measures = data.quality(settings.seed)
    work = out.with_name(out.name + ".partial")
    written = settings_of(log, settings)
    _open_work(work, written)
    say = _speaker(verbose)
    say(
        f"fitting users to {log.name}: {len(data.split.fitting)} users, "
        f"{len(data.histories['fitting'].items):,} events, {len(data.catalogue):,} items"
    )
    if settings.kind == "bert":
        order = _order(log, settings)
        users: BertUserModel | Judge
        users, chosen = _fit_bert(data, measures, settings, order, work, device, verbose)
    else:
        users, chosen = fit_judge(settings.kind, measures), {}
    say("measuring on unseen users")
    card = card_of(
        log.name,
        settings=written | chosen,
        measured=quality(users, measures),
        assumptions=_assumptions(log),
    )
    if settings.preset == "full" and len(measures.test):
        card["simulation"] = simulation_quality(
            users,
            measures.test,
            data.scale,
            data.catalogue,
            settings.seed,
            session_lengths(users, measures, settings.seed),
        )
    finished = work / "users"
    shutil.rmtree(finished, ignore_errors=True)
    users.save_pretrained(finished)
    write_card(finished, card)
    (finished / "settings.json").write_text(json.dumps(written, indent=2) + "\n")
    if (work / "logs").is_dir():
        shutil.copytree(work / "logs", finished / "logs", dirs_exist_ok=True)
    replace_directory(finished, out)
    shutil.rmtree(work)
    say(summary(card))
    if isinstance(users, BertUserModel):
        users.card = card
    return users


def _fit_bert(
    data: FitData,
    measures: QualityData,
    settings: FitSettings,
    order: str,
    work: Path,
    device: torch.device,
    verbose: bool,
) -> tuple[BertUserModel, dict[str, Any]]:
    """The model, and what was chosen on the way."""
    say = _speaker(verbose)
    encoder = text_encoder(settings.encoder, device)
    vectors = encoder.encode(data.catalogue.texts.tolist())
    say("collaborative inputs")
    factors = PRESETS[settings.preset].factors
    tuned = {"penalty": tune_als(measures, factors), "ease_l2": tune_ease(measures)}
    own, crossed, folds = _inputs(data, factors, tuned, settings.seed, vectors, order == "time")
    model = _new_model(data, vectors, own, settings, order)
    window, levels = model.config.window, np.array(data.scale.values)
    fitting, validating = data.histories["fitting"], data.histories["validation"]
    training = BlockDataset(
        fitting,
        covering(fitting, window),
        crossed,
        levels,
        window,
        folds,
        order=order,
        shuffled=SHUFFLED[order],
        weights=_bootstrap(len(fitting), model.config.members, settings.seed),
        signals=data.signals["fitting"],
        seed=settings.seed,
    )
    validation = BlockDataset(
        validating,
        overlapping(validating, window),
        own,
        levels,
        window,
        order=order,
        signals=data.signals["validation"],
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
    return users, tuned | {"window": window, "members": model.config.members, "order": order}


def _bootstrap(users: int, members: int, seed: int) -> NDArray[np.float32]:
    """How often each user stands in each member's sample of users, (users, members)."""
    if members == 1:
        return np.ones((users, 1), np.float32)
    rng = np.random.default_rng([seed, 1])
    drawn = rng.multinomial(users, np.full(users, 1 / users), size=members)
    return drawn.T.astype(np.float32)


def _order(log: InteractionLog, settings: FitSettings) -> str:
    if settings.order != "auto":
        return settings.order
    return "time" if log.has_time else "random"


def _inputs(
    data: FitData,
    factors: int,
    tuned: dict[str, float],
    seed: int,
    vectors: NDArray[np.float32],
    timed: bool,
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
            vectors=vectors,
            timed=timed,
            **tuned,
        )

    own = fitted([part(np.ones(len(histories), bool))])
    if n_folds < 2:
        return own, own, np.zeros(len(histories), np.int64)
    return own, fitted([part(folds != k) for k in range(n_folds)]), folds.astype(np.int64)


def _new_model(
    data: FitData,
    vectors: NDArray[np.float32],
    own: CollaborativeInputs,
    settings: FitSettings,
    order: str,
) -> BehaviourModel:
    size, signals = PRESETS[settings.preset], data.signals["fitting"]
    slates = signals.slates
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
        order=order,
        factors=own.design.shape[2] - 1,
        linear_items=len(own.head),
        members=size.members,
        places=0 if slates is None else int(slates.places.max(initial=-1)) + 1,
        leaves=signals.ends is not None or (slates is not None and slates.ends is not None),
        dwells=signals.dwell is not None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = BehaviourModel(config)
    model.inputs.load_state_dict(own.state_dict())
    model.text_vectors.copy_(torch.from_numpy(vectors))
    model.log_popularity.copy_(torch.from_numpy(np.log(data.catalogue.popularity)))
    model.known.copy_(torch.from_numpy(data.catalogue.counts > 0))
    return model


def _assumptions(log: InteractionLog) -> list[str]:
    """What is assumed in place of what this log does not teach, or is not learned yet."""

    def lacks(there: bool, what: str) -> str:
        return f"{what} of the log are not learned from yet" if there else f"the log has no {what}"

    dwell = "dwell_seconds" in log.interactions.columns
    said = [
        f"choice: {lacks(log.has_impressions, 'impressions')}, so what is met next is taken for "
        "what would be chosen when shown; `acceptance` sets how often a slate drawn by popularity "
        "is accepted, `popularity_discount` how much of popularity is exposure rather than taste",
        f"leave: {lacks(log.has_sessions, 'sessions of use')}, so leaving is a constant chance, "
        "`leave_after_choice` and `leave_after_skip`",
        f"dwell: {lacks(dwell, 'dwell times')}; none are simulated",
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
