"""Whether a judge knows real users about as well as what it judges does."""

from __future__ import annotations

from typing import Any

import numpy as np

from audience.reward_models.choice_baselines import ItemScorer
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import F64, TOP, Measures, UserBootstrap, interval, number
from audience.reward_models.quality_choice import _halves, _rankings
from audience.reward_models.quality_data import EventPredictor, QualityData, measurable, measured
from audience.reward_models.quality_feedback import _measure

TOLERANCE = 0.01
"""How much worse than its rival a competent judge may be, relative to the rival."""

MEASURES = {
    "feedback": {"rmse": True, "nll": True},
    "choice": {f"ndcg@{TOP}": False, f"half_ndcg@{TOP}": False},
}
"""By part, the measures that must hold, and whether lower is better."""


def competence(
    judge: EventPredictor, rival: EventPredictor | ItemScorer, data: QualityData
) -> dict[str, Any]:
    """Compare a judge with what it judges on the same events of test users.

    A judge is competent where for every measure the end of the paired 95 % interval over users
    that speaks against it is no more than TOLERANCE worse, relative to the rival's figure.

    Args:
        judge: Fitted on users other than the test users.
        rival: The model inside an agent, or a collaborative filter, which is compared on
            choice alone.
        data: Users; the test users are measured.

    Returns:
        `competent`, and by part and measure `judge`, `rival`, `worse` (relative, positive is
        worse), its `low` and `high`, and `competent`. `feedback` is None on a scale of one level
        or against a filter; both parts are, and `competent` is False, where no test user has
        enough events.
    """
    test, values = measurable(data.test, data.test_values)
    if not len(test):
        return {"competent": False, "feedback": None, "choice": None}
    bootstrap = UserBootstrap(len(test), data.seed)
    own, other = (_measures(one, data, test, values, bootstrap) for one in (judge, rival))
    result: dict[str, Any] = {}
    for part, measures in MEASURES.items():
        if part not in own or part not in other:
            result[part] = None
            continue
        result[part] = {
            name: _compared(own[part][name], other[part][name], lower)
            for name, lower in measures.items()
        }
    found = [one for part in result.values() if part for one in part.values()]
    return {"competent": all(one["competent"] for one in found), **result}


def _measures(
    predictor: EventPredictor | ItemScorer,
    data: QualityData,
    test: Histories,
    values: F64,
    bootstrap: UserBootstrap,
) -> dict[str, Measures]:
    halves = _halves(test, data.seed)
    if isinstance(predictor, ItemScorer):
        rank = predictor.next_ranks(test)
        return {"choice": _rankings(predictor, rank, test, halves, bootstrap)}
    said = predictor.predict_events(test)
    found = {"choice": _rankings(predictor, said.choice_rank, test, halves, bootstrap)}
    if len(data.scale) > 1:
        at = measured(test)
        shares = said.shares[at].astype(np.float64)
        found["feedback"] = _measure(
            shares @ np.array(data.scale.values),
            shares,
            values[at],
            test.levels[at],
            np.repeat(np.arange(len(test)), test.lengths)[at],
            data,
            bootstrap,
        )
    return found


def _compared(
    own: tuple[float, F64 | None], other: tuple[float, F64 | None], lower_is_better: bool
) -> dict[str, Any]:
    sign = 1 if lower_is_better else -1
    (figure, samples), (rival, rivals) = own, other
    assert samples is not None and rivals is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        # NDCG 0 of the rival leaves nothing to be worse than.
        worse = sign * (np.float64(figure) / rival - 1)
        low, high = interval(sign * (samples / rivals - 1))
    return {
        "judge": number(figure),
        "rival": number(rival),
        "worse": number(float(worse)),
        "low": number(low),
        "high": number(high),
        "competent": bool(high <= TOLERANCE),
    }
