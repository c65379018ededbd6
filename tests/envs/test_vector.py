from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from audience.envs import RecommendEnv, RecommendVectorEnv
from audience.envs.infos import of_slot
from audience.reward_models.rewards import RewardContext
from audience.reward_models.users import Response


def allowed(masks: np.ndarray, size: int, turn: np.ndarray) -> np.ndarray:
    """The first `size` open items of each row from `turn` on, in catalogue order, cyclically."""
    n_items = masks.shape[1]
    order = (np.arange(n_items) + turn[:, None]) % n_items
    open_first = np.argsort(1 - np.take_along_axis(masks, order, axis=1), axis=1, kind="stable")
    picked = np.take_along_axis(order, open_first[:, :size], axis=1)
    return picked[:, 0] if size == 1 else picked


def drive(env: RecommendVectorEnv, seed: int | None, steps: int) -> list[list[dict[str, Any]]]:
    """What each slot lives, a list of records a slot; resting steps are left out."""
    observation, info = env.reset(seed=seed)
    lives: list[list[dict[str, Any]]] = [[] for _ in range(env.num_envs)]
    for _ in range(steps):
        before = env.steps.copy()
        actions = allowed(info["action_mask"], env.slate_size, before * 3)
        observation, reward, terminated, truncated, info = env.step(actions)
        assert observation in env.observation_space
        for slot in np.flatnonzero(info["_choice"]):
            lives[slot].append(
                {
                    "observation": {
                        key: value[slot].tolist() for key, value in observation.items()
                    },
                    "reward": float(reward[slot]),
                    "ends": (bool(terminated[slot]), bool(truncated[slot])),
                    "info": {k: str(v) for k, v in of_slot(info, slot).items()},
                }
            )
    return lives


@pytest.mark.parametrize("slate_size", [1, 5])
def test_seed_governs_everything(tiny_users: Any, slate_size: int) -> None:
    env = RecommendVectorEnv(4, users=tiny_users, slate_size=slate_size)
    again = RecommendVectorEnv(4, users=tiny_users, slate_size=slate_size)
    first = drive(env, 3, 40)
    assert drive(again, 3, 40) == first
    assert drive(env, 3, 40) == first  # the same environment, seeded anew
    assert drive(env, 4, 40)[:3] == first[1:]  # environment i of seed s is i - 1 of seed s + 1
    assert drive(env, 400, 40) != first
    assert drive(env, None, 40) != first


def test_batch_changes_nothing(tiny_users: Any) -> None:
    """Environment i of a vector seeded s lives the sessions of a single one seeded s + i."""
    settings: dict[str, Any] = {"users": tiny_users, "slate_size": 3, "step_limit": 6}
    lives = drive(RecommendVectorEnv(5, **settings, mask_in_observation=True), 11, 40)
    for slot, life in enumerate(lives):
        env = RecommendEnv(**settings, mask_in_observation=True)
        _, info = env.reset(seed=11 + slot)
        episodes = 1
        for record in life:
            turn = env.core.steps * 3
            action = allowed(info["action_mask"][0][None], 3, turn)[0]
            observation, reward, terminated, truncated, info = env.step(action)
            assert {k: v.tolist() for k, v in observation.items()} == record["observation"]
            assert reward == record["reward"]
            assert (terminated, truncated) == record["ends"]
            info_of_vector = {k: v for k, v in record["info"].items() if k != "action_mask"}
            assert {k: str(v) for k, v in info.items() if k != "action_mask"} == info_of_vector
            if terminated or truncated:
                _, info = env.reset()
                episodes += 1
        assert episodes > 3


def test_unseeded_sessions_follow_the_generator(tiny_users: Any) -> None:
    users = []
    for seed in (1, 1, 2):
        env = RecommendVectorEnv(20, users=tiny_users)
        env.np_random = np.random.default_rng(seed)
        users.append(env.reset()[1]["user"].tolist())
    assert users[0] == users[1] != users[2]


def test_reset_goes_on_to_the_next_session(tiny_users: Any) -> None:
    env = RecommendVectorEnv(20, users=tiny_users)
    users = [env.reset(seed=0)[1]["user"].tolist(), env.reset()[1]["user"].tolist()]
    assert users[0] != users[1]
    assert [env.reset(seed=0)[1]["user"].tolist(), env.reset()[1]["user"].tolist()] == users


def test_in_order_meets_every_user_once(tiny_users: Any) -> None:
    env = RecommendVectorEnv(12, users=tiny_users, population="test", in_order=True)
    names = tiny_users.starts("test").users.tolist()
    for seed in (0, None, 7):  # each session of a slot is of the same user, whatever the seed
        assert env.reset(seed=seed)[1]["user"].tolist() == [*names, *names[:2]]


def test_start_is_the_users_history(tiny_users: Any) -> None:
    env = RecommendVectorEnv(6, users=tiny_users, start=3, population="test", history_size=5)
    observation, info = env.reset(seed=0)
    starts = tiny_users.starts("test")
    for slot, name in enumerate(info["user"]):
        row = starts.users.tolist().index(name)
        events = slice(starts.offsets[row], starts.offsets[row] + 3)
        assert observation["item"][slot].tolist() == [*starts.items[events].tolist(), 0, 0]
        assert observation["feedback"][slot].tolist() == [*starts.levels[events].tolist(), 0, 0]
        assert np.flatnonzero(info["action_mask"][slot] == 0).tolist() == sorted(
            starts.items[events].tolist()
        )
    assert observation["length"].tolist() == [[3]] * 6


def test_history_grows_by_what_is_chosen_and_slides(tiny_users: Any) -> None:
    env = RecommendVectorEnv(8, users=tiny_users, start=2, history_size=4, leave_after_skip=0)
    observation, info = env.reset(seed=1)
    known = [
        list(zip(row[:2].tolist(), given[:2].tolist(), strict=True))
        for row, given in zip(observation["item"], observation["feedback"], strict=True)
    ]
    for _ in range(12):
        kept = {key: value.copy() for key, value in observation.items()}
        held = observation
        observation, _, terminated, truncated, info = env.step(
            allowed(info["action_mask"], 1, env.steps)
        )
        assert all((kept[key] == held[key]).all() for key in kept)  # not a view of a buffer
        for slot in range(8):
            if not info["_choice"][slot]:  # a new session began
                known[slot] = list(zip(*(part.tolist() for part in env.history(slot)), strict=True))
            elif info["choice"][slot] >= 0:
                known[slot].append((int(info["item"][slot]), int(info["level"][slot])))
            length = observation["length"][slot, 0]
            assert length == min(len(known[slot]), 4)
            seen = zip(
                observation["item"][slot, :length].tolist(),
                observation["feedback"][slot, :length].tolist(),
                strict=True,
            )
            assert list(seen) == known[slot][-4:]
            assert not observation["item"][slot, length:].any()
    assert max(map(len, known)) > 4


def test_masks_hide_the_consumed_and_slates_bind(tiny_users: Any) -> None:
    """Random slates, with consumed items and copies in them, over many sessions."""
    env = RecommendVectorEnv(16, users=tiny_users, slate_size=4, mask_in_observation=True)
    observation, info = env.reset(seed=5)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        masks, sizes = info["action_mask"], info["action_mask"].sum(axis=1)
        assert (observation["mask"] == masks).all()
        assert (env.action_masks() == np.tile(masks == 1, (1, 4))).all()
        slates = generator.integers(30, size=(16, 4))
        slates[:, 3] = slates[:, 0]
        observation, _, _, _, info = env.step(slates)
        for slot in np.flatnonzero(info["_choice"]):
            place, item = info["choice"][slot], info["item"][slot]
            if place < 0:
                refused += 1
                assert item == info["level"][slot] == -1 and np.isnan(info["feedback"][slot])
                assert not info["_feedback"][slot]
                continue
            assert place < 3 and slates[slot, place] == item
            assert masks[slot, item] == 1 and info["action_mask"][slot, item] == 0
            assert info["action_mask"][slot].sum() == sizes[slot] - 1
            assert info["feedback"][slot] == info["level"][slot] + 1  # levels are worth 1…5
    assert refused > 50


def test_next_step_autoreset(tiny_users: Any) -> None:
    env = RecommendVectorEnv(6, users=tiny_users, step_limit=4, leave_after_skip=0.5)
    _, info = env.reset(seed=0)
    resting = np.zeros(6, np.bool_)
    ends = {"terminated": 0, "truncated": 0}
    for _ in range(30):
        observation, reward, terminated, truncated, info = env.step(
            allowed(info["action_mask"], 1, env.steps)
        )
        assert not (terminated & truncated).any()
        assert (info["_choice"] == ~resting).all() and info["_user"].all()
        assert (env.steps[resting] == 0).all() and (env.steps[~resting] > 0).all()
        assert not reward[resting].any() and not (terminated | truncated)[resting].any()
        assert (observation["length"][resting] == 8).all()
        assert (truncated <= (env.steps == 4)).all()
        resting = terminated | truncated
        ends["terminated"] += terminated.sum()
        ends["truncated"] += truncated.sum()
    assert min(ends.values()) > 3


def test_same_step_autoreset(tiny_users: Any) -> None:
    """The sessions are those of NEXT_STEP, with the last observation and info set aside."""
    settings: dict[str, Any] = {"users": tiny_users, "step_limit": 4, "mask_in_observation": True}
    lives = drive(RecommendVectorEnv(6, **settings), 2, 40)
    env = RecommendVectorEnv(6, **settings, autoreset_mode=AutoresetMode.SAME_STEP)
    _, info = env.reset(seed=2)
    at = np.zeros(6, np.int64)
    for _ in range(20):
        observation, reward, terminated, truncated, info = env.step(
            allowed(info["action_mask"], 1, env.steps * 3)
        )
        assert observation in env.observation_space
        finished = terminated | truncated
        assert (info["_choice"] == ~finished).all() and info["_action_mask"].all()
        assert ("final_obs" in info) == finished.any()
        for slot in range(6):
            record, own = lives[slot][at[slot]], info
            seen = {key: value[slot] for key, value in observation.items()}
            if finished[slot]:
                assert info["_final_obs"][slot] and info["_final_info"][slot]
                assert env.steps[slot] == 0 and seen["length"] == 8
                seen, own = info["final_obs"][slot], info["final_info"]
            assert {key: value.tolist() for key, value in seen.items()} == record["observation"]
            assert {k: str(v) for k, v in of_slot(own, slot).items()} == record["info"]
            assert reward[slot] == record["reward"]
        at += 1
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_disabled_autoreset_and_reset_mask(tiny_users: Any) -> None:
    env = RecommendVectorEnv(
        4, users=tiny_users, step_limit=3, leave_after_skip=0.6, autoreset_mode="Disabled"
    )
    _, info = env.reset(seed=0)
    resets = 0
    for _ in range(20):
        actions = allowed(info["action_mask"], 1, env.steps)
        before, names = env.steps.copy(), env.user_names.copy()
        observation, _, terminated, truncated, info = env.step(actions)
        finished = terminated | truncated
        if finished.any():
            with pytest.raises(ResetNeeded, match="have finished"):
                env.step(actions)
            options = {"reset_mask": finished}
            again, told = env.reset(options=options)
            assert list(options) == ["reset_mask"]
            assert (told["_user"] == finished).all() and (told["_action_mask"] == finished).all()
            assert (env.steps == np.where(finished, 0, before + 1)).all()
            assert (env.user_names == names)[~finished].all()
            assert (again["item"] == observation["item"])[~finished].all()
            info = told
            resets += 1
    assert resets > 3


def test_step_before_reset(tiny_users: Any) -> None:
    with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
        RecommendVectorEnv(2, users=tiny_users).step([0, 0])


def test_session_is_cut_when_items_run_out(make_tiny_users: Any) -> None:
    users = make_tiny_users(items=12)
    env = RecommendEnv(
        users=users, slate_size=3, start=8, acceptance=0.99, leave_after_choice=0, step_limit=99
    )
    _, info = env.reset(seed=0)
    truncated = False
    for _ in range(30):
        left = info["action_mask"][0].sum()
        assert not truncated and left >= 3
        action = np.flatnonzero(info["action_mask"][0])[:3]
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    assert truncated and info["action_mask"][0].sum() == 2


def test_reward_is_scaled_feedback_by_default(tiny_users: Any) -> None:
    env = RecommendVectorEnv(16, users=tiny_users)
    _, info = env.reset(seed=0)
    for _ in range(10):
        _, reward, _, _, info = env.step(allowed(info["action_mask"], 1, env.steps))
        expected = np.where(info["level"] >= 0, info["level"] / 4, 0.0)
        assert reward == pytest.approx(expected)
        assert info["reward_parts"]["feedback"] == pytest.approx(expected)


def test_reward_is_the_sum_of_its_parts_where_a_user_took_part(tiny_users: Any) -> None:
    def paid(response: Response, context: RewardContext) -> dict[str, np.ndarray]:
        return {"shown": np.full(6, -0.5), "chosen": (response.choice >= 0) * 2.0}

    env = RecommendVectorEnv(6, users=tiny_users, reward=paid, step_limit=2)
    _, info = env.reset(seed=0)
    for _ in range(6):
        _, reward, _, _, info = env.step(allowed(info["action_mask"], 1, env.steps))
        took_part = info["_reward_parts"]
        chosen = info["choice"] >= 0
        assert reward.tolist() == np.where(took_part, np.where(chosen, 1.5, -0.5), 0).tolist()
        assert (info["reward_parts"]["_shown"] == took_part).all()


def test_assumptions_reach_the_users(tiny_users: Any) -> None:
    def share(**settings: float) -> tuple[float, float]:
        env = RecommendVectorEnv(200, users=tiny_users, **settings)
        _, info = env.reset(seed=0)
        _, _, terminated, _, info = env.step(allowed(info["action_mask"], 1, env.steps))
        return (info["choice"] >= 0).mean(), terminated.mean()

    assert share(acceptance=0.05)[0] < 0.2 < 0.8 < share(acceptance=0.95)[0]
    assert share(leave_after_choice=1, leave_after_skip=1)[1] == 1
    assert share(leave_after_choice=0, leave_after_skip=0)[1] == 0


def test_all_slots_resting(tiny_users: Any) -> None:
    env = RecommendVectorEnv(2, users=tiny_users, step_limit=1)
    env.reset(seed=0)
    _, _, terminated, truncated, _ = env.step([20, 21])
    assert (terminated | truncated).all()
    observation, reward, terminated, truncated, info = env.step([20, 21])
    assert not (terminated | truncated).any() and not info["_choice"].any()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 30], "catalogue indices from 0 to 29, got 30"),
        ([-1, 0], "catalogue indices from 0 to 29, got -1"),
        ([0], r"shape \(2,\).*got int64 of shape \(1,\)"),
        ([[0, 1]], r"shape \(2,\)"),
        ([0.0, 1.0], "whole numbers.*float64"),
        ([True, False], "whole numbers.*bool"),
    ],
)
def test_illegal_actions(tiny_users: Any, actions: Any, message: str) -> None:
    env = RecommendVectorEnv(2, users=tiny_users)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"users": None}, "users is required.*audience-fit"),
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1, got 0"),
        ({"slate_size": 0}, "slate_size must be a whole number"),
        ({"slate_size": 1.5}, "slate_size must be a whole number.*1.5"),
        ({"slate_size": 23}, "slate_size must be at most 22 .*30 items.*got 23"),
        ({"step_limit": 0}, "step_limit must be a whole number of at least 1"),
        ({"start": 0}, "start must be a whole number from 1 to 8, got 0"),
        ({"start": 9}, "start must be a whole number from 1 to 8, got 9"),
        ({"start": True}, "start must be a whole number"),
        ({"history_size": 0}, "history_size must be a whole number of at least 1"),
        ({"acceptance": 1.0}, "acceptance must be"),
        ({"leave_after_skip": -0.1}, "leave_after_skip must be"),
        ({"population": "train"}, "population must be one of 'fitting', 'validation', 'test'"),
        ({"autoreset_mode": "Never"}, "autoreset_mode must be one of 'NextStep'"),
        ({"render_mode": "human"}, "render_mode must be one of None, 'ansi', 'rgb_array', got"),
    ],
)
def test_bad_settings(tiny_users: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecommendVectorEnv(**({"num_envs": 2, "users": tiny_users} | settings))


def test_bad_types(tiny_users: Any) -> None:
    with pytest.raises(TypeError, match="reward must be callable"):
        RecommendVectorEnv(2, users=tiny_users, reward=1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="users must be a directory or a user model"):
        RecommendVectorEnv(2, users=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": {"who": "a"}}, "may hold only 'reset_mask', 'user', 'history', got who"),
        ({"options": {"reset_mask": [True, False]}}, "must be a bool array"),
        ({"options": {"reset_mask": np.zeros(2, np.bool_)}}, "at least one True"),
        ({"seed": [1]}, "one such .* for each of the 2 environments"),
        ({"seed": [1, -1]}, "seed must be a whole number from 0 on"),
    ],
)
def test_bad_resets(tiny_users: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecommendVectorEnv(2, users=tiny_users).reset(**arguments)
