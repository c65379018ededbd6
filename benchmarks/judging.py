"""Judges of a comparison: fitted once a seed, measured on real users, and whose kin they are."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audience.benchmarks.files import read_json, write_json
from audience.benchmarks.roster import Entry
from audience.reward_models.errors import UserModelError
from audience.reward_models.histories import Histories
from audience.reward_models.judge_base import Judge
from audience.reward_models.judge_competence import (
    DECIDING,
    NAMES,
    TOLERANCE,
    competence,
    pooled,
)
from audience.reward_models.judges import JUDGES, fit_judge, load_judge
from audience.reward_models.quality_choice import choice_filters
from audience.reward_models.quality_data import EventPredictions, EventPredictor, QualityData

RIVALS = ("item_knn", "ease")
"""Filters that judges are compared with, beside the model inside the simulator: the strongest of
those that agents rank by."""

NOTE = "judge.json"
"""File beside a judge's own that says what it depends on."""


def judge_in(directory: Path, record: dict[str, Any]) -> Judge | None:
    """The judge of a directory, None where it holds none of this record."""
    if read_json(directory / NOTE) != json.loads(json.dumps(record)):
        return None
    try:
        return load_judge(directory)
    except UserModelError:
        return None


def fitted(directory: Path, kind: str, data: QualityData, record: dict[str, Any]) -> Judge:
    """Fit a judge into a directory, whole or not at all.

    Args:
        directory: Where it is kept.
        kind: One of `JUDGES`.
        data: Users to fit on.
        record: What it depends on.
    """
    shutil.rmtree(directory, ignore_errors=True)
    judge = fit_judge(kind, data, directory)  # type: ignore[arg-type]
    write_json(directory / NOTE, record)
    return judge


def qualities(partner: Judge, simulator: Any, data: QualityData) -> dict[str, Any]:
    """Whether a partner knows real validation users about as well as the simulator.

    Of few users intervals are wide, so the figures themselves decide: none of the feedback's RMSE
    and NLL and the choice's NLL may be more than TOLERANCE worse.

    Args:
        partner: Who is to be learned in beside the simulator.
        simulator: Of the same users.
        data: These; nothing is looked at of the test users.

    Returns:
        `learned_in`, `sentence`, and by measure how much worse the partner is, relatively.
    """
    validation = dataclasses.replace(data, test=data.validation, test_values=data.validation_values)
    found = competence(partner, simulator, validation)
    worse = {
        NAMES[part, name]: one["worse"]
        for part in DECIDING
        for name, one in (found[part] or {}).items()
        if not one["vetoes"]
    }
    said = ", ".join(f"{name} {100 * by:+.1f} %" for name, by in worse.items() if by is not None)
    within = bool(worse) and all(by is not None and by <= TOLERANCE for by in worse.values())
    sentence = f"beside the simulator on validation users: {said or 'nothing to compare'}"
    return {"learned_in": within, "sentence": sentence, "worse": worse}


def competences(
    judges: Mapping[str, Judge], simulator: Any, data: QualityData
) -> dict[str, dict[str, Any]]:
    """By judge and rival, what `competence` says, on real test users.

    Args:
        judges: By class, fitted on the other half.
        simulator: What RL agents were trained in; it is a rival where it predicts events.
        data: Of the simulator's half: the filters are fitted on its users, as agents were.
    """
    rivals: dict[str, Any] = {}
    if hasattr(simulator, "predict_events"):
        rivals["simulator"] = _Once(simulator)
    filters = choice_filters(data)
    rivals |= {name: filters[name] for name in RIVALS}
    found: dict[str, dict[str, Any]] = {}
    for kind, judge in judges.items():
        own = _Once(judge)
        found[kind] = {name: competence(own, rival, data) for name, rival in rivals.items()}
    return found


def kin_of(
    kind: str, roster: Mapping[str, Entry], inputs: Sequence[str], partners: Sequence[str] = ()
) -> list[str]:
    """The agents that a judge's class may favour.

    Args:
        kind: Of the judge.
        roster: The agents compared.
        inputs: What the simulator takes in, by the names that judges call their kin by; it is
            inside every agent that learned or plans in the simulator.
        partners: Classes of the other users that agents learned in.
    """
    own = {kind, *JUDGES[kind].kin}

    def inside(entry: Entry) -> set[str]:
        learned = partners if entry.kind == "rl" and not entry.alone else ()
        return {*entry.scorers, *(inputs if entry.simulates else ()), *learned}

    return [name for name, entry in roster.items() if own & inside(entry)]


def summary(
    by_seed: Sequence[Mapping[str, Mapping[str, Any]]], kin: Mapping[str, list[str]]
) -> dict[str, Any]:
    """The part `judges` of results.json.

    Args:
        by_seed: Of each seed, what `competences` says.
        kin: By judge, what `kin_of` says.

    Returns:
        `<class>.{competent|competence|kin[]}`: whether the judge is competent beside every
        rival; by rival, its competence pooled over seeds; names of agents.
    """
    judges: dict[str, Any] = {}
    for kind in by_seed[0]:
        beside = {
            rival: pooled([dict(seed[kind][rival]) for seed in by_seed])
            for rival in by_seed[0][kind]
        }
        judges[kind] = {
            "competent": all(one["competent"] for one in beside.values()),
            "competence": beside,
            "kin": kin[kind],
        }
    return judges


class _Once:
    """Remembers what it said of the last histories: several rivals are asked about the same."""

    def __init__(self, predictor: EventPredictor) -> None:
        self._predictor = predictor
        self._last: tuple[Histories, EventPredictions] | None = None

    def predict_events(self, histories: Histories) -> EventPredictions:
        if self._last is not None:
            before, said = self._last
            same = np.array_equal(before.offsets, histories.offsets)
            if same and np.array_equal(before.items, histories.items):
                return said
        said = self._predictor.predict_events(histories)
        self._last = histories, said
        return said

    def rank_items(self, contexts: Histories) -> Any:
        return self._predictor.rank_items(contexts)
