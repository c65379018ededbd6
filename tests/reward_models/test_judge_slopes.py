"""Slopes of the choice: planted ones are found, and the answer is where nothing improves."""

from dataclasses import fields

import numpy as np
import pytest

from audience.reward_models.judge_slopes import RIDGE, Sample, _derivatives, fitted_slopes


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.array([[0.5, -1.0, 1.5], [0.5, 1.0, 0.0]])


@pytest.fixture(scope="module")
def sample(truth: np.ndarray) -> Sample:
    """Choices by 20,000 draws of Luce's rule among twelve items, of which some are gone."""
    rng = np.random.default_rng(0)
    events, items = 20_000, 12
    x = rng.normal(size=(events, 3, items)).astype(np.float16)
    length = rng.uniform(0, 2, events)
    met = rng.random((events, items)) < 0.2
    met[:, 0] = False
    slopes = truth[0] + length[:, None] * truth[1]
    logits = np.einsum("ec,eci->ei", slopes, x.astype(np.float64))
    logits[met] = -np.inf
    state = np.column_stack([np.ones(events), length])
    return Sample(x, met, state, (logits + rng.gumbel(size=logits.shape)).argmax(1))


def test_planted_slopes_are_found(sample: Sample, truth: np.ndarray) -> None:
    parts = [Sample(*(getattr(sample, f.name)[i::3] for f in fields(Sample))) for i in range(3)]
    found = fitted_slopes(parts, np.zeros((2, 3)))
    np.testing.assert_allclose(found, truth, atol=0.06)
    # From wherever it begins, even where a whole step would overshoot.
    again = fitted_slopes([sample], np.array([[9.0, 9.0, -9.0], [0.0, -9.0, 9.0]]))
    np.testing.assert_allclose(again, found, atol=0.01)
    assert np.abs(_derivatives([sample], found)[1]).max() < 1e-3


def test_derivatives_are_those_of_the_loss(sample: Sample) -> None:
    few = Sample(*(getattr(sample, field.name)[:50] for field in fields(Sample)))
    at = np.random.default_rng(1).normal(size=(2, 3))
    loss, gradient, curvature = _derivatives([few], at)
    step = 1e-3 * np.eye(6).reshape(6, 2, 3)
    ahead, behind = ([_derivatives([few], at + sign * one) for one in step] for sign in (1, -1))
    slope = [(a[0] - b[0]) / 2e-3 for a, b in zip(ahead, behind, strict=True)]
    np.testing.assert_allclose(gradient, slope, atol=1e-3)
    bend = [(a[1] - b[1]) / 2e-3 for a, b in zip(ahead, behind, strict=True)]
    np.testing.assert_allclose(curvature, bend, atol=1e-3)
    assert loss > 0


def test_without_events_nothing_is_learned() -> None:
    none = Sample(
        np.zeros((0, 3, 4), np.float16),
        np.zeros((0, 4), bool),
        np.zeros((0, 2)),
        np.zeros(0, np.int64),
    )
    start = np.arange(6.0).reshape(2, 3)
    assert (fitted_slopes([none], start) == start).all()
    # One event whose regressors say nothing leaves them at what the ridge wants.
    one = Sample(
        np.ones((1, 3, 4), np.float16), np.zeros((1, 4), bool), np.ones((1, 2)), np.zeros(1, int)
    )
    np.testing.assert_allclose(fitted_slopes([one], start), 0, atol=RIDGE)
