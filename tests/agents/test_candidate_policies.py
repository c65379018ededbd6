"""Large catalogues: the same agents over the candidates in the observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from audience.agents.algorithms import make_algorithm
from audience.agents.base import ScoringAgent, allowed_choices
from audience.agents.evaluation import evaluate
from audience.agents.history_encoder import ROWS, ItemVectors
from audience.agents.policies import ItemScoringPolicy
from audience.agents.vec_env import make_sb3_env
from audience.reward_models.histories import Histories

HISTORY, LEVELS = 20, 5


def space(n_items: int, candidates: int | None = None) -> spaces.Dict:
    parts: dict[str, spaces.Space[Any]] = {
        "item": spaces.Box(0, n_items - 1, (HISTORY,), np.int64),
        "feedback": spaces.Box(0, LEVELS - 1, (HISTORY,), np.int64),
        "length": spaces.Box(0, HISTORY, (1,), np.int64),
    }
    if candidates is not None:
        parts["candidates"] = spaces.Box(0, n_items - 1, (candidates,), np.int64)
        parts["mask"] = spaces.MultiBinary(candidates)
    return spaces.Dict(parts)


def batch(n_items: int, candidates: int, rows: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    among = np.stack([rng.choice(n_items, candidates, replace=False) for _ in range(rows)])
    return {
        "item": rng.integers(0, n_items, (rows, HISTORY)),
        "feedback": rng.integers(0, LEVELS, (rows, HISTORY)),
        "length": rng.integers(1, HISTORY + 1, (rows, 1)),
        "candidates": among,
    }


def test_candidates_get_the_scores_that_the_catalogue_gives_them() -> None:
    torch.manual_seed(0)
    policy = ItemScoringPolicy(space(50, 7), spaces.Discrete(7), lambda _: 1e-3)
    observed = batch(50, 7, 12)
    rows = {key: torch.as_tensor(value) for key, value in observed.items()}
    some = policy.get_distribution(rows)._scores.detach()
    every = policy.get_distribution({k: v for k, v in rows.items() if k != "candidates"})
    catalogue = every._scores.detach()
    torch.testing.assert_close(some, catalogue.gather(1, rows["candidates"]))
    # What was consumed is closed among candidates too, and so is what any mask forbids.
    consumed = [
        set(observed["item"][row, : observed["length"][row, 0]].tolist()) for row in range(12)
    ]
    for row in range(12):
        for place, item in enumerate(observed["candidates"][row].tolist()):
            assert (float(some[row, place]) < -1e6) == (item in consumed[row])
    only = np.zeros(7, np.int8)
    only[3] = 1
    free = [r for r in range(12) if observed["candidates"][r, 3] not in consumed[r]]
    drawn = policy.predict(observed, action_masks=only)[0]
    assert free and (drawn[free] == 3).all()


def test_scoring_agents_answer_with_places_among_the_candidates() -> None:
    class ByIndex(ScoringAgent):
        def scores(self, items: Any, levels: Any, lengths: Any) -> NDArray[np.float64]:
            return np.tile(np.arange(10.0), (len(items), 1))

    seen = {
        "item": np.array([9, 0]),
        "feedback": np.zeros(2, np.int64),
        "length": np.array([1]),
        "candidates": np.array([2, 9, 7, 7]),
    }
    # 9 is consumed, and the second 7 is a copy: 7 first, then 2.
    assert ByIndex(10, 2).predict(seen)[0].tolist() == [2, 0]
    assert ByIndex(10, 1).predict({**seen, "mask": np.array([1, 1, 0, 0])})[0] == 0
    items, lengths = seen["item"][None], seen["length"]
    assert allowed_choices(seen, items, lengths, 10).tolist() == [[True, False, True, False]]


def test_large_catalogues_share_rows_yet_tell_items_apart() -> None:
    torch.manual_seed(0)
    large = ItemVectors(100_000, 8)
    assert large.learned.shape == (ROWS, 8)
    vectors, bias = large(torch.arange(100_000))
    assert vectors.shape == (100_000, 8) and bias.shape == (100_000,)
    torch.testing.assert_close(large(torch.tensor([99_999]))[0], vectors[-1:])
    assert len(vectors.detach().unique(dim=0)) > 99_000


@pytest.mark.parametrize("n_items", [300, 30_000])
@pytest.mark.parametrize("given", [True, False])
def test_scores_of_candidates_are_products_with_their_vectors(n_items: int, given: bool) -> None:
    """And so are their gradients, with rows of their own and with shared ones."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    fixed = rng.normal(size=(n_items, 5)).astype(np.float32) if given else None
    items = ItemVectors(n_items, 6, fixed, rng.normal(size=n_items))
    torch.nn.init.normal_(items.bias)
    queries = torch.randn(9, 6, requires_grad=True)
    candidates = torch.randint(n_items, (9, 40))
    weights = torch.randn(9, 40)
    own = [queries, *items.parameters()]
    scores = items.scores(queries, candidates)
    gradients = torch.autograd.grad((scores * weights).sum(), own)
    vectors, bias = items(candidates.flatten())
    products = (vectors.unflatten(0, (9, 40)) * queries[:, None]).sum(2) + bias.unflatten(
        0, (9, 40)
    )
    torch.testing.assert_close(scores, products)
    expected = torch.autograd.grad((products * weights).sum(), own)
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_a_policy_trains_and_is_evaluated_at_100_000_items(
    make_tiny_users: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    users = make_tiny_users(items=100_000)
    env = make_sb3_env("audience/Recommend-v0", 8, seed=0, users=users, step_limit=4)
    choices = env.observation_space["candidates"].shape[0]  # type: ignore[index]
    assert env.action_space == spaces.Discrete(choices) and choices < 1_000
    model = make_algorithm(
        "ppo", env, item_vectors=users.vectors, device="cpu", steps=64, n_steps=8, batch_size=32
    )
    model.learn(64)
    few = users.starts("validation").take(np.arange(3))
    starts: dict[str, Histories] = {"validation": few}
    monkeypatch.setattr(users, "starts", lambda population: starts.get(population, few))
    result = evaluate(model, users, population="validation", step_limit=4)
    # What the sessions tell are items of the catalogue, not places among candidates.
    assert result.recommended.max() >= choices
    running = result.recommended[:, 0, 0]
    assert (running >= 0).all()


def test_a_training_step_computes_no_more_in_a_hundredfold_catalogue() -> None:
    work = {}
    for n_items in (10_000, 1_000_000):
        torch.manual_seed(0)
        policy = ItemScoringPolicy(space(n_items, 50), spaces.Discrete(50), lambda _: 1e-3)
        rows = {k: torch.as_tensor(v) for k, v in batch(n_items, 50, 16).items()}
        rows["mask"] = torch.ones(16, 50)
        with FlopCounterMode(display=False) as counter:
            values, log_prob, entropy = policy.evaluate_actions(rows, torch.zeros(16))
            (values.mean() + log_prob.mean() + entropy.mean()).backward()
        work[n_items] = counter.get_total_flops()
    assert 0 < work[1_000_000] <= work[10_000]
