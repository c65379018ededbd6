from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.agents.base import ScoringAgent
from audience.agents.baselines import (
    ALSAgent,
    EASEAgent,
    MeanFeedbackAgent,
    PopularityAgent,
    RandomAgent,
)
from audience.agents.tuning import halves, ndcg
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

ITEMS, BLOCK = 20, 10
SCALE = FeedbackScale((1.0, 2.0, 3.0))


def catalogue(histories: Histories, mean_feedback: NDArray[np.float64] | None = None) -> Catalogue:
    names = np.array([f"item-{i}" for i in range(ITEMS)])
    counts = np.bincount(histories.items, minlength=ITEMS)
    return Catalogue(
        names, names, counts, np.zeros(ITEMS) if mean_feedback is None else mean_feedback
    )


def block_users(users: int, seed: int) -> Histories:
    """Users who stay within the first or within the second ten items, seven of them each."""
    rng = np.random.default_rng(seed)
    return Histories.from_lists(
        [
            [(int(i) + BLOCK * (user % 2), 2) for i in rng.permutation(BLOCK)[:7]]
            for user in range(users)
        ]
    )


def observe(*histories: list[int]) -> dict[str, NDArray[np.int64]]:
    rows = Histories.from_lists([[(i, 2) for i in history] for history in histories])
    items, levels, lengths = rows.padded(8)
    return {"item": items, "feedback": levels, "length": lengths[:, None]}


@pytest.mark.parametrize("kind", [EASEAgent, ALSAgent])
def test_collaborative_filtering_finds_planted_blocks(
    kind: type[EASEAgent] | type[ALSAgent],
) -> None:
    fitting, validation = block_users(60, 0), block_users(20, 1)
    agent = kind.tune(fitting, validation, catalogue(fitting), SCALE, slate_size=7)
    slates = agent.predict(observe([0, 1, 2], [12, 15, 19]))[0]
    assert sorted(slates[0].tolist()) == [3, 4, 5, 6, 7, 8, 9]
    assert sorted(slates[1].tolist()) == [10, 11, 13, 14, 16, 17, 18]
    # 4 of 7 items are to be found among the 7 unseen of the block: far above the 17 of both.
    best = max(row["ndcg@10"] for row in agent.tuning)
    assert best > 0.6
    chosen = [row for row in agent.tuning if agent.settings.items() <= row.items()]
    assert len(chosen) == 1 and chosen[0]["ndcg@10"] == best


def test_als_is_the_same_under_the_same_seed_and_weighs_feedback() -> None:
    fitting = block_users(30, 0)
    first, second = (ALSAgent.fit(fitting, catalogue(fitting), SCALE) for _ in range(2))
    items, levels = np.array([[0, 11]]), np.array([[2, 0]])
    scores = first.scores(items, levels, np.array([2]))
    np.testing.assert_allclose(scores, second.scores(items, levels, np.array([2])))
    assert scores[0, 1:BLOCK].mean() > scores[0, BLOCK:].mean()  # 0 was liked, 11 was not
    swapped = first.scores(items, levels[:, ::-1], np.array([2]))
    assert swapped[0, 1:BLOCK].mean() < swapped[0, BLOCK:].mean()


def test_popularity_and_mean_feedback_rank_by_their_numbers() -> None:
    histories = Histories.from_lists([[(3, 0), (5, 0)], [(3, 1)], [(5, 0), (3, 0), (7, 2)]])
    means = np.linspace(1, 3, ITEMS)
    items = catalogue(histories, means)
    popularity = PopularityAgent.fit(histories, items, SCALE, slate_size=3)
    assert popularity.predict(observe([], [3]))[0].tolist() == [[3, 5, 7], [5, 7, 0]]
    mean = MeanFeedbackAgent.fit(histories, items, SCALE, slate_size=2)
    assert mean.predict(observe([], [19]))[0].tolist() == [[19, 18], [18, 17]]


def test_random_is_even_and_governed_by_its_seed() -> None:
    one, same, other = (RandomAgent(ITEMS, 2, seed=seed) for seed in (0, 0, 1))
    observation = observe(*([[4]] * 3000))
    slates = one.predict(observation, deterministic=True)[0]
    np.testing.assert_array_equal(slates, same.predict(observation)[0])
    assert (slates != other.predict(observation)[0]).any()
    assert (slates != one.predict(observation, deterministic=True)[0]).any()
    shares = np.bincount(slates.ravel(), minlength=ITEMS) / 6000
    # 5 standard errors around 1/19.
    assert shares[4] == 0 and np.abs(np.delete(shares, 4) - 1 / 19).max() < 0.015


def test_halves_split_every_users_items() -> None:
    histories = Histories.from_lists(
        [[(0, 1), (1, 1), (0, 2), (2, 0), (3, 0)], [(4, 0)], [], [(7, 0), (8, 0)]], list("abcd")
    )
    context, target = halves(histories, ITEMS, seed=3)
    assert context.users.tolist() == ["a", "d"] and target.sum(1).tolist() == [2, 1]
    for row, whole in ((0, {0, 1, 2, 3}), (1, {7, 8})):
        seen = set(context.items[context.offsets[row] : context.offsets[row + 1]].tolist())
        wanted = set(np.flatnonzero(target[row]).tolist())
        assert seen | wanted == whole and not seen & wanted
    with pytest.raises(ValueError, match="at least two different items"):
        halves(Histories.from_lists([[(1, 0), (1, 0)]]), ITEMS, seed=0)


def test_ndcg_worked_by_hand() -> None:
    histories = Histories.from_lists([[(19, 0)], [(18, 0)]])
    agent: ScoringAgent = MeanFeedbackAgent.fit(
        histories, catalogue(histories, np.arange(ITEMS, 0.0, -1)), SCALE
    )
    target = np.zeros((2, ITEMS), np.bool_)
    target[0, [0, 2]] = True  # ranks 1 and 3: (1 + 1/2) / (1 + 1/log2(3))
    target[1, 15] = True  # rank 16
    assert ndcg(agent, histories, target) == pytest.approx(1.5 / 1.63093 / 2, abs=1e-4)
