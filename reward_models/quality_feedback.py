"""How well feedback is predicted, beside collaborative filters on the same events."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.feedback_baselines import (
    Error,
    PointPredictor,
    fit_als,
    fit_item_knn,
    fit_user_item_mean,
)
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import (
    F64,
    Measures,
    UserBootstrap,
    auc,
    auc_by_user,
    calibration_error,
    differences,
    figures,
    reliability,
)
from audience.reward_models.ordinal import OrdinalRegression
from audience.reward_models.quality_data import QualityData, measured, tuning_users

LOWER_IS_BETTER = {"rmse": True, "nll": True, "auc": False, "gauc": False}
"""The measures of feedback that are compared with the best baseline."""


def feedback_quality(
    model: F64,
    data: QualityData,
    test: Histories,
    values: F64,
    bootstrap: UserBootstrap,
    at: NDArray[np.bool_] | None = None,
    owner: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """The part `feedback` of card.json; differences are model minus best baseline.

    `curves` holds what figures show of the model and of the baseline of the best NLL.

    Args:
        model: Probability of each level before each event, shape (events, levels).
        data: Users to fit and tune the baselines on.
        test: Events of the users measured, oldest first.
        values: Their feedback in the log's unit, shape (events,).
        bootstrap: Over the users measured.
        at: Which events are measured, shape (events,); by default those of `measured`.
        owner: User of each history, shape (histories,), where one user has several; by default
            each history is a user of its own.
    """
    at = measured(test) if at is None else at
    owner = np.arange(len(test)) if owner is None else owner
    levels, truth = test.levels[at], values[at]
    user = np.repeat(owner, test.lengths)[at]
    of_levels = np.array(data.scale.values)

    def measures(point: F64, chance: F64) -> Measures:
        return feedback_measures(point, chance, truth, levels, user, data, bootstrap)

    chances = {"model": model[at]}
    found = {"model": measures(model[at] @ of_levels, model[at])}
    tuning, known = tuning_users(data)
    tuned = measured(tuning)
    settings = {}
    for name, baseline in _baselines(data, tuning, known).items():
        settings[name] = baseline.settings
        ordinal = OrdinalRegression.fit(
            baseline.predict(tuning, known)[tuned], tuning.levels[tuned], len(data.scale)
        )
        point = baseline.predict(test, values)[at]
        chances[name] = ordinal.probabilities(point)
        found[name] = measures(point, chances[name])
    result: dict[str, Any] = {name: figures(of) for name, of in found.items()}
    for name, chosen in settings.items():
        result[name]["settings"] = chosen
    result.setdefault("item_knn", None)
    result["difference"] = differences(found, LOWER_IS_BETTER)
    best = result["difference"]["nll"]["against"]
    result["curves"] = _curves({name: chances[name] for name in ("model", best)}, levels, data)
    return result


def _curves(
    chances: dict[str, F64], levels: NDArray[np.int64], data: QualityData
) -> dict[str, Any]:
    """What figures are drawn from: of "like", the reliability; of levels, the histogram.

    Args:
        chances: By predictor, the probability of each level, shape (events, levels).
        levels: The real ones, shape (events,).
        data: Its scale says what a like is.

    Returns:
        `reliability`, by predictor the `predicted` and `observed` share of likes and the
        `count` of events of each bin of `metrics.reliability`; and `levels`, the `value` of
        each, its `real` share of the events and its mean `predicted` probability by the model.
    """
    likes = data.scale.likes
    bins = {}
    for name, chance in chances.items():
        parts = reliability(chance[:, likes].sum(1), likes[levels])
        keys = ("predicted", "observed", "count")
        bins[name] = {key: part.tolist() for key, part in zip(keys, parts, strict=True)}
    real = np.bincount(levels, minlength=len(data.scale)) / len(levels)
    shares = {"real": real.tolist(), "predicted": chances["model"].mean(0).tolist()}
    return {"reliability": bins, "levels": {"value": list(data.scale.values), **shares}}


def tune_als(data: QualityData, factors: int) -> float:
    """Ridge penalty of the explicit ALS with this many factors, chosen on validation users."""
    known = tuning_users(data)
    als = fit_als(*_split(data, *known), seed=data.seed, factors=(factors,))
    return als.settings["penalty"]


def _split(
    data: QualityData, tuning: Histories, known: F64
) -> tuple[Histories, F64, int, Histories, F64, Error]:
    """What baselines are fitted and tuned on; the error is that of the measured events."""
    at = measured(tuning)

    def error(predicted: F64) -> float:
        return float(np.square(predicted - known)[at].sum())

    return data.fitting, data.fitting_values, len(data.catalogue), tuning, known, error


def _baselines(data: QualityData, tuning: Histories, known: F64) -> dict[str, PointPredictor]:
    """Fitted on the fitting users; settings by RMSE on the tuning users' measured events."""
    split = _split(data, tuning, known)
    mean, biases = fit_user_item_mean(*split)
    fitted = {"user_item_mean": mean, "als": fit_als(*split, seed=data.seed)}
    knn = fit_item_knn(*split, biases=biases)
    return fitted if knn is None else fitted | {"item_knn": knn}


def feedback_measures(
    expected: F64,
    probabilities: F64,
    truth: F64,
    levels: NDArray[np.int64],
    user: NDArray[np.int64],
    data: QualityData,
    bootstrap: UserBootstrap,
) -> Measures:
    """RMSE, NLL, AUC and GAUC of a like, and its ECE, of one predictor.

    Args:
        expected: Predicted feedback in the log's unit, shape (events,).
        probabilities: Of each level, shape (events, levels).
        truth: Real feedback in the log's unit, shape (events,).
        levels: Its level, shape (events,).
        user: Index of the user, shape (events,).
        data: Its scale says what a like is.
        bootstrap: Over the users measured.
    """
    likes = data.scale.likes
    liked, like = likes[levels], probabilities[:, likes].sum(1)
    users = bootstrap.users
    events = np.bincount(user, minlength=users).astype(np.float64)
    squares = np.bincount(user, np.square(expected - truth), users)
    # The floor is float32's smallest normal probability: a surer model is not told from it.
    own = np.maximum(probabilities[np.arange(len(levels)), levels], np.finfo(np.float32).tiny)
    logs = np.bincount(user, -np.log(own), users)
    within = auc_by_user(like, liked, user, users)
    weight = np.where(np.isfinite(within), events, 0.0)  # users of both classes, by events
    weighted = np.where(weight > 0, within, 0.0) * weight
    return {
        "rmse": (
            float(np.sqrt(squares.sum() / events.sum())),
            np.sqrt(bootstrap.ratio(squares, events)),
        ),
        "nll": (float(logs.sum() / events.sum()), bootstrap.ratio(logs, events)),
        "auc": (auc(like, liked), bootstrap.auc(like, liked, user)),
        "gauc": (
            float(weighted.sum() / weight.sum()) if weight.any() else float("nan"),
            bootstrap.ratio(weighted, weight),
        ),
        # No interval: resampled events are further from their bins' means than real ones, so
        # a percentile bootstrap of ECE lies above the figure.
        "ece": (calibration_error(like, liked), None),
    }
