"""Utilities of the items shown are those of the whole catalogue, whatever EASE covers of it."""

import pytest
import torch

from audience.benchmarks import speed_users
from audience.benchmarks.speed_users import synthetic_users
from audience.reward_models import choosing, tiles
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.engine import BehaviourEngine
from audience.reward_models.user_states import UserStates


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> BertUserModel:
    """Of 400 items, of which EASE and followers cover 30, not the first ones."""
    monkeypatch.setattr(speed_users, "LINEAR_ITEMS", 30)
    found = synthetic_users(400, "tiny", device="cpu")
    inputs = found.model.inputs
    inputs.head.copy_(torch.arange(30) * 7 + 5)
    inputs.place.fill_(-1)
    inputs.place[inputs.head] = torch.arange(30)
    with torch.no_grad():  # so that they matter
        found.model.gate_base.bias.copy_(torch.tensor([0.5, 1.3, 1.2]))
    return found


def running(users: BertUserModel) -> tuple[BehaviourEngine, UserStates, torch.Tensor]:
    engine, rows = BehaviourEngine(users.model), torch.arange(12)
    states = engine.new_states(12)
    engine.encode(states, rows, users.starts("fitting").take(rows.numpy()))
    return engine, states, rows


@torch.inference_mode()
def test_shown_items_have_their_utilities_among_all(
    users: BertUserModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "CELLS", 1600)  # several parts
    engine, states, rows = running(users)
    slates = torch.stack([torch.randperm(400)[:10] for _ in rows])
    for step in range(3):
        whole = engine.utilities(states, rows)
        torch.testing.assert_close(whole.exp().sum(1), torch.ones(12))
        asked = engine.appeals(states, rows, slates)
        torch.testing.assert_close(asked, whole.gather(1, slates), atol=1e-5, rtol=1e-5)
        some = rows[step::2]  # the others' normalisers are kept
        engine.add(states, some, slates[some, step], torch.zeros_like(some))
    assert asked[0, 0] == -torch.inf  # consumed at the first step


@torch.inference_mode()
def test_a_sample_stands_for_the_rare_items(
    users: BertUserModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, states, rows = running(users)
    slates = engine.model.inputs.head[:10].expand(12, -1)
    exact = engine.appeals(states, rows, slates)
    monkeypatch.setattr(choosing, "EXACT_ITEMS", 100)
    errors = []
    for size in (40, 200, 370):
        monkeypatch.setattr(choosing, "SAMPLED_ITEMS", size)
        engine, states, rows = running(users)
        found = engine.appeals(states, rows, slates)
        known = exact.isfinite()
        assert (found.isfinite() == known).all()
        errors.append(float((found - exact)[known].square().mean().sqrt()))
    assert errors[0] < 0.2 and errors[1] < errors[0]
    assert errors[2] < 1e-5  # the sample is all of them
