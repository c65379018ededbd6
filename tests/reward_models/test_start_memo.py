"""Starts that are kept: sessions begin with copies of them as if they were encoded anew."""

import dataclasses

import numpy as np
import pytest
import torch

from audience.reward_models import start_memo
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.engine import BehaviourEngine
from audience.reward_models.histories import Histories
from audience.reward_models.start_memo import StartMemo
from audience.reward_models.user_states import UserStates
from audience.reward_models.user_statistics import OF_EVENTS


@pytest.fixture
def engine(planted_users: BertUserModel) -> BehaviourEngine:
    return BehaviourEngine(planted_users.model, tilted=True)


def same(one: UserStates, other: UserStates, rows: torch.Tensor) -> None:
    """All that these users are, whatever the room around it."""
    for field in dataclasses.fields(one.statistics):
        if field.name not in OF_EVENTS:
            a, b = (getattr(of.statistics, field.name)[rows] for of in (one, other))
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for a, b in zip(one.statistics.events(rows), other.statistics.events(rows), strict=True):
        assert torch.equal(a, b)
    length = one.cache.length[rows]
    assert torch.equal(length, other.cache.length[rows])
    used = torch.arange(one.cache.keys[0].shape[1]) < length[:, None]
    for mine, theirs in (
        (one.cache.keys, other.cache.keys),
        (one.cache.values, other.cache.values),
    ):
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a[rows][used], b[rows][used], atol=1e-5, rtol=1e-5)
    for name in ("hidden", "interests"):
        a, b = getattr(one, name)[rows], getattr(other, name)[rows]
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_copy_is_what_encoding_gives(
    planted_users: BertUserModel, engine: BehaviourEngine
) -> None:
    starts = planted_users.starts("fitting")
    memo = StartMemo(engine, starts)
    kept, anew = engine.new_states(6), engine.new_states(6)
    rng = np.random.default_rng(0)
    slates = torch.from_numpy(rng.integers(40, size=(4, 3)))
    for turn in range(4):  # known and unknown ones, the same one twice, into used rows
        rows = torch.from_numpy(rng.permutation(6)[:4])
        who = starts.take(np.array([0, 0, turn, turn + 1])).first(3 + turn)
        memo.begin(kept, rows, who)
        engine.encode(anew, rows, who)
        same(kept, anew, rows)
        said = [engine.appeals(states, rows, slates) for states in (kept, anew)]
        torch.testing.assert_close(*said, atol=1e-5, rtol=1e-5)
        for states in (kept, anew):  # and they go on alike
            engine.add(states, rows, slates[:, 0], torch.zeros_like(rows))
        same(kept, anew, rows)


@torch.inference_mode()
def test_only_what_is_new_is_encoded(
    planted_users: BertUserModel, engine: BehaviourEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, encoded = planted_users.starts("fitting"), []
    encode = engine.encode

    def count(states: UserStates, rows: torch.Tensor, histories: Histories) -> None:
        encoded.append(len(histories))
        encode(states, rows, histories)

    monkeypatch.setattr(engine, "encode", count)
    monkeypatch.setattr(start_memo, "AHEAD", 0)
    memo, states = StartMemo(engine, starts.take(np.arange(5))), engine.new_states(5)
    for who in ([0, 1, 1], [1, 0], [2, 3, 4], [4, 0], [5, 0]):  # the last finds no room
        memo.begin(states, torch.arange(len(who)), starts.take(np.array(who)))
    assert encoded == [2, 3, 2]
    longer = Histories.from_lists([[(item, 0) for item in range(9)]])
    memo.begin(states, torch.arange(1), longer)  # no start is that long
    monkeypatch.setattr(start_memo, "MOST", 4)
    many = StartMemo(engine, starts.take(np.arange(5)))
    for _ in range(2):
        many.begin(states, torch.arange(1), starts.take(np.array([0])))
    assert encoded == [2, 3, 2, 1, 1, 1]


@torch.inference_mode()
def test_starts_to_come_are_encoded_ahead(
    planted_users: BertUserModel, engine: BehaviourEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_memo, "AHEAD", 4)
    starts, encoded, encode = planted_users.starts("fitting").take(np.arange(10)), [], engine.encode

    def count(states: UserStates, rows: torch.Tensor, histories: Histories) -> None:
        encoded.append(len(histories))
        encode(states, rows, histories)

    memo, states, anew = StartMemo(engine, starts), engine.new_states(1), engine.new_states(1)
    row = torch.arange(1)
    monkeypatch.setattr(engine, "encode", count)
    for user, calls in ((1, [3]), (0, [3]), (2, [3]), (9, [3, 4]), (5, [3, 4]), (8, [3, 4, 3])):
        who = starts.take(np.array([user])).first(5)
        memo.begin(states, row, who)
        assert encoded == calls, user  # 1 with 0, 1, 2; then 9 with 3, 4, 5; then 8 with 6, 7, 8
        encode(anew, row, who)
        same(states, anew, row)


@torch.inference_mode()
def test_a_changed_tilt_is_seen(planted_users: BertUserModel, engine: BehaviourEngine) -> None:
    starts = planted_users.starts("fitting").take(np.arange(4))
    memo = StartMemo(engine, starts)
    weights, rows = engine.model.tilt.weights, torch.arange(4)
    before = weights.clone()
    slates = torch.arange(30, 34)[:, None]
    said = []
    try:
        for shift in (0.0, 1.0):
            weights += shift
            for begin in (memo.begin, engine.encode):
                states = engine.new_states(4)
                begin(states, rows, starts)
                said.append(engine.appeals(states, rows, slates))
    finally:
        weights.copy_(before)
    torch.testing.assert_close(said[0], said[1])
    torch.testing.assert_close(said[2], said[3])
    assert not torch.allclose(said[0], said[2], atol=1e-3)


def test_all_sessions_of_some_users_share_their_starts(planted_users: BertUserModel) -> None:
    memo = planted_users.start_memo(0.0)
    assert planted_users.start_memo(0.0) is memo
    planted_users.to(planted_users.device)  # weights may have moved
    assert planted_users.start_memo(0.0) is not memo
