"""Witnesses: user models of the same log, each fitted to another sample of its users."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from audience.reward_models.bert_fit import BertFit
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.device import resolve_device
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import PRESETS, FitSettings
from audience.reward_models.text_encoders import text_encoder
from audience.reward_models.user_files import replace_directory

SHARE = 1 - 1 / np.e
"""Of the users that a witness is fitted to: as many different ones as a bootstrap sample holds."""


def fit_witness(data: FitData, settings: FitSettings, order: str, number: int) -> BertUserModel:
    """Fit a witness and write it to `settings.out`, unmeasured.

    It knows neither user features nor what users wrote, so that it can be asked of anyone.

    Args:
        data: What the users were fitted to.
        settings: Of the users' fit, but for `out`.
        order: As the users' card says: "time" or "random".
        number: Of the witness, from 0: it decides its sample, its first weights and its orders.
    """
    out, device = Path(settings.out), resolve_device(settings.device)
    work = out.with_name(out.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    own = data.sampled(SHARE, np.random.default_rng([settings.seed, 3, number]))
    encoder = text_encoder(settings.encoder, device)
    vectors = encoder.encode(data.catalogue.texts.tolist())
    drawn = dataclasses.replace(
        settings, seed=1_000_003 * (number + 1) + settings.seed, features="no"
    )
    size = dataclasses.replace(PRESETS[settings.preset], tilt_passes=0)  # nobody runs freely
    users, _ = BertFit(drawn, order, device, work, False, size)(own, vectors)
    known = {key: value for key, value in dataclasses.asdict(settings).items() if key != "out"}
    users.card = {"witness": number, "share": SHARE, "settings": known | {"order": order}}
    users.save_pretrained(work / "users")
    (work / "users" / "card.json").write_text(json.dumps(users.card, indent=2) + "\n")
    replace_directory(work / "users", out)
    shutil.rmtree(work)
    return users
