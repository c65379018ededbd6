from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from audience.agents import make_sb3_env
from audience.agents.algorithms import make_algorithm
from audience.agents.item_knowledge import item_to_item_of
from audience.agents.item_scorer import ItemScorer, Shapes
from audience.agents.item_to_item import ItemToItem, ItemToItemScores
from audience.agents.trained import TrainedScorer
from audience.benchmarks.speed_users import synthetic_users

ITEMS, HISTORY, DECAYS = 12, 6, (1.0, 0.5)


def filters(head: list[int]) -> ItemToItem:
    """Two filters; the entries are exact in float16."""
    size = (2, len(head), len(head))
    matrices = np.random.default_rng(0).integers(-4, 9, size).astype(np.float16)
    return ItemToItem(matrices, np.array(head), DECAYS)


def by_hand(known: ItemToItem, history: list[int], item: int) -> list[float]:
    """The scores of one item after one history, oldest first."""
    place = {name: row for row, name in enumerate(known.head.tolist())}
    found = []
    for matrix, decay in zip(known.matrices.astype(float), known.decays, strict=True):
        total = sum(
            decay**age * matrix[place[past], place[item]]
            for age, past in enumerate(reversed(history))
            if past in place and item in place
        )
        found.append(np.log(max(total, 1.0)))
    return found


@pytest.mark.parametrize("head", [list(range(ITEMS)), [7, 2, 9, 4, 11]])
@pytest.mark.parametrize("among", [None, [9, 0, 4]])
def test_scores_are_sums_over_the_events(head: list[int], among: list[int] | None) -> None:
    """Of histories of none to all places; items outside the matrices score nothing."""
    known = filters(head)
    histories = [[], [7], [2, 9, 1], [4, 7, 2, 9, 11, 0]]
    items = np.zeros((len(histories), HISTORY), np.int64)
    for row, history in enumerate(histories):
        items[row, : len(history)] = history
    lengths = torch.tensor([len(history) for history in histories])
    choices = None if among is None else torch.tensor([among] * len(histories))
    scores = ItemToItemScores(ITEMS, HISTORY, known)(torch.from_numpy(items), lengths, choices)
    asked = list(range(ITEMS)) if among is None else among
    expected = [[by_hand(known, history, item) for item in asked] for history in histories]
    np.testing.assert_allclose(scores.transpose(1, 2).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert (scores[1:] > 0.5).any()


def test_sums_beyond_float16_are_finite() -> None:
    known = replace(filters([0, 1]), matrices=np.full((2, 2, 2), 5e4, np.float16))
    scores = ItemToItemScores(2, HISTORY, known)(torch.tensor([[0, 1, 0, 0]]), torch.tensor([4]))
    np.testing.assert_allclose(scores.numpy(), np.log(6e4), rtol=1e-4)


def test_events_are_encoded_alike_alone() -> None:
    """Of fewer events than items, and of more."""
    torch.manual_seed(0)
    scorer = ItemScorer(Shapes(ITEMS, HISTORY, 3, 0), 8)
    for rows in (1, 4):
        obs = {
            "item": torch.randint(ITEMS, (rows, HISTORY)),
            "feedback": torch.randint(3, (rows, HISTORY)),
            "length": torch.full((rows, 1), 4),
        }
        torch.testing.assert_close(scorer.histories(obs), scorer.encode(obs).history)


@pytest.mark.parametrize("heads", [1, 3])
def test_a_query_weighs_them(heads: int) -> None:
    """At the start not at all; then each query by its own weights."""
    torch.manual_seed(0)
    known = filters(list(range(ITEMS)))
    shapes = Shapes(ITEMS, HISTORY, 3, 0)
    scorer = ItemScorer(shapes, 8, item_to_item=known)
    obs = {
        "item": torch.tensor([[1, 2, 0, 0, 0, 0], [5, 4, 3, 0, 0, 0]]),
        "feedback": torch.ones(2, HISTORY, dtype=torch.int64),
        "length": torch.tensor([[2], [3]]),
    }
    encoded = scorer.encode(obs)
    query = scorer.query_net(heads)(encoded.history)
    assert (query[..., 8:] == 0).all() and query.shape[-1] == 10
    plain = scorer.scores(replace(encoded, known=None), query)
    torch.testing.assert_close(scorer.scores(encoded, query), plain)
    query = query.clone()
    query[..., 8:] = torch.tensor([2.0, -1.0])
    assert encoded.known is not None
    added = 2 * encoded.known[:, 0] - encoded.known[:, 1]
    added = added if heads == 1 else added[:, None]
    torch.testing.assert_close(scorer.scores(encoded, query), plain + added)


@pytest.fixture(scope="module")
def users() -> Any:
    return synthetic_users(60, "tiny", device="cpu")


def test_they_are_what_the_users_go_by(users: Any) -> None:
    """The same EASE and what comes next, over the same floors, as the users' choices hang on."""
    inputs = users.model.inputs
    known = item_to_item_of(users, text=True)
    assert known is not None
    items, lengths = torch.tensor([[5, 9, 30, 2], [7, 1, 0, 0]]), torch.tensor([4, 2])
    statistics = inputs.of(items, torch.zeros_like(items), lengths, users.model.level_values)
    first = torch.zeros(1, dtype=torch.int64)
    expected = inputs.expected(statistics.ease, statistics.coming, first)
    scores = ItemToItemScores(60, 4, known)(items, lengths)
    assert float(scores.max()) > 0.5
    for found, wanted in zip(scores.unbind(1), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=5e-3, rtol=5e-3)  # kept in float16
    by_ids = item_to_item_of(users, text=False)
    assert by_ids is not None and by_ids.decays == (1.0,)  # texts are part of what comes
    assert np.array_equal(by_ids.matrices, known.matrices[:1])


def test_users_without_filters_have_none(tiny_users: Any) -> None:
    assert item_to_item_of(tiny_users, text=True) is None


@pytest.mark.parametrize("name", ["ppo", "maskable_ppo", "qr_dqn"])
def test_a_model_keeps_them_and_scores_alike_wherever_it_is_loaded(
    users: Any, name: str, tmp_path: Path
) -> None:
    """Once, beside the weights; what is taken away ranks as the policy in the environment."""
    env = make_sb3_env("audience/Recommend-v0", 4, seed=0, users=users)
    model = make_algorithm(
        name, env, item_to_item=item_to_item_of(users, text=True), device="cpu", steps=64, seed=0
    )
    net: Any = model.policy if name != "qr_dqn" else model.policy.net
    with torch.no_grad():  # as if they had been learned to count
        net.query_net.out.bias.unflatten(0, (-1, net.query_net.size))[:, -2:] = 5.0
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", device="cpu")
    assert not any("filters" in key for key in loaded.policy.state_dict())
    observed: Any = env.reset()
    expected = model.predict(observed, deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(observed, deterministic=True)[0], expected)
    lengths = observed["length"][:, 0]
    scores = TrainedScorer(loaded).scores(observed["item"], observed["feedback"], lengths)
    for row, length in enumerate(lengths):
        scores[row, observed["item"][row, :length]] = -np.inf
    np.testing.assert_array_equal(scores.argmax(1), expected)


def test_candidates_are_scored_alike(users: Any) -> None:
    shapes = Shapes.of(make_sb3_env("audience/Recommend-v0", 1, users=users).observation_space, "x")
    scorer = ItemScorer(shapes, 8, item_to_item=item_to_item_of(users, text=True))
    obs: dict[str, Any] = {
        "item": torch.zeros(1, shapes.history, dtype=torch.int64),
        "feedback": torch.zeros(1, shapes.history, dtype=torch.int64),
        "length": torch.tensor([[3]]),
    }
    obs["item"][0, :3] = torch.tensor([4, 8, 15])
    net = scorer.query_net()
    net.out.bias.data[-2:] = 3.0
    whole = scorer.encode(obs)
    among = torch.tensor([[16, 23, 42]])
    few = scorer.encode({**obs, "candidates": among})
    torch.testing.assert_close(
        scorer.scores(few, net(few.history)),
        scorer.scores(whole, net(whole.history)).gather(1, among),
    )


def test_ppo_takes_the_argument_itself(users: Any) -> None:
    """`policy_kwargs` of Stable-Baselines3, as any other."""
    from audience.agents import ItemScoringPolicy

    env = make_sb3_env("audience/Recommend-v0", 2, seed=0, users=users, slate_size=2)
    kwargs = {"item_to_item": item_to_item_of(users, text=True)}
    model = PPO(ItemScoringPolicy, env, n_steps=4, batch_size=8, policy_kwargs=kwargs, device="cpu")
    before = model.policy.query_net.out.weight.detach()[-2:].clone()
    model.learn(8)
    assert isinstance(env.action_space, spaces.MultiDiscrete)
    assert not torch.equal(before, model.policy.query_net.out.weight[-2:])
