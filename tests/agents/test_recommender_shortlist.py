"""The best of a large catalogue without scoring all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audience.agents import shortlist as module
from audience.agents import trained as trained_module
from audience.agents.recommender import Recommender
from audience.agents.shortlist import Shortlist
from audience.agents.training import train
from audience.agents.training_settings import TrainSettings


def clustered(items: int, kinds: int, seed: int = 0) -> torch.Tensor:
    """Items around a few points of a sphere."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(kinds, 8))
    vectors = centres[rng.integers(0, kinds, items)] + 0.1 * rng.normal(size=(items, 8))
    return torch.from_numpy(vectors.astype(np.float32))


def test_it_finds_the_best_of_what_is_clustered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLUSTERS", 40)
    monkeypatch.setattr(module, "PROBES", 6)
    vectors, bias = clustered(4000, 20), torch.rand(4000)
    found = Shortlist(vectors, bias)
    queries = vectors[:50] + 0.1
    items, scores = found.best(queries, 10)
    exact = queries @ vectors.T + bias
    best = exact.topk(10)
    shared = [len(set(a) & set(b)) for a, b in zip(items, best.indices.tolist(), strict=True)]
    assert np.mean(shared) > 9
    np.testing.assert_allclose(scores, exact.gather(1, torch.from_numpy(items)), rtol=1e-4)
    assert (np.diff(scores, axis=1) <= 0).all()
    again = Shortlist(vectors, bias).best(queries, 10)
    np.testing.assert_array_equal(again[0], items)


def test_with_all_clusters_it_is_exact_and_more_are_taken_where_few_hold_too_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CLUSTERS", 30)
    monkeypatch.setattr(module, "PROBES", 1)
    vectors = clustered(2000, 30)
    found = Shortlist(vectors)
    items, scores = found.best(vectors[:3], 2000)
    assert sorted(items[0].tolist()) == list(range(2000))
    np.testing.assert_allclose(scores[0, 0], (vectors[:1] @ vectors.T).max(), rtol=1e-5)
    monkeypatch.setattr(module, "PROBES", 30)
    exact = (vectors[:3] @ vectors.T).topk(25).indices
    np.testing.assert_array_equal(found.best(vectors[:3], 25)[0], exact)
    assert found.best(vectors[:0], 5)[0].shape == (0, 0)


def test_a_recommender_says_the_same_by_a_shortlist(
    tiny_users: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(
        users="none", out=str(tmp_path), steps=64, num_envs=8, evaluations=0, device="cpu"
    )
    directory = train(tiny_users, settings, progress=False)
    asked: list[Any] = [["i3", ("i4", 1.0), "unknown"], [], [f"i{i}" for i in range(29)]]
    exclude = [["i9"], ["i1", "i2"], []]
    exact = Recommender.load(directory, "cpu").recommend_batch(asked, 5, exclude)
    monkeypatch.setattr(trained_module, "FROM", 10)
    listed = Recommender.load(directory, "cpu")
    assert listed.scorer.best is not None  # type: ignore[attr-defined]
    for one, other in zip(exact, listed.recommend_batch(asked, 5, exclude), strict=True):
        assert one.item_ids == other.item_ids and one.unknown == other.unknown
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-4, atol=1e-5)
    among = listed.recommend(asked[0], 5, candidates=["i7", "i8"])  # scored in full
    assert set(among.item_ids) == {"i7", "i8"}
