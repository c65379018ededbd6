import numpy as np
import pytest

from audience.reward_models.histories import Histories


@pytest.fixture
def histories() -> Histories:
    return Histories.from_lists([[(4, 0), (5, 1), (6, 2)], [], [(7, 3)]], ["ann", "bob", "cas"])


def as_lists(histories: Histories) -> list[list[tuple[int, int]]]:
    events = list(zip(histories.items.tolist(), histories.levels.tolist(), strict=True))
    return [events[a:b] for a, b in zip(histories.offsets[:-1], histories.offsets[1:], strict=True)]


def test_from_lists(histories: Histories) -> None:
    assert len(histories) == 3 and histories.lengths.tolist() == [3, 0, 1]
    assert as_lists(histories) == [[(4, 0), (5, 1), (6, 2)], [], [(7, 3)]]
    assert Histories.from_lists([[], []]).users.tolist() == ["0", "1"]


def test_padded_keeps_the_last_events_left_aligned(histories: Histories) -> None:
    items, levels, lengths = histories.padded()
    assert items.tolist() == [[4, 5, 6], [0, 0, 0], [7, 0, 0]]
    assert levels.tolist() == [[0, 1, 2], [0, 0, 0], [3, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
    items, levels, lengths = histories.padded(2)
    assert items.tolist() == [[5, 6], [0, 0], [7, 0]]
    assert levels.tolist() == [[1, 2], [0, 0], [3, 0]]
    assert lengths.tolist() == [2, 0, 1]
    assert histories.padded(5)[0].tolist() == [[4, 5, 6, 0, 0], [0] * 5, [7, 0, 0, 0, 0]]
    assert histories.padded(0)[0].shape == (3, 0)


def test_from_padded_reverses_padded(histories: Histories) -> None:
    back = Histories.from_padded(*histories.padded(4))
    assert as_lists(back) == as_lists(histories)
    assert back.offsets.tolist() == histories.offsets.tolist()


def test_from_padded_ignores_what_lies_beyond_the_length() -> None:
    rows = np.array([[1, 2, 99], [3, 98, 97]])
    back = Histories.from_padded(rows, rows * 10, np.array([2, 1]))
    assert as_lists(back) == [[(1, 10), (2, 20)], [(3, 30)]]


def test_take_reorders_and_repeats(histories: Histories) -> None:
    taken = histories.take(np.array([2, 0, 1, 0]))
    assert taken.users.tolist() == ["cas", "ann", "bob", "ann"]
    ann = [(4, 0), (5, 1), (6, 2)]
    assert as_lists(taken) == [[(7, 3)], ann, [], ann]
    assert as_lists(histories.take(np.array([], np.int64))) == []


def test_first_and_at_least(histories: Histories) -> None:
    assert as_lists(histories.first(2)) == [[(4, 0), (5, 1)], [], [(7, 3)]]
    assert as_lists(histories.first(0)) == [[], [], []]
    assert histories.at_least(1).users.tolist() == ["ann", "cas"]
    assert as_lists(histories.at_least(2)) == [[(4, 0), (5, 1), (6, 2)]]


def test_no_users() -> None:
    none = Histories.from_lists([])
    assert len(none) == 0 and none.padded()[0].shape == (0, 0)
    assert len(none.at_least(1)) == 0 and len(none.first(3)) == 0


def test_joined_histories_follow_each_other() -> None:
    one = Histories.from_lists([[(3, 0), (1, 2)], []], ["a", "b"])
    two = Histories.from_lists([[(0, 1)]], ["c"])
    both = Histories.joined([one, two])
    assert both.users.tolist() == ["a", "b", "c"] and both.offsets.tolist() == [0, 2, 2, 3]
    assert both.items.tolist() == [3, 1, 0] and both.levels.tolist() == [0, 2, 1]
    assert len(Histories.joined([])) == 0
