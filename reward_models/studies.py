"""What the card's full preset adds by further fits: cold items, text encoders, judges."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audience.reward_models.bert_fit import BertFit
from audience.reward_models.cold_items import cold_items_quality
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import Size
from audience.reward_models.judge_competence import competence
from audience.reward_models.judges import JUDGES, fit_judge
from audience.reward_models.metrics import UserBootstrap, figures
from audience.reward_models.quality_data import (
    EventPredictor,
    QualityData,
    measurable,
    measured,
)
from audience.reward_models.quality_feedback import feedback_measures
from audience.reward_models.text_encoders import text_encoder

REFIT = Size(epochs=1, tilt_passes=0)
"""Of the refits: with one epoch of the tower their feedback is within 0.2 % of the whole fit's, and
nothing runs freely."""

ENCODERS = ("bert+tfidf", "bert", "tfidf", "none")


def studies(
    users: EventPredictor,
    data: FitData,
    measures: QualityData,
    vectors: NDArray[np.float32],
    fit: BertFit,
) -> dict[str, Any]:
    """The card's parts `cold_items`, `ablation` and `judges`; None where nothing is measured.

    Args:
        users: The fitted users, whom judges are compared with.
        data: The log.
        measures: The same for measures.
        vectors: Of the items' texts, shape (items, dim).
        fit: How the users were fitted; refits differ by REFIT alone.
    """
    seed = measures.seed
    refits = 0

    def refit(part: FitData, of_items: NDArray[np.float32]) -> EventPredictor:
        nonlocal refits
        refits += 1
        work = fit.work / f"refit-{refits}"  # each resumes from its own checkpoints
        again = dataclasses.replace(fit, size=REFIT, work=work, verbose=False)
        return again(part, of_items)[0]

    return {
        "cold_items": cold_items_quality(data, vectors, refit, seed),
        "ablation": {"text encoder": _encoders(data, measures, refit, fit.device)},
        "judges": {
            kind: competence(fit_judge(kind, measures), users, measures)  # type: ignore[arg-type]
            for kind in JUDGES
        },
    }


def _encoders(
    data: FitData, measures: QualityData, refit: Any, device: torch.device
) -> dict[str, dict[str, Any]] | None:
    """Feedback of refits with each encoder of the items' texts."""
    test, values = measurable(measures.test, measures.test_values)
    if not len(test) or len(measures.scale) < 2:
        return None
    at, levels = measured(test), np.array(measures.scale.values)
    user = np.repeat(np.arange(len(test)), test.lengths)[at]
    bootstrap = UserBootstrap(len(test), measures.seed)
    found = {}
    for name in ENCODERS:
        vectors = text_encoder(name, device).encode(data.catalogue.texts.tolist())
        shares = refit(data, vectors).predict_events(test).shares[at].astype(np.float64)
        of_events = values[at], test.levels[at], user, measures, bootstrap
        found[name] = figures(feedback_measures(shares @ levels, shares, *of_events))
    return found
