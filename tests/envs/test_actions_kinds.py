from typing import Any

import numpy as np
import pytest

from audience.envs import RecommendEnv, RecommendVectorEnv
from audience.envs.actions import EmbeddingActions, reduced
from audience.envs.candidates import LARGE, Candidates, strata
from audience.envs.observations import ObservedHistories


def test_a_point_shows_the_open_item_of_the_largest_inner_product() -> None:
    vectors = np.eye(4, dtype=np.float32)
    actions = EmbeddingActions(vectors, 1)
    points = np.array([[0.1, 0.9, 0.5, 0.0], [0.1, 0.9, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    open_ = np.ones((3, 4), np.bool_)
    open_[1, 1] = open_[2, 0] = False
    assert actions.slates(points, lambda: open_, None).tolist() == [
        [1],
        [2],
        [1],
    ]  # ties: lowest index
    candidates = np.array([[3, 2], [0, 1], [2, 3]])
    chosen = actions.slates(points, lambda: np.ones((3, 2), np.bool_), candidates)
    assert chosen.tolist() == [[2], [1], [2]]


def test_places_of_a_slate_take_distinct_items() -> None:
    actions = EmbeddingActions(np.eye(3, dtype=np.float32), 3)
    points = np.array([[[1, 0.5, 0], [1, 0.5, 0], [0, 1, -1]]], float)
    assert actions.slates(points, lambda: np.ones((1, 3), np.bool_), None).tolist() == [[0, 1, 2]]


def test_reduction_keeps_what_varies_most_whatever_the_signs() -> None:
    generator = np.random.default_rng(0)
    wide = generator.normal(size=(50, 2)) @ np.array([[3.0, 0, 0, 0, 1], [0, 2.0, 0, 1, 0]]) + 7
    small = reduced(wide, 2)
    assert small.shape == (50, 2) and small.dtype == np.float32
    assert np.linalg.norm(small, axis=1) == pytest.approx(1, abs=1e-6)
    centred = wide - wide.mean(axis=0)
    real = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert small @ small.T == pytest.approx(real @ real.T, abs=1e-5)  # the data are of rank two
    assert reduced(-wide, 2) == pytest.approx(-small, abs=1e-5)
    assert reduced(wide, 9).shape == (50, 5)


def test_embedding_actions_in_an_environment(tiny_users: Any) -> None:
    settings = {"users": tiny_users, "actions": "embedding", "item_vectors": tiny_users.vectors}
    env = RecommendEnv(**settings, slate_size=3)
    assert env.action_space.shape == (3, 2) and env.action_space.dtype == np.float32
    _, info = env.reset(seed=0)
    assert info["action_mask"].shape == (30,)
    open_ = np.flatnonzero(info["action_mask"])
    env.step(np.tile(tiny_users.vectors[4] / 2, (3, 1)))
    nearest = open_[np.argsort(-(tiny_users.vectors @ tiny_users.vectors[4])[open_])][:3]
    assert env.core.last_step is not None
    assert env.core.last_step.slates[0].tolist() == nearest.tolist()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((2, 3)), r"shape \(2, 2\)"),
        (np.full((2, 2), np.nan), "from -1 to 1, got nan"),
        (np.full((2, 2), 1.5), "from -1 to 1, got 1.5"),
        ([["a", "b"], ["c", "d"]], r"numbers of shape \(2, 2\)"),
        ([[1.0, 2.0], [1.0]], r"numbers of shape \(2, 2\)"),
        (None, "got object"),
    ],
)
def test_illegal_embeddings(tiny_users: Any, action: Any, message: str) -> None:
    settings = {"users": tiny_users, "actions": "embedding", "item_vectors": tiny_users.vectors}
    env = RecommendVectorEnv(2, **settings)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_candidates_are_what_actions_index(tiny_users: Any) -> None:
    env = RecommendVectorEnv(8, users=tiny_users, candidates=10, mask_in_observation=True)
    assert env.single_action_space.n == 10  # type: ignore[attr-defined]
    observation, info = env.reset(seed=0)
    sets = set()
    for _ in range(20):
        candidates = observation["candidates"]
        assert observation in env.observation_space and candidates.shape == (8, 10)
        assert (info["candidates"] == candidates).all()
        assert (observation["mask"] == info["action_mask"]).all()
        assert (env.action_masks() == (observation["mask"] == 1)).all()
        for slot in range(8):
            consumed = set(env.history(slot)[0].tolist())
            assert len(set(candidates[slot].tolist())) == 10
            of = [item not in consumed for item in candidates[slot].tolist()]
            assert of == (observation["mask"][slot] == 1).tolist()
            assert all(of)  # 22 or fewer are open, more than 10 for long
        sets |= {tuple(sorted(row)) for row in candidates.tolist()}
        actions = np.full(8, 3)
        resting = env._finished.copy()
        observation, _, _, _, info = env.step(actions)
        assert env.last_step is not None
        shown = env.last_step.slates[:, 0]
        assert (shown == candidates[:, 3])[~resting].all()
        if (env._observed.open.remaining < 11).any():
            break
    assert len(sets) > 30
    with pytest.raises(ValueError, match="places among the candidates from 0 to 9, got 10"):
        env.step(np.full(8, 10))


def test_strata_are_lengths_by_popularity_of_at_most_one() -> None:
    order, ends = strata(np.array([0.05, 0.6, 0.05, 0.2, 0.1]), 3)
    lengths = np.diff(ends, prepend=0.0)[np.argsort(order)]
    # The first two are certain: of the last unit the others have shares 1 : 1 : 2.
    assert lengths == pytest.approx([0.25, 1, 0.25, 1, 0.5]) and ends[-1] == 3
    assert order[:2].tolist() == [1, 3]
    everyone = strata(np.array([0.1, 0.9]), 2)
    assert everyone[0].tolist() == [1, 0] and everyone[1].tolist() == [1, 2]


def test_the_guide_finds_what_a_search_finds() -> None:
    generator = np.random.default_rng(0)
    for n_items, count in ((12, 4), (500, 60), (9, 9)):
        popularity = generator.pareto(0.7, n_items) + 1e-6
        candidates = Candidates(1, count, popularity / popularity.sum())
        order, ends = strata(popularity, candidates._width)
        points = np.sort(generator.random((40, 50)) * ends[-1], axis=0)
        points[0, :3] = 0.0, ends[0], np.nextafter(ends[-1], 0)
        expected = np.minimum(np.searchsorted(ends, points, side="right"), n_items - 1)
        assert (candidates._find(points) == order[expected]).all()


def test_candidates_are_drawn_by_popularity_without_replacement() -> None:
    """Shares of the steps at which each item is a candidate."""
    n_items, slots, count = 400, 3000, 40
    popularity = (np.arange(n_items) + 5.0) ** -1
    popularity /= popularity.sum()
    observed = ObservedHistories(slots, n_items, 3)
    shut = np.arange(0, n_items, 7)
    observed.open.close(np.repeat(np.arange(slots), len(shut)), np.tile(shut, slots))
    generator = np.random.default_rng(1)
    candidates = Candidates(slots, count, popularity)
    candidates.renew(observed, lambda columns: generator.random((slots, len(columns))))
    assert all(len(set(row)) == count for row in candidates.items.tolist())
    assert candidates.mask(observed).all()
    met = np.bincount(candidates.items.ravel(), minlength=n_items) / slots
    assert not met[::7].any()
    rare = [item for item in range(40, n_items) if item % 7]
    ratio = met[rare] / popularity[rare]
    halves = ratio[:160].mean() / ratio[160:].mean()
    assert halves == pytest.approx(1, abs=0.03)  # in proportion to popularity
    assert met[1] > 0.75 > 0.1 > met[-10:].max()
    pairs = {tuple(row[-2:]) for row in candidates.items.tolist()}
    assert len(pairs) > 100  # not always the same together


def test_too_few_open_items_are_filled_up_with_closed_ones() -> None:
    observed = ObservedHistories(1, 6, 3)
    observed.open.close(np.zeros(4, np.int64), np.array([0, 2, 3, 5]))
    candidates = Candidates(1, 4, np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05]))
    candidates.renew(observed, lambda columns: np.full((1, len(columns)), 0.5))
    assert set(candidates.items[0, :2].tolist()) == {1, 4}
    assert candidates.mask(observed).tolist() == [[True, True, False, False]]


def test_a_generator_may_propose(tiny_users: Any) -> None:
    def lately(items: Any, levels: Any, lengths: Any, uniforms: Any) -> np.ndarray:
        assert items.shape == levels.shape and len(lengths) == 3 and uniforms.shape == (3, 4)
        return np.tile([7, 8, 7, 9], (3, 1))

    env = RecommendVectorEnv(3, users=tiny_users, candidates=4, candidate_generator=lately)
    observation, info = env.reset(seed=0)
    assert observation["candidates"].tolist() == [[7, 8, 7, 9]] * 3
    assert not info["action_mask"][:, 2].any()  # the second copy
    for bad in (np.full((3, 4), 30), np.zeros((3, 4)), np.zeros((3, 5), int)):
        env = RecommendVectorEnv(
            3, users=tiny_users, candidates=4, candidate_generator=lambda *_, bad=bad: bad
        )
        with pytest.raises(ValueError, match="candidate_generator must give catalogue indices"):
            env.reset(seed=0)


def test_large_catalogues_have_candidates_by_themselves(make_tiny_users: Any) -> None:
    users = make_tiny_users(items=LARGE + 1)
    env = RecommendVectorEnv(2, users=users)
    assert env.reset(seed=0)[0]["candidates"].shape == (2, 500)
    assert RecommendVectorEnv(2, users=make_tiny_users(items=LARGE)).candidates is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"actions": "vector"}, "actions must be one of 'index', 'embedding', got 'vector'"),
        ({"actions": "embedding"}, "the users have no text_vectors: pass item_vectors"),
        ({"actions": "embedding", "item_vectors": np.ones((4, 2))}, "each of the 30 items.*4, 2"),
        ({"actions": "embedding", "item_vectors": np.zeros((30, 2))}, "not all of zeros"),
        ({"embedding_dim": 0}, "embedding_dim must be a whole number of at least 1"),
        ({"candidates": 31}, "candidates must be a whole number from 2 to 30, got 31"),
        ({"candidates": 1}, "candidates must be a whole number from 2 to 30, got 1"),
    ],
)
def test_bad_settings_of_actions(tiny_users: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecommendVectorEnv(2, users=tiny_users, slate_size=2, **settings)
    with pytest.raises(TypeError, match="candidate_generator must be callable"):
        RecommendVectorEnv(2, users=tiny_users, candidate_generator=3)  # type: ignore[arg-type]
