"""Sessions in parts answer as those in one block."""

import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch

from audience.envs import RecommendVectorEnv
from audience.reward_models import bert_users
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.parallel_sessions import ParallelSessions, parts_of
from audience.reward_models.sessions import BertSessions
from audience.reward_models.users import DRAWS, Assumptions


@pytest.fixture
def two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 8 slots on."""

    def parts_of(slots: int, device: torch.device) -> list[int]:
        return [slots - slots // 2, slots // 2] if slots >= 8 else [slots]

    monkeypatch.setattr(bert_users, "parts_of", parts_of)


def test_parts_answer_as_the_whole(planted_users: BertUserModel, two_parts: None) -> None:
    threads = torch.get_num_threads()
    whole = planted_users.open(9, 3, Assumptions())
    parted = planted_users.open_parallel(9, 3, Assumptions())
    assert isinstance(parted, ParallelSessions) and len(parted._parts) == 2
    starts, rng = planted_users.starts("fitting"), np.random.default_rng(0)
    every = np.arange(9)
    for sessions in (whole, parted):
        sessions.start(every, starts.take(every))
    chosen, kept = 0, parted.get_state()
    for step in range(12):
        slates = rng.permuted(np.tile(np.arange(40), (9, 1)), axis=1)[:, :3]
        uniforms, active = rng.random((9, DRAWS)), rng.random(9) < 0.8
        if step == 6:
            some = np.array([7, 2, 4])
            for sessions in (whole, parted):
                sessions.start(some, starts.take(some + 1))
        mine, theirs = (of.respond(slates, uniforms, active) for of in (whole, parted))
        for field in fields(mine):
            a, b = getattr(mine, field.name), getattr(theirs, field.name)
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=field.name)
        chosen += (mine.choice >= 0).sum()
        if step == 0:
            first = slates, uniforms, active, theirs
    assert chosen > 10
    parted.set_state(kept)
    again = parted.respond(*first[:3])
    assert (again.choice == first[3].choice).all() and (again.level == first[3].level).all()
    assert torch.get_num_threads() == threads


def test_an_environment_of_many_users_runs_in_parts(
    planted_users: BertUserModel, two_parts: None
) -> None:
    env = RecommendVectorEnv(9, users=planted_users)
    assert isinstance(env._sessions, ParallelSessions)
    assert isinstance(RecommendVectorEnv(3, users=planted_users)._sessions, BertSessions)
    env.reset(seed=0)
    for item in range(10, 20):
        env.step(np.full(9, item))
    other = pickle.loads(pickle.dumps(env))
    for item in range(20, 30):
        mine, theirs = env.step(np.full(9, item)), other.step(np.full(9, item))
        for key in ("item", "feedback", "length"):
            assert (mine[0][key] == theirs[0][key]).all()
        for key in ("choice", "level", "accept_probability", "user"):
            assert (mine[-1][key] == theirs[-1][key]).all(), key


@pytest.mark.parametrize(
    "slots, threads, parts", [(1, 8, 1), (2047, 2, 1), (2048, 2, 2), (4096, 1, 1), (9000, 64, 4)]
)
def test_parts(monkeypatch: pytest.MonkeyPatch, slots: int, threads: int, parts: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    sizes = parts_of(slots, torch.device("cpu"))
    assert len(sizes) == parts and sum(sizes) == slots and max(sizes) - min(sizes) <= 1
    assert parts_of(slots, torch.device("meta")) == [slots]


def test_each_thread_computes_alone_and_others_as_before(planted_users: BertUserModel) -> None:
    before = torch.get_num_threads()
    parts = [planted_users.open(2, 1, Assumptions()) for _ in range(2)]
    pool = ParallelSessions(parts, [2, 2])._threads()
    told = [pool.submit(torch.get_num_threads).result() for _ in range(4)]
    assert set(told) == {max(1, before // 2)}
    assert torch.get_num_threads() == before
