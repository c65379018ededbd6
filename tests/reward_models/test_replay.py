from collections.abc import Callable

import numpy as np
import pytest

from audience.reward_models.histories import Histories
from audience.reward_models.replay import REPLAY_EVENTS, ReplayUsers
from audience.reward_models.users import Assumptions, Population

MakeReplay = Callable[[dict[Population, list[int]]], ReplayUsers]


def real_level(user: int, item: int) -> int:
    return (3 * user + item) % 5  # as `make_replay_users` has it


def test_users_with_few_events_are_left_out(make_replay_users: MakeReplay) -> None:
    users = make_replay_users({"fitting": [47, 48, 60], "validation": [48], "test": [10, 50]})
    assert REPLAY_EVENTS == 48
    assert users.starts("fitting").users.tolist() == ["fitting-1", "fitting-2"]
    assert users.starts("test").users.tolist() == ["test-1"]
    assert users.starts("fitting").lengths.tolist() == [8, 8]
    first = users.starts("test")
    assert len(set(first.items.tolist())) == 8
    assert first.levels.tolist() == [real_level(5, item) for item in first.items.tolist()]


def test_the_real_level_answers_whatever_is_drawn(make_replay_users: MakeReplay) -> None:
    users = make_replay_users({"fitting": [48, 50, 80], "validation": [49], "test": [60]})
    sessions = users.open(3, 1, Assumptions())
    starts = users.starts("fitting").take(np.array([2, 0, 1]))
    sessions.start(np.arange(3), starts)
    number = [2, 0, 1]
    open_ = sessions.open_items(np.arange(3))
    assert open_.sum(axis=1).tolist() == [72, 40, 42]
    generator = np.random.default_rng(1)
    for _ in range(40):
        shown = np.array([generator.choice(np.flatnonzero(row)) for row in open_])
        response = sessions.respond(shown[:, None], generator.random((3, 4)), np.ones(3, bool))
        assert response.item.tolist() == shown.tolist() and not response.choice.any()
        assert response.level.tolist() == [
            real_level(user, item) for user, item in zip(number, shown.tolist(), strict=True)
        ]
        assert not response.leave.any() and (response.accept_probability == 1).all()
        open_[np.arange(3), shown] = False
        assert (sessions.open_items(np.arange(3)) == open_).all()


def test_what_was_never_rated_is_not_chosen_and_the_inactive_rest(
    make_replay_users: MakeReplay,
) -> None:
    users = make_replay_users({"fitting": [48, 48], "test": [48]})
    sessions = users.open(2, 1, Assumptions())
    sessions.start(np.arange(2), users.starts("fitting"))
    open_ = sessions.open_items(np.arange(2))
    closed = (~open_).argmax(axis=1)
    shown = np.array([[closed[0]], [open_[1].argmax()]])
    response = sessions.respond(shown, np.zeros((2, 4)), np.array([True, False]))
    for column in (response.choice, response.item, response.level):
        assert column.tolist() == [-1, -1]
    assert response.accept_probability.tolist() == [0, 0]
    assert (sessions.open_items(np.arange(2)) == open_).all()


def test_errors(make_replay_users: MakeReplay) -> None:
    with pytest.raises(ValueError, match="at least 48 events.*the longest history has 30"):
        make_replay_users({"fitting": [30], "test": [7]})
    users = make_replay_users({"fitting": [48]})
    with pytest.raises(ValueError, match="slate_size must be 1 in a replay.*got 2"):
        users.open(1, 2, Assumptions())
    with pytest.raises(ValueError, match="real users only.*got a history of 'given'"):
        users.open(1, 1, Assumptions()).start(
            np.array([0]), Histories.from_lists([[(0, 1)]], ["given"])
        )
    with pytest.raises(ValueError, match="min_events must be at least 9"):
        ReplayUsers(users.catalogue, users.scale, {}, min_events=8)
