"""How well the responses to slates are predicted: choice or nothing, leaving, dwell time.

Each beside a constant fitted on the fitting users, on test users' moments with at least
FIRST_EVENT events of history.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from audience.reward_models.histories import Histories
from audience.reward_models.log_slates import Slates
from audience.reward_models.metrics import (
    CALIBRATION_BINS,
    F64,
    Measures,
    UserBootstrap,
    auc,
    calibration_error,
    differences,
    figures,
)
from audience.reward_models.quality_data import FIRST_EVENT, QualityData, measured
from audience.reward_models.signals import Signals, taken

TINY = float(np.finfo(np.float32).tiny)
"""Floor of a probability in its logarithm: a surer model is not told from it."""

LEAST_DEVIATION = 0.01
"""Of the constant's log-seconds: a log that rounds all dwell times to one value is no certainty."""

I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]
Part = dict[str, Any]
T = TypeVar("T")


class SlatePredictor(Protocol):
    """What is measured; a method that is missing or returns None stands for a head not learned."""

    def predict_slates(self, histories: Histories, slates: Slates) -> tuple[F64, F64] | None:
        """P(chosen) of each item shown, (shown,), and P(nothing) of each slate, (slates,)."""
        ...

    def predict_leaves(self, histories: Histories, slates: Slates | None) -> F64 | None:
        """P(leave) after each slate given its real response; without slates, after each event."""
        ...

    def predict_dwell(self, histories: Histories) -> tuple[F64, F64] | None:
        """Mean and standard deviation of each event's log-seconds given its real feedback."""
        ...


def response_quality(model: object, data: QualityData) -> dict[str, Part | None]:
    """The parts `leave`, `slates` and `dwell` of card.json.

    Each has `model` and `constant` with figures as `quality` gives them, `difference` (model
    minus constant, paired over users), and the numbers of `users` and `moments`. A part is None
    where the log lacks the signal, the model has no such head, or no test user a moment.

    Args:
        model: A `SlatePredictor`, or what has some of its methods or none.
        data: All users, with their signals.

    Raises:
        ValueError: A prediction has a wrong shape or is no probability.
    """
    parts: dict[str, Part | None] = dict.fromkeys(("leave", "slates", "dwell"))
    if data.signals is None or not len(data.test):
        return parts
    test, fitting = data.signals["test"], data.signals["fitting"]
    head = cast(SlatePredictor, model)
    if test.slates is not None and hasattr(model, "predict_slates"):
        parts["slates"] = _slates(head, data, test.slates, _known(fitting.slates))
    ends = test.ends if test.slates is None else test.slates.ends
    if ends is not None and hasattr(model, "predict_leaves"):
        parts["leave"] = _leave(head, data, test, fitting)
    if test.dwell is not None and hasattr(model, "predict_dwell"):
        parts["dwell"] = _dwell(head, data, test.dwell, _known(fitting.dwell))
    return parts


def _slates(model: SlatePredictor, data: QualityData, test: Slates, fitting: Slates) -> Part | None:
    shown = taken(test, _late(test))
    said = model.predict_slates(data.test, shown) if len(shown) else None
    if said is None:
        return None
    items, nothing = (np.asarray(one, np.float64) for one in said)
    _check("predict_slates' P(chosen)", items, len(shown.items))
    _check("predict_slates' P(nothing)", nothing, len(shown))
    row = shown.row
    off = np.abs(np.bincount(row, items, len(shown)) + nothing - 1)
    if off.max() > 1e-3:
        raise ValueError(
            f"predict_slates must return probabilities that add up to 1 in every slate, P(nothing) "
            f"among them, got slate {off.argmax()} off by {off.max():.3g}"
        )
    chose = shown.chosen >= 0
    place = np.minimum(shown.offsets[:-1] + np.maximum(shown.chosen, 0), len(items) - 1)
    accepted = _by_size(fitting)
    sizes = np.minimum(shown.sizes, len(accepted) - 1)
    predictors = {
        "model": (np.where(chose, items[place], nothing), 1 - nothing),
        "constant": (
            np.where(chose, accepted[sizes] / shown.sizes, 1 - accepted[sizes]),
            accepted[sizes],
        ),
    }
    users, user = np.unique(shown.user, return_inverse=True)
    bootstrap = UserBootstrap(len(users), data.seed)
    found = {
        name: _surprise(own, user, bootstrap) | _separation(score, chose, user, bootstrap)
        for name, (own, score) in predictors.items()
    }
    return _part(found, {"nll": True, "auc": False}, len(users), len(shown))


def _leave(
    model: SlatePredictor, data: QualityData, test: Signals, fitting: Signals
) -> Part | None:
    if test.slates is not None:
        shown = taken(test.slates, _late(test.slates))
        known = _learned_from(_known(fitting.slates))
        left, user, chose = _known(shown.ends), shown.user, shown.chosen >= 0
        earlier_left, earlier_chose = _known(known.ends), known.chosen >= 0
        said = model.predict_leaves(data.test, shown) if len(left) else None
    else:
        at, before = measured(data.test), measured(data.fitting)
        left = _known(test.ends)[at]
        user = np.repeat(np.arange(len(data.test)), data.test.lengths)[at]
        earlier_left = _known(fitting.ends)[before if before.any() else np.s_[:]]
        chose, earlier_chose = np.ones(len(left), bool), np.ones(len(earlier_left), bool)
        said = model.predict_leaves(data.test, None) if len(left) else None
        if said is not None:
            _check("predict_leaves", np.asarray(said), len(data.test.items))
            said = said[at]
    if said is None:
        return None
    said = np.asarray(said, np.float64)
    _check("predict_leaves", said, len(left))
    rates = {
        "after_choice": share(earlier_left[earlier_chose]),
        "after_skip": share(earlier_left[~earlier_chose]),
    }
    constant = np.where(chose, rates["after_choice"], rates["after_skip"])
    users, user = np.unique(user, return_inverse=True)
    bootstrap = UserBootstrap(len(users), data.seed)
    found = {
        name: _surprise(np.where(left, p, 1 - p), user, bootstrap)
        | _separation(p, left, user, bootstrap)
        | {"ece": (_calibration(p, left), None)}  # no interval, as in feedback
        for name, p in (("model", said), ("constant", constant))
    }
    part = _part(found, {"nll": True, "auc": False}, len(users), len(left))
    if test.slates is None:
        del rates["after_skip"]
    part["constant"]["settings"] = rates
    return part


def _dwell(model: SlatePredictor, data: QualityData, test: F64, fitting: F64) -> Part | None:
    at = measured(data.test) & np.isfinite(test)
    earlier = measured(data.fitting) & np.isfinite(fitting)
    known = np.log(fitting[earlier if earlier.any() else np.isfinite(fitting)])
    said = model.predict_dwell(data.test) if at.any() and len(known) else None
    if said is None:
        return None
    mean, deviation = (np.asarray(one, np.float64) for one in said)
    for name, one in (("mean", mean), ("standard deviation", deviation)):
        if one.shape != test.shape or not np.isfinite(one).all():
            raise ValueError(
                f"predict_dwell must return a finite {name} for each of the {len(test)} events, "
                f"got shape {one.shape} with {int((~np.isfinite(one)).sum())} non-finite"
            )
    if deviation.min() <= 0:
        raise ValueError(
            f"predict_dwell must return standard deviations above 0, got {deviation.min():.3g}"
        )
    settings = {"mean": float(known.mean()), "std": max(float(known.std()), LEAST_DEVIATION)}
    truth = np.log(test[at])
    predictors = {
        "model": (mean[at], deviation[at]),
        "constant": (np.full(len(truth), settings["mean"]), np.full(len(truth), settings["std"])),
    }
    users, user = np.unique(
        np.repeat(np.arange(len(data.test)), data.test.lengths)[at], return_inverse=True
    )
    bootstrap = UserBootstrap(len(users), data.seed)
    found: dict[str, Measures] = {}
    for name, (centre, spread) in predictors.items():
        error = truth - centre
        surprise = np.log(spread) + np.log(2 * np.pi) / 2 + np.square(error / spread) / 2
        square = _mean(np.square(error), user, bootstrap)
        found[name] = {
            "nll": _mean(surprise, user, bootstrap),
            "rmse": (float(np.sqrt(square[0])), np.sqrt(square[1])),
        }
    part = _part(found, {"nll": True, "rmse": True}, len(users), len(truth))
    part["constant"]["settings"] = settings
    return part


def _late(slates: Slates) -> I64:
    """The slates with enough history before to be measured."""
    return np.flatnonzero(slates.earlier >= FIRST_EVENT)


def _learned_from(slates: Slates) -> Slates:
    """What the constants are fitted on: such slates, or all where there is none."""
    return taken(slates, rows) if len(rows := _late(slates)) else slates


def share(happened: Flags) -> float:
    """How often something happened, half an event of each kind added: never 0 or 1.

    Krichevsky and Trofimov, "The performance of universal encoding", 1981.
    """
    return float((happened.sum() + 0.5) / (len(happened) + 1))


def _by_size(slates: Slates) -> F64:
    """Acceptance of slates of each size, an unseen size that of all, shape (largest + 2,)."""
    late = _learned_from(slates)
    chose, sizes = late.chosen >= 0, late.sizes
    width = int(sizes.max(initial=0)) + 2  # the last stands for all larger ones, never seen
    seen, accepted = np.bincount(sizes, None, width), np.bincount(sizes, chose, width)
    # One pseudo-slate of the mean acceptance.
    return np.asarray((accepted + share(chose)) / (seen + 1))


def _mean(values: F64, user: I64, bootstrap: UserBootstrap) -> tuple[float, F64]:
    sums, counts = (np.bincount(user, of, bootstrap.users) for of in (values, np.ones(len(user))))
    return float(sums.sum() / counts.sum()), bootstrap.ratio(sums, counts)


def _surprise(own: F64, user: I64, bootstrap: UserBootstrap) -> Measures:
    """NLL of what happened, given its probability."""
    return {"nll": _mean(-np.log(np.maximum(own, TINY)), user, bootstrap)}


def _separation(scores: F64, happened: Flags, user: I64, bootstrap: UserBootstrap) -> Measures:
    return {"auc": (auc(scores, happened), bootstrap.auc(scores, happened, user))}


def _calibration(scores: F64, happened: Flags) -> float:
    """ECE, with a bin for each value of a predictor that has few: bins would cut through ties."""
    values, at = np.unique(scores, return_inverse=True)
    if len(values) > CALIBRATION_BINS:
        return calibration_error(scores, happened)
    return float(np.abs(np.bincount(at, scores - happened)).sum() / len(scores))


def _part(found: dict[str, Measures], lower: dict[str, bool], users: int, moments: int) -> Part:
    result: Part = {name: figures(of) for name, of in found.items()}
    result["difference"] = differences(found, lower)
    return result | {"users": users, "moments": moments}


def _check(what: str, array: NDArray[Any], length: int) -> None:
    if array.shape != (length,) or not np.isfinite(array).all():
        raise ValueError(
            f"{what} must be {length} finite numbers, got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} non-finite"
        )
    if length and (array.min() < -1e-6 or array.max() > 1 + 1e-6):
        raise ValueError(
            f"{what} must be probabilities, got {array.min():.3g} to {array.max():.3g}; apply a "
            f"sigmoid or softmax"
        )


def _known(signal: T | None) -> T:
    """A signal that another part of the same log has, so that this one has it too."""
    assert signal is not None
    return signal
