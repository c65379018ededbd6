"""Measures of recommendations, each worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from audience.agents.measures import (
    calibration,
    coverage,
    diversity,
    gini,
    novelty,
    return_from,
)

AXES = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
"""Four items that point east, north, west and south: their mean is 0."""


def test_coverage_and_gini() -> None:
    assert coverage(np.array([3, 0, 1, 0])) == 0.5
    assert gini(np.array([3, 3, 3])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    assert gini(np.zeros(3, np.int64)) == 0


def test_novelty_is_the_mean_surprise() -> None:
    popularity = np.array([0.5, 0.25, 0.125, 0.125])
    # 1, 2 and 3 bits, and places that were not used.
    assert novelty(np.array([[0, 1], [2, -1]]), popularity) == pytest.approx(2.0)


def test_diversity_is_within_sessions() -> None:
    # East and north: 1. East and west: 2. A single recommendation has no pair.
    assert diversity(np.array([[0, 1], [0, 2], [3, -1]]), AXES) == pytest.approx(1.5)
    # East, north, west: pairs of 1, 1 and 2.
    assert diversity(np.array([[0, 1, 2]]), AXES) == pytest.approx(4 / 3)
    assert diversity(np.array([[0, 0]]), AXES) == pytest.approx(0)
    assert np.isnan(diversity(np.array([[0, -1]]), AXES))


def test_calibration_compares_what_all_is_about() -> None:
    profile = np.array([[0, 1], [0, -1], [0, 2]])
    shown = np.array([[1, 0], [2, -1], [0, 1]])
    # The same mix: 1. The opposite: -1. A profile of both, which says nothing, is left out.
    assert calibration(shown, profile, AXES) == pytest.approx(0.0)
    assert calibration(shown[:1], profile[:1], AXES) == pytest.approx(1.0)
    # Half of what the user is about: the cosine of 45 degrees.
    assert calibration(np.array([[0, 1]]), np.array([[0, -1]]), AXES) == pytest.approx(0.5**0.5)
    # What all items have in common is no likeness.
    assert calibration(shown[:1], profile[:1], AXES + 9) == pytest.approx(1.0)
    assert calibration(shown[1:2], profile[1:2], AXES + 9) == pytest.approx(-1.0)


def test_return_from_some_items() -> None:
    rare = np.array([True, False, False, True])
    chosen = np.array([[0, 1, 3], [-1, 3, -1]])
    levels = np.array([[2, 2, 1], [-1, 0, -1]])
    worth = np.array([0.0, 0.5, 1.0])
    assert return_from(rare, chosen, levels, worth).tolist() == [1.5, 0.0]
    assert return_from(~rare, chosen, levels, worth).tolist() == [1.0, 0.0]
