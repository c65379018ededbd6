from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audience.agents.algorithms import ALGORITHMS, make_algorithm
from audience.agents.embedding_policies import EmbeddingAgent
from audience.agents.evaluation import evaluate
from audience.agents.item_to_item import ItemToItem
from audience.agents.vec_env import make_sb3_env
from audience.envs.actions import reduced
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale
from audience.reward_models.users import Assumptions, Population, Response

ITEMS = 12
ONE_STEP: dict[str, Any] = {"start": 1, "step_limit": 1}


class NextItemUsers:
    """Each user has met one item, likes the one after it alone, and then leaves."""

    def __init__(self) -> None:
        names = np.array([f"i{item}" for item in range(ITEMS)])
        self.catalogue = Catalogue(names, names, np.ones(ITEMS, np.int64), np.full(ITEMS, 0.5))
        self.scale = FeedbackScale((0.0, 1.0))
        angles = 2 * np.pi * np.arange(ITEMS) / ITEMS
        self.text_vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    def starts(self, population: Population) -> Histories:
        return Histories.from_lists([[(item, 0)] for item in range(ITEMS)])

    def open(self, slots: int, slate_size: int, assumptions: Assumptions) -> NextItemSessions:
        return NextItemSessions(slots)


class NextItemSessions:
    def __init__(self, slots: int) -> None:
        self.last = np.zeros(slots, np.int64)

    def start(self, slots: NDArray[np.int64], histories: Histories) -> None:
        self.last[slots] = histories.items

    def respond(
        self, slates: NDArray[np.int64], uniforms: NDArray[np.float64], active: NDArray[np.bool_]
    ) -> Response:
        best = slates[:, 0] == (self.last + 1) % ITEMS
        none = np.full(len(slates), -1)
        return Response(
            np.where(active, 0, none),
            np.where(active, slates[:, 0], none),
            np.where(active, best, none).astype(np.int64),
            active.copy(),
            active.astype(np.float64),
            np.full(len(slates), np.nan),
            np.zeros(len(slates)),
        )


def env_of(name: str, users: Any, num_envs: int, **settings: Any) -> Any:
    actions = "embedding" if ALGORITHMS[name].embeds else "index"
    return make_sb3_env(
        "audience/Recommend-v0",
        num_envs,
        seed=0,
        users=users,
        actions=actions,
        mask_in_observation=False,
        **settings,
    )


BUDGET: dict[str, tuple[int, dict[str, Any]]] = {
    "ppo": (12_000, {"n_steps": 32, "batch_size": 256}),
    "maskable_ppo": (12_000, {"n_steps": 32, "batch_size": 256}),
    "a2c": (12_000, {}),
    "dqn": (4_000, {"batch_size": 128}),
    "qr_dqn": (4_000, {"batch_size": 128}),
    "sac": (4_000, {"batch_size": 128}),
    "td3": (8_000, {"batch_size": 128}),
}


QUICK = ("ppo", "dqn", "sac")
"""One of each kind; the others are left to the slow tests."""


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in BUDGET]
)
def test_every_algorithm_learns_what_the_observation_shows(name: str) -> None:
    users, (steps, changes) = NextItemUsers(), BUDGET[name]
    env = env_of(name, users, 32, **ONE_STEP)
    vectors = users.text_vectors
    model = make_algorithm(
        name, env, item_vectors=vectors, device="cpu", steps=steps, **changes
    ).learn(steps)
    agent: Any = model
    if ALGORITHMS[name].embeds:  # in items, as all others: interchangeable
        agent = EmbeddingAgent(model, reduced(vectors, 16))
    returns = evaluate(agent, users, mask_in_observation=False, **ONE_STEP).return_
    assert returns.mean() >= 0.95


@pytest.mark.parametrize("name", ["dqn", "qr_dqn", "sac", "td3"])
def test_exploration_shows_nothing_that_was_consumed(name: str, tiny_users: Any) -> None:
    vectors = tiny_users.vectors
    env = env_of(name, tiny_users, 6, step_limit=21, acceptance=0.99, item_vectors=vectors)
    model = make_algorithm(name, env, device="cpu", learning_starts=10_000)
    shown: list[Any] = []
    closed: list[bool] = []

    def look(local: dict[str, Any], _: dict[str, Any]) -> bool:
        core = env.core
        before = local["self"]._last_obs
        for slot in range(6):
            met = before["item"][slot, : int(before["length"][slot, 0])].tolist()
            item = int(core.last_step.slates[slot, 0])
            shown.append(item)
            closed.append(item in met)
        return True

    model.learn(6 * 40, callback=look)
    assert len(shown) == 240 and not any(closed)
    assert len(set(shown)) > 15


def test_the_bootstrap_looks_at_open_items_only(tiny_users: Any) -> None:
    env = env_of("dqn", tiny_users, 4)
    policy: Any = make_algorithm("dqn", env, device="cpu").policy
    seen = env.reset()
    values = policy.q_net_target({key: torch.as_tensor(part) for key, part in seen.items()})
    for row in range(4):
        met = set(seen["item"][row, : int(seen["length"][row, 0])].tolist())
        assert {item for item in range(30) if values[row, item] < -1e6} == met


def test_names_and_slates_that_are_not_known_are_refused(tiny_users: Any) -> None:
    env = env_of("ppo", tiny_users, 4)
    with pytest.raises(ValueError, match="algo must be one of ppo, maskable_ppo, a2c.*got 'sarsa'"):
        make_algorithm("sarsa", env)
    slates = env_of("ppo", tiny_users, 4, slate_size=3)
    with pytest.raises(ValueError, match="algo='dqn' recommends single items"):
        make_algorithm("dqn", slates)


def test_no_code_path_names_a_device(tiny_users: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tensors of a policy are made where its parameters are: on "meta" none is anywhere."""
    for name in ("ppo", "maskable_ppo", "a2c", "dqn", "qr_dqn"):
        env = env_of(name, tiny_users, 4)
        policy: Any = make_algorithm(name, env, device="cpu").policy.to("meta")
        seen = {key: torch.as_tensor(part).to("meta") for key, part in env.reset().items()}
        found = policy.values(seen) if "dqn" in name else policy.predict_values(seen)
        assert found.device.type == "meta"
        if "dqn" not in name:
            logits = policy.get_distribution(seen).logits
            assert logits.device.type == "meta" and logits.shape == (4, 30)


@pytest.mark.parametrize("name", ["ppo", "maskable_ppo", "a2c", "dqn", "qr_dqn"])
@pytest.mark.parametrize("candidates", [None, 7])
def test_no_tensor_is_made_where_the_policy_is_not(
    tiny_users: Any, name: str, candidates: int | None
) -> None:
    """With another default device than the policy's, what is made without naming one is met."""
    offered = {} if candidates is None else {"candidates": candidates}
    env = make_sb3_env(
        "audience/Recommend-v0", 4, seed=0, users=tiny_users, mask_in_observation=True, **offered
    )
    near = np.ones((1, 30, 30), np.float16)
    filters = ItemToItem(near, np.arange(30), (1.0,))
    model = make_algorithm(name, env, item_to_item=filters, device="cpu")
    policy: Any = model.policy
    seen: Any = env.reset()
    rows = {key: torch.as_tensor(part) for key, part in seen.items()}
    with torch.device("meta"):
        actions, _ = policy.predict(seen, deterministic=False)
        assert (np.asarray(actions) < (candidates or 30)).all()
        if "dqn" in name:
            assert policy.values(rows).device.type == "cpu"
        else:
            values, log_prob, entropy = policy.evaluate_actions(rows, torch.from_numpy(actions))
            assert {part.device.type for part in (values, log_prob, entropy)} == {"cpu"}
