"""Whether a judge knows real users about as well as what it judges does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from audience.reward_models.choice_baselines import ItemScorer
from audience.reward_models.histories import Histories
from audience.reward_models.metrics import F64, TOP, Measures, UserBootstrap, interval, number
from audience.reward_models.quality_choice import by_user, choice_measures, halves
from audience.reward_models.quality_data import EventPredictor, QualityData, measurable, measured
from audience.reward_models.quality_feedback import feedback_measures

TOLERANCE = 0.01
"""How much worse than its rival a competent judge may be, relative to the rival."""

MEASURES = {
    "feedback": {"rmse": True, "nll": True},
    "choice": {"nll": True, f"ndcg@{TOP}": False},
    "half": {f"ndcg@{TOP}": False},
}
"""By part, what is measured, and whether lower is better."""

DECIDING = ("feedback", "choice")
"""The parts whose measures must all hold. Half against half is only told: it asks for sets, not
for the next event, which is all that a judge draws, and its interval (3 % to each side with
movielens' 144 test users) is so wide that equals would fail by chance."""

VETO = ("choice", f"ndcg@{TOP}")
"""Where choice has an NLL too, NDCG of the next event only vetoes: a judge fails by it when the
whole interval is beyond TOLERANCE, that is, when it is shown to rank worse by more. Its interval
is 2.5 % to each side on movielens, so that of judges equal to the rival seven of eight would fail
by the other end, and at most one of forty fails by this one. NLL (.4 %) is what an equal passes by
the stricter rule. Against a filter, which has no NLL, NDCG decides by the stricter rule."""

NAMES = {
    ("feedback", "rmse"): "feedback RMSE",
    ("feedback", "nll"): "feedback NLL",
    ("choice", "nll"): "choice NLL",
    ("choice", f"ndcg@{TOP}"): f"choice NDCG@{TOP}",
}


def competence(
    judge: EventPredictor, rival: EventPredictor | ItemScorer, data: QualityData
) -> dict[str, Any]:
    """Compare a judge with what it judges on the same events of test users.

    A judge is competent where for every deciding measure the end of the paired 95 % interval
    over users that speaks against it is no more than TOLERANCE worse, relative to the rival's
    figure, and no interval of a vetoing one lies wholly beyond TOLERANCE. Choice is that of the
    next event: NLL (nats), whose interval is the narrowest, and NDCG (see VETO), both means
    over users.

    Args:
        judge: Fitted on users other than the test users.
        rival: The model inside an agent, or a collaborative filter, which has no probabilities
            and is compared on NDCG alone.
        data: Users; the test users are measured.

    Returns:
        JSON-ready: `competent`, `sentence` (the same in words, with the bounds), `tolerance`, and
        by part (`feedback`, `choice`, and `half`, half against half, which does not decide) and
        measure `judge`, `rival`, `worse` (relative, positive is worse), its `low` and `high`,
        `competent`, and whether it is `deciding`, and if so, only as a veto (`vetoes`).
        `feedback` is None on a scale of one level or against a filter; all parts are, and
        `competent` is False, where no test user has enough events.
    """
    test, values = measurable(data.test, data.test_values)
    result: dict[str, Any] = {"tolerance": TOLERANCE} | dict.fromkeys(MEASURES)
    if len(test):
        bootstrap = UserBootstrap(len(test), data.seed)
        own, other = (_measures(one, data, test, values, bootstrap) for one in (judge, rival))
        for part, measures in MEASURES.items():
            both = [name for name in measures if name in own[part] and name in other[part]]
            result[part] = {
                name: _compared(
                    own[part][name],
                    other[part][name],
                    measures[name],
                    vetoes=(part, name) == VETO and len(both) > 1,
                )
                | {"deciding": part in DECIDING}
                for name in both
            } or None
    return _decided(result)


def pooled(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One competence from those of a judge's class against the same rival in several seeds.

    Figures and bounds are means over seeds. The mean of bounds is no narrower than a bound of
    the mean: the test users are the same in all seeds, so that their chance is not averaged out.
    """
    if len(seeds) == 1:
        return seeds[0]
    result: dict[str, Any] = {"tolerance": TOLERANCE} | dict.fromkeys(MEASURES)
    for part in MEASURES:
        held = [one[part] for one in seeds]
        if all(held):
            result[part] = {name: _mean([one[name] for one in held]) for name in held[0]}
    return _decided(result)


def _mean(of_seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of a measure's figures, None where any is; what they decide is decided anew."""
    mean: dict[str, Any] = {}
    for name in ("judge", "rival", "worse", "low", "high"):
        values = [one[name] for one in of_seeds]
        mean[name] = None if None in values else float(np.mean(values))
    bound = mean["low" if of_seeds[0]["vetoes"] else "high"]
    known = bound is not None and bound <= TOLERANCE
    every = all(one["competent"] for one in of_seeds)  # also where there was nothing to beat
    kept = {name: of_seeds[0][name] for name in ("vetoes", "deciding")}
    return mean | {"competent": known or every, **kept}


def _decided(result: dict[str, Any]) -> dict[str, Any]:
    """The figures by part, and before them what follows."""
    found = [one for part in DECIDING for one in (result[part] or {}).values()]
    competent = bool(found) and all(one["competent"] for one in found)
    return {"competent": competent, "sentence": _sentence(competent, result), **result}


def _measures(
    predictor: EventPredictor | ItemScorer,
    data: QualityData,
    test: Histories,
    values: F64,
    bootstrap: UserBootstrap,
) -> dict[str, Measures]:
    """By part, without the measures that the predictor has not."""
    if isinstance(predictor, ItemScorer):
        said, rank = None, predictor.next_ranks(test)
    else:
        said = predictor.predict_events(test)
        rank = said.choice_rank.astype(np.float64)
    ranked = choice_measures(predictor, rank, test, halves(test, data.seed), bootstrap)
    ndcg = f"ndcg@{TOP}"
    found: dict[str, Measures] = {
        "feedback": {},
        "choice": {ndcg: ranked[ndcg]},
        "half": {ndcg: ranked[f"half_{ndcg}"]},
    }
    if said is None:
        return found
    found["choice"]["nll"] = by_user(said.choice_nll, test, bootstrap)
    if len(data.scale) > 1:
        at = measured(test)
        shares = said.shares[at].astype(np.float64)
        found["feedback"] = feedback_measures(
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
    own: tuple[float, F64 | None],
    other: tuple[float, F64 | None],
    lower_is_better: bool,
    vetoes: bool,
) -> dict[str, Any]:
    sign = 1 if lower_is_better else -1
    (figure, samples), (rival, rivals) = own, other
    assert samples is not None and rivals is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        worse = sign * (np.float64(figure) / rival - 1)
        low, high = interval(sign * (samples / rivals - 1))
    unbeaten = not lower_is_better and rival == 0  # nothing to be worse than
    return {
        "judge": number(figure),
        "rival": number(rival),
        "worse": number(float(worse)),
        "low": number(low),
        "high": number(high),
        "competent": bool((low if vetoes else high) <= TOLERANCE or unbeaten),
        "vetoes": vetoes,
    }


def _sentence(competent: bool, result: dict[str, Any]) -> str:
    """The verdict, with every deciding measure, or with those that speak against the judge."""
    if not any(result[part] for part in DECIDING):
        return "not competent: no test user has enough events to compare it on"
    told = [
        f"{NAMES[part, name]} {_told(one)}"
        for part in DECIDING
        for name, one in (result[part] or {}).items()
        if competent or not one["competent"]
    ]
    return (
        f"{'competent' if competent else 'not competent'}: {'; '.join(told)} "
        f"(the 95 % bound may be {100 * TOLERANCE:g} % worse; that of NDCG, where there is an NLL, "
        f"at its better end)"
    )


def _told(one: dict[str, Any]) -> str:
    if one["worse"] is None or one["high"] is None:
        return "cannot be told"
    figure, bound = (
        f"{abs(100 * value):.1f} % {'worse' if value > 0 else 'better'}"
        for value in (one["worse"], one["low" if one["vetoes"] else "high"])
    )
    return f"{figure}, bound {bound}"
