"""Scorers of item to item, of users and of texts, worked by hand on tiny matrices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.agents import baseline_neighbours
from audience.agents.baseline_events import TIE_BREAK, event_matrix, last_events, liking, prior_of
from audience.agents.baseline_items import EASEAgent, FollowersAgent, ItemKNNAgent
from audience.agents.baseline_neighbours import TextKNNAgent, UserKNNAgent
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

SCALE = FeedbackScale((1.0, 2.0, 3.0))

LOG = Histories.from_lists(
    [[(0, 2), (1, 2)], [(0, 2), (1, 1)], [(0, 0), (2, 2)], [(2, 1), (3, 0)], [(0, 2)]]
)
"""Five users of four items; item 0 is met by 4, item 1 by 2, item 2 by 2, item 3 by 1."""


def catalogue(histories: Histories, items: int = 4) -> Catalogue:
    names = np.array([f"i{i}" for i in range(items)])
    counts = np.bincount(histories.items, minlength=items)
    return Catalogue(names, names, counts, np.zeros(items))


def rows(*lists: list[tuple[int, int]]) -> tuple[NDArray[np.int64], ...]:
    return Histories.from_lists(list(lists)).padded(4)


def test_events_count_once_as_they_were_last() -> None:
    items = np.array([[1, 2, 1, 1], [0, 0, 3, 0]])
    used = np.array([[True] * 4, [True, True, True, False]])
    assert last_events(items, used).tolist() == [
        [False, True, False, True],
        [False, True, True, False],
    ]
    weights = np.arange(8.0).reshape(2, 4)
    found = event_matrix(items, np.array([4, 3]), weights, 4).toarray()
    assert found.tolist() == [[0, 3, 1, 0], [5, 0, 0, 6]]


def test_liking_is_0_on_average_and_the_prior_a_share() -> None:
    # Levels of the nine events: two of 0, two of 1, five of 2: scaled mean (2 * .5 + 5) / 9.
    np.testing.assert_allclose(liking(LOG, SCALE), np.array([0, 0.5, 1]) - 6 / 9)
    np.testing.assert_allclose(
        prior_of(LOG, catalogue(LOG)), TIE_BREAK * np.array([4, 2, 2, 1]) / 9, rtol=1e-6
    )


def test_sums_of_rows_weighted_by_feedback() -> None:
    weights = np.array([[0, 1, 2], [3, 0, 4], [5, 6, 0]], np.float32)
    head, prior = np.array([0, 2, 3]), np.array([0, 0.25, 0, 0], np.float32)
    agent = EASEAgent(weights, head, prior, np.array([-1.0, 0.5]), 0.0)
    # Items 0 and 3 are rows 0 and 2 of the head; item 1 is beyond it, and only has its prior.
    history = rows([(0, 1), (1, 1), (3, 0)], [])
    assert agent.scores(*history).tolist() == [[5, 0.25, 7, 2], [0, 0.25, 0, 0]]
    agent.emphasis = 2.0  # event weights 2 and -1
    assert agent.scores(*history)[0].tolist() == [-5, 0.25, 2 - 6, 4]


def test_ease_is_the_closed_form() -> None:
    agent = EASEAgent.fit(LOG, catalogue(LOG), SCALE, l2=2.0)
    x = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0]], float)
    inverse = np.linalg.inv(x.T @ x + 2 * np.eye(4))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    scores = agent.scores(*rows([(0, 2)], [(2, 0), (3, 1)]))
    np.testing.assert_allclose(scores[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(scores[1], expected[2] + expected[3], atol=1e-5)


def test_item_knn_is_the_shrunk_cosine() -> None:
    agent = ItemKNNAgent.fit(LOG, catalogue(LOG), SCALE, shrinkage=1.0, neighbours=4)
    scores = agent.scores(*rows([(0, 2)]))[0]
    # Users in common with item 0: two of item 1, one of item 2; norms 2, sqrt 2.
    np.testing.assert_allclose(
        scores[1:], [2 / (2 * 2**0.5 + 1), 1 / (2 * 2**0.5 + 1), 0], atol=1e-5
    )
    fewer = ItemKNNAgent.fit(LOG, catalogue(LOG), SCALE, shrinkage=1.0, neighbours=1)
    # Item 2 looks at item 3 alone (1 / (sqrt 2 + 1) > 1 / (2 sqrt 2 + 1)).
    assert fewer.scores(*rows([(0, 2)]))[0, 2] < 1e-5
    assert fewer.scores(*rows([(3, 2)]))[0, 2] == pytest.approx(1 / (2**0.5 + 1), abs=1e-5)


def test_followers_follow_and_the_latest_counts_most() -> None:
    chains = Histories.from_lists([[(0, 2), (1, 2)], [(2, 2), (3, 2)]] * 20)
    agent = FollowersAgent.fit(chains, catalogue(chains), SCALE, forgetting=0.5)
    scores = agent.scores(*rows([(0, 2)], [(0, 2), (2, 2)], [(2, 2), (0, 2)]))
    assert scores[0].argmax() == 1 and scores[0, 1] > 2 * scores[0, 3]
    assert scores[1].argmax() == 3 and scores[2].argmax() == 1
    # By hand: 20 times 0 before 1 of 40 pairs; expected 20 * 20 / 40; over sqrt(21 * 21).
    assert agent.weights[0, 1] == pytest.approx(30 / 21, abs=1e-5)
    np.testing.assert_allclose(
        scores[1], 0.5 * agent.weights[0] + agent.weights[2] + agent.prior, rtol=1e-5
    )


def test_user_knn_sums_what_the_nearest_met(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = UserKNNAgent.fit(LOG, catalogue(LOG), SCALE, neighbours=5)
    history = rows([(0, 2), (1, 2)], [])
    # Cosines: users 0 and 1 1, user 2 (1 of sqrt 2 sqrt 2) .5, user 3 0, user 4 1 / sqrt 2.
    expected = [2.5 + 2**-0.5, 2, 0.5, 0]
    np.testing.assert_allclose(agent.scores(*history)[0], expected, atol=1e-5)
    assert agent.scores(*history)[1].argmax() == 0  # nothing is known: the popular item
    few = UserKNNAgent(**(agent.parameters() | {"neighbours": 2}))
    np.testing.assert_allclose(few.scores(*history)[0], [2, 2, 0, 0], atol=1e-5)
    shrunk = UserKNNAgent(**(agent.parameters() | {"shrinkage": 2.0}))
    expected = [1 + 1 / 4 + 1 / (2**0.5 + 2), 1, 1 / 4, 0]
    np.testing.assert_allclose(shrunk.scores(*history)[0], expected, atol=1e-5)
    monkeypatch.setattr(baseline_neighbours, "CELLS", 5)  # one session at a time
    np.testing.assert_allclose(shrunk.scores(*history)[0], expected, atol=1e-5)


def test_user_knn_knows_likes_from_dislikes() -> None:
    # User 0 loves 0 and 1; user 1 hates 0 and loves 2.
    log = Histories.from_lists([[(0, 2), (1, 2)], [(0, 0), (2, 2)]])
    agent = UserKNNAgent.fit(log, catalogue(log), SCALE, emphasis=3.0)
    scores = agent.scores(*rows([(0, 2)], [(0, 0)]))
    assert scores[0, 1] > scores[0, 2] and scores[1, 2] > scores[1, 1]


def test_text_knn_is_the_cosine_of_centred_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.array([[2.0, 1], [2, 1], [0, 1], [1, 2], [1, 0]])  # their mean is (1.2, 1)
    log = Histories.from_lists([[(0, 2), (1, 2), (2, 1), (3, 0), (4, 2)]])
    items = catalogue(log, 5)
    agent = TextKNNAgent.fit(log, items, SCALE, neighbours=5, popularity=0.0, text_vectors=vectors)
    scores = agent.scores(*rows([(0, 2)], [(3, 2)]))
    left = vectors - [1.2, 1]
    unit = left / np.linalg.norm(left, axis=1, keepdims=True)
    expected = np.maximum(unit @ unit.T, 0)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(scores, expected[[0, 3]], atol=1e-5)
    # Of a large catalogue only what was met is looked at: the same.
    monkeypatch.setattr(baseline_neighbours, "LINEAR_ITEMS", 2)
    large = TextKNNAgent(**agent.parameters())
    np.testing.assert_allclose(large.scores(*rows([(0, 2)], [(3, 2)])), scores, atol=1e-6)
    popular = TextKNNAgent(**(agent.parameters() | {"popularity": 1.0}))
    shift = popular.scores(*rows([(0, 2)])) - scores[:1]
    np.testing.assert_allclose(shift[0], np.log(items.popularity), atol=1e-5)
    with pytest.raises(ValueError, match=r"one row for each of the 5 items .* shape \(4, 2\)"):
        TextKNNAgent.fit(log, items, SCALE, text_vectors=vectors[:4])


def test_text_knn_reads_the_words_where_there_are_no_vectors() -> None:
    log = Histories.from_lists([[(0, 2), (1, 2), (2, 1), (3, 0)]])
    texts = np.array(["green fern wood", "fern in a wood", "night comet", "comet at night"])
    items = Catalogue(np.array(list("abcd")), texts, np.ones(4, np.int64), np.zeros(4))
    agent = TextKNNAgent.fit(log, items, SCALE)
    scores = agent.scores(*rows([(0, 2)], [(3, 2)]))
    assert np.delete(scores[0], 0).argmax() == 0 and scores[1, :3].argmax() == 2
