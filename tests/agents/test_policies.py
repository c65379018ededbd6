from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env

from audience.agents.algorithms import PPO_DEFAULTS
from audience.agents.policies import ItemScoringPolicy

ITEMS, WIDTH, LEVELS = 12, 5, 3


def observation_space(mask: bool = False) -> spaces.Dict:
    parts: dict[str, spaces.Space[Any]] = {
        "item": spaces.Box(0, ITEMS - 1, (WIDTH,), np.int64),
        "feedback": spaces.Box(0, LEVELS - 1, (WIDTH,), np.int64),
        "length": spaces.Box(0, WIDTH, (1,), np.int64),
    }
    return spaces.Dict(parts | ({"mask": spaces.MultiBinary(ITEMS)} if mask else {}))


def action_space(slate: int = 1) -> spaces.Space[Any]:
    return spaces.Discrete(ITEMS) if slate == 1 else spaces.MultiDiscrete([ITEMS] * slate)


class NextItem(gym.Env[dict[str, NDArray[np.int64]], Any]):
    """One step; 1 for the item after the last one of the history, .1 for any other."""

    def __init__(self, slate: int = 1, mask: bool = False) -> None:
        self.observation_space = observation_space(mask)
        self.action_space = action_space(slate)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.last = int(self.np_random.integers(ITEMS))
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        best = np.ravel(action)[0] == (self.last + 1) % ITEMS
        return self.observe(), 1.0 if best else 0.1, True, False, {}

    def observe(self) -> dict[str, NDArray[Any]]:
        item = np.zeros(WIDTH, np.int64)
        item[0] = self.last
        observed = {"item": item, "feedback": np.zeros(WIDTH, np.int64), "length": np.array([1])}
        if "mask" in self.observation_space.spaces:  # type: ignore[attr-defined]
            observed["mask"] = (np.arange(ITEMS) != self.last).astype(np.int8)
        return observed


def batch(rows: int, seed: int = 0, mask: bool = False) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    length = rng.integers(0, WIDTH + 1, (rows, 1))
    used = np.arange(WIDTH) < length
    observed = {
        "item": np.where(used, rng.integers(0, ITEMS, (rows, WIDTH)), 0),
        "feedback": np.where(used, rng.integers(0, LEVELS, (rows, WIDTH)), 0),
        "length": length,
    }
    return observed | ({"mask": (rng.random((rows, ITEMS)) < 0.6).astype(np.int8)} if mask else {})


def policy(slate: int = 1, mask: bool = False, **kwargs: Any) -> ItemScoringPolicy:
    torch.manual_seed(0)
    return ItemScoringPolicy(observation_space(mask), action_space(slate), lambda _: 1e-3, **kwargs)


def tensors(observed: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(value) for key, value in observed.items()}


@pytest.mark.parametrize("algorithm", [PPO, A2C])
@pytest.mark.parametrize("slate", [1, 3])
def test_works_under_the_algorithms_as_they_come(
    algorithm: type[PPO] | type[A2C], slate: int
) -> None:
    env = make_vec_env(lambda: NextItem(slate, mask=True), 4, seed=0)
    model = algorithm(ItemScoringPolicy, env, n_steps=16, seed=0, device="cpu")
    model.learn(128)
    action = model.predict(env.reset(), deterministic=True)[0]
    assert action.shape == ((4,) if slate == 1 else (4, 3))


def test_ppo_learns_what_follows_the_last_item() -> None:
    env = make_vec_env(NextItem, 32, seed=0)
    settings = {**PPO_DEFAULTS, "batch_size": 256, "gamma": 0.0}
    model = PPO(ItemScoringPolicy, env, **settings, seed=0, device="cpu")
    model.learn(24_000)
    last = np.arange(ITEMS)
    item = np.zeros((ITEMS, WIDTH), np.int64)
    item[:, 0] = last
    observed = {
        "item": item,
        "feedback": np.zeros_like(item),
        "length": np.ones((ITEMS, 1), np.int64),
    }
    action, _ = model.predict(observed, deterministic=True)
    reward = np.where(action == (last + 1) % ITEMS, 1.0, 0.1)
    assert reward.mean() >= 0.95


def test_save_and_load_give_the_same_predictions(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(ITEMS, 7))
    env = make_vec_env(lambda: NextItem(3), 2, seed=0)
    kwargs = {"item_vectors": vectors, "dim": 16, "item_bias": np.linspace(0, 1, ITEMS)}
    model = PPO(
        ItemScoringPolicy, env, n_steps=8, batch_size=16, policy_kwargs=kwargs, device="cpu"
    )
    model.learn(32)
    model.save(tmp_path / "model.zip")
    model.policy.save(str(tmp_path / "policy.pt"))
    observed = batch(20)
    expected = model.predict(observed, deterministic=True)[0]
    for loaded in (
        PPO.load(tmp_path / "model.zip", device="cpu"),
        ItemScoringPolicy.load(str(tmp_path / "policy.pt"), device="cpu"),
    ):
        np.testing.assert_array_equal(loaded.predict(observed, deterministic=True)[0], expected)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("slate", [1, 3])
def test_never_recommends_what_was_consumed_or_masked(slate: int, mask: bool) -> None:
    observed = batch(500, mask=mask)
    model = policy(slate, mask)
    forbidden = np.zeros((500, ITEMS), np.bool_)
    rows, places = np.nonzero(np.arange(WIDTH) < observed["length"])
    forbidden[rows, observed["item"][rows, places]] = True
    if mask:
        forbidden |= observed["mask"] == 0
    enough = (~forbidden).sum(1) >= slate
    with torch.no_grad():
        drawn = [model(tensors(observed))[0].numpy(), model.predict(observed)[0]]
    for actions in [*drawn, model.predict(observed, deterministic=True)[0]]:
        taken = np.take_along_axis(forbidden, actions.reshape(500, -1), 1)
        assert enough.sum() > 300 and not taken[enough].any()
    # Where no history is, item 0 of the unused places is not taken for consumed.
    logits = model.get_distribution(tensors(observed)).logits
    empty = (observed["length"][:, 0] == 0) & ~forbidden[:, 0]
    assert (logits[torch.as_tensor(empty)][:, 0] > -100).all()


def test_predict_takes_masks_that_its_space_lacks() -> None:
    model = policy()
    observed = batch(1)
    only = np.zeros(ITEMS, np.int8)
    free = next(i for i in range(ITEMS) if i not in observed["item"])
    only[free] = 1
    one = {key: value[0] for key, value in observed.items()}
    for action in (
        model.predict(one, action_masks=only)[0],
        model.predict({**one, "mask": only})[0],
    ):
        assert action.shape == () and action == free


def test_starts_near_its_prior_and_reads_only_the_used_places() -> None:
    observed = batch(50)
    even = policy().get_distribution(tensors(observed)).logits
    allowed = even > -100
    spread = torch.where(allowed, even - even.max(1, keepdim=True).values, 0).abs()
    assert spread.max() < 2
    prior = np.linspace(0, 3, ITEMS)
    biased = (
        policy(item_bias=prior)
        .get_distribution(tensors({**observed, "length": observed["length"] * 0}))
        .logits
    )
    torch.testing.assert_close(
        biased[0], torch.as_tensor(prior).float().log_softmax(0), atol=1, rtol=0
    )
    changed = {key: value.copy() for key, value in observed.items()}
    unused = np.arange(WIDTH) >= observed["length"]
    changed["item"][unused], changed["feedback"][unused] = 7, 2
    torch.testing.assert_close(even, policy().get_distribution(tensors(changed)).logits)


def test_distribution_agrees_with_forward_and_evaluate_actions() -> None:
    model, observed = policy(3), tensors(batch(30))
    actions, values, log_prob = model(observed)
    again_values, again, entropy = model.evaluate_actions(observed, actions)
    torch.testing.assert_close(log_prob, again)
    torch.testing.assert_close(values, again_values)
    torch.testing.assert_close(values, model.predict_values(observed))
    assert values.shape == (30, 1) and entropy.shape == (30,)


def test_the_critic_leaves_the_item_vectors_alone() -> None:
    model = policy()
    model.predict_values(tensors(batch(8))).sum().backward()
    assert model.scorer.items.learned.grad is None
    assert model.value_net[0].weight.grad is not None


@pytest.mark.parametrize(
    ("observed", "action", "message"),
    [
        (observation_space(), spaces.Box(-1, 1, (4,)), r"action space Discrete\(12\)"),
        (observation_space(), spaces.Discrete(5), r"Discrete\(12\).*got Discrete\(5\)"),
        (observation_space(), spaces.MultiDiscrete([12, 5]), r"MultiDiscrete\(\[12\] \*"),
        (spaces.Box(0, 1, (3,)), spaces.Discrete(12), "Dict observation with item, feedback"),
        (
            spaces.Dict({"item": spaces.Box(0, 11, (3,), np.int64)}),
            spaces.Discrete(12),
            r"\['feedback', 'length'\] missing",
        ),
    ],
)
def test_refuses_other_spaces(
    observed: spaces.Space[Any], action: spaces.Space[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ItemScoringPolicy(observed, action, lambda _: 1e-3)


def test_refuses_vectors_and_biases_of_another_catalogue() -> None:
    with pytest.raises(
        ValueError, match=r"item_vectors .* shape \(12, width\).* got shape \(3, 4\)"
    ):
        policy(item_vectors=np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"item_bias .* shape \(12,\).* got shape \(3,\)"):
        policy(item_bias=np.zeros(3))
