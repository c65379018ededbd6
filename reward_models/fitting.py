"""Fitting BERT users to a log: split, item text, collaborative inputs, behaviour tower, card."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from audience.reward_models.bert_fit import BertFit, encoded_notes
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.card import card_of, summary, write_card
from audience.reward_models.card_figures import write_figures
from audience.reward_models.device import resolve_device
from audience.reward_models.errors import UserModelError
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import PRESETS, FitSettings
from audience.reward_models.judge_base import Judge
from audience.reward_models.judges import fit_judge
from audience.reward_models.log import InteractionLog
from audience.reward_models.plainer_heads import GIVEN_WAY
from audience.reward_models.quality import quality
from audience.reward_models.session_lengths import session_lengths
from audience.reward_models.simulation import simulation_quality
from audience.reward_models.studies import studies
from audience.reward_models.text_encoders import text_encoder
from audience.reward_models.user_files import is_users, replace_directory


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
        bert = BertFit(settings, order, device, work, verbose, PRESETS[settings.preset])
        encoder = text_encoder(settings.encoder, device)
        vectors = encoder.encode(data.catalogue.texts.tolist())
        notes = encoded_notes(encoder, data.signals)
        users, chosen = bert(data, vectors, measures, notes)
    else:
        users, chosen = fit_judge(settings.kind, measures), {}
    say("measuring on unseen users")
    card = card_of(
        log.name,
        settings=written | chosen,
        measured=quality(users, measures),
        assumptions=_assumptions(log, getattr(users, "learned", frozenset()))
        + [GIVEN_WAY[head] for head in chosen.get("gave_way", [])]
        + _tilted(users),
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
        if settings.studies and settings.kind == "bert":
            say("refits for cold items and text encoders, and judges")
            card |= studies(users, data, measures, vectors, bert)
    finished = work / "users"
    shutil.rmtree(finished, ignore_errors=True)
    users.save_pretrained(finished)
    write_card(finished, card)
    write_figures(finished, card)
    (finished / "settings.json").write_text(json.dumps(written, indent=2) + "\n")
    if (work / "logs").is_dir():  # curves of the fit, beside the card's figures
        shutil.copytree(work / "logs", finished / "logs", dirs_exist_ok=True)
    replace_directory(finished, out)
    shutil.rmtree(work)
    say(summary(card))
    if isinstance(users, BertUserModel):
        users.card = card
    return users


def _order(log: InteractionLog, settings: FitSettings) -> str:
    if settings.order != "auto":
        return settings.order
    return "time" if log.has_time else "random"


def _assumptions(log: InteractionLog, learned: frozenset[str]) -> list[str]:
    """What is assumed, in place of what this log does not teach or these users do not learn."""

    def why(there: bool, what: str) -> str:
        return f"these users learn nothing from {what}" if there else f"the log has no {what}"

    said = []
    if "acceptance" in learned:
        said.append(
            "choice: what is met next is taken for what would be chosen when shown, as far as the "
            "impressions bear out; how much popularity counts beside and when nothing is chosen is "
            "learned from these, too, but not the effect of position"
        )
    elif "outside" not in learned:
        said.append(
            f"choice: {why(log.has_impressions, 'impressions')}, so what is met next is taken for "
            "what would be chosen when shown; `acceptance` sets how often a slate drawn by "
            "popularity is accepted, `popularity_discount` how much of popularity is exposure "
            "rather than taste"
        )
    elif "position" not in learned:
        said.append("position: all slates of the log hold one item, so places are all alike")
    rates = {"leave_after_choice", "leave_after_skip"} & learned
    if rates:
        said.append("leave: all users leave alike, as often as those of the log on average")
    elif "leave" not in learned:
        said.append(
            f"leave: {why(log.has_sessions, 'sessions of use')}, so leaving is a constant chance, "
            "`leave_after_choice` and `leave_after_skip`"
        )
    if len(rates) == 1 or ("leave" in learned and "outside" not in learned):
        said.append("leave: the log has no skips, so one is followed by a leave as often as stated")
    if "dwell" not in learned:
        dwell = "dwell_seconds" in log.interactions.columns
        said.append(f"dwell: {why(dwell, 'dwell times')}; none are simulated")
    said += [
        "skip: an item that was shown and not chosen leaves no trace in a user's history",
        "repeats: an item is consumed once; only a user's first event with an item counts",
    ]
    if not log.has_feedback:
        said.append("feedback: the log has none, so every event counts as the same feedback, 1")
    return said


def _tilted(users: BertUserModel | Judge) -> list[str]:
    if not isinstance(users, BertUserModel) or not users.model.tilt.weights.any():
        return []
    return [
        "free-running: users who take what they like of the whole catalogue (`simulate`) are "
        "tilted so that their histories stay as popular, as well liked and as alike as real ones, "
        "from one event to the next and over many; predictions of real events, and answers to "
        "what is recommended, are not"
    ]


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
