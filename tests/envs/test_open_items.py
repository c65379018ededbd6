import numpy as np
import pytest

from audience.envs import RecommendVectorEnv
from audience.envs.open_items import MARKS, OpenItems
from audience.reward_models.scripted import ScriptedUsers


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("n_items", [30, 2 * MARKS + 7])  # more items than marks: some share one
def test_it_is_a_set_for_each_slot(whole: bool, n_items: int) -> None:
    rng, slots = np.random.default_rng(0), 5
    found = OpenItems(slots, n_items, whole)
    closed: list[set[int]] = [set() for _ in range(slots)]
    # Items that share marks, where there are such.
    some = np.unique(np.arange(12)[:, None] % 6 + np.array([0, MARKS]) % n_items)
    for turn in range(60):
        who = rng.permutation(slots)[: rng.integers(1, slots)]
        if turn % 7 == 6:
            found.reset(who)
            for slot in who:
                closed[slot] = set()
        pairs = rng.choice(who, 6), rng.choice(some, 6)  # the same pair may stand twice
        found.close(*pairs)
        for slot, item in zip(*pairs, strict=True):
            closed[slot].add(int(item))
        assert found.remaining.tolist() == [n_items - len(own) for own in closed]
        asked = rng.choice(some, (slots, 8))
        wanted = [[item not in own for item in row] for own, row in zip(closed, asked, strict=True)]
        assert found.are(asked).tolist() == wanted
        shut = [np.flatnonzero(~row).tolist() for row in found.masks(who)]
        assert shut == [sorted(closed[slot]) for slot in who]
    assert (found.masks()[who] == found.masks(who)).all()


def test_given_open_items_hold_until_the_next_reset() -> None:
    found = OpenItems(3, 10, whole=True)
    among = np.zeros((2, 10), np.bool_)
    among[0, [1, 2, 3]], among[1, [4, 5]] = True, True
    found.reset(np.array([0, 2]), among)
    found.close(np.array([0, 0, 2]), np.array([2, 9, 4]))
    assert [np.flatnonzero(row).tolist() for row in found.masks()[[0, 2]]] == [[1, 3], [5]]
    assert found.remaining.tolist() == [2, 10, 1]
    found.reset(np.array([0]))
    assert found.masks().sum(axis=1).tolist() == [10, 10, 1]


def test_candidates_need_no_bool_for_each_item() -> None:
    """And the same seed lives the same session, however the open items are kept."""
    env = RecommendVectorEnv(3, users=ScriptedUsers(60), candidates=20)
    assert env._observed.open._bits.shape == (3, MARKS)
    _, info = env.reset(seed=0)
    for _ in range(40):
        chosen = info["action_mask"].argmax(axis=1)
        *_, info = env.step(chosen)
        consumed = env._observed.items
        for slot in range(3):
            own = consumed[slot, : env._observed.lengths[slot]]
            shut = np.flatnonzero(~env._observed.open.masks()[slot])
            assert set(own.tolist()) == set(shut.tolist())
