from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO

from audience.agents import __main__ as program
from audience.agents.baselines import RandomAgent
from audience.agents.evaluation import evaluate
from audience.agents.training import policy_arguments, train
from audience.agents.training_settings import TrainSettings
from audience.reward_models import users as users_module
from audience.reward_models.mixed import MixedUsers

SMALL: dict[str, Any] = {"steps": 600, "num_envs": 12, "evaluations": 2, "device": "cpu"}


def scalars(directory: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_a_run_leaves_its_model_figures_and_curves(tiny_users: Any, tmp_path: Path) -> None:
    settings = TrainSettings(out=str(tmp_path / "ppo"), slate_size=3, **SMALL)
    out = train(tiny_users, settings, progress=False)
    run = json.loads((out / "training.json").read_text())
    assert run["algo"] == "ppo" and run["steps"] == 600 and run["steps_per_second"] > 0
    final = run["final"]["simulator"]["return"]
    assert final["low"] <= final["mean"] <= final["high"]
    assert run["settings"]["slate_size"] == 3
    assert run["settings"]["assumptions"]["acceptance"] is None  # as learned, else as stated
    record = json.loads((out / "settings.json").read_text())
    assert record["settings"]["seed"] == 0 and "torch" in record["versions"]
    assert not list(out.glob(".*"))
    assert {
        "users/like_rate",
        "users/acceptance",
        "users/leave_rate",
        "users/session_length",
        "recommendations/coverage",
        "recommendations/gini",
        "charts/steps_per_second",
        "evaluation/return",
        "rollout/ep_rew_mean",
    } <= scalars(out)
    # The model loads, and the file's figure is its own.
    model = PPO.load(out / "model.zip", device="cpu")
    again = evaluate(
        model, tiny_users, population="validation", sessions_per_user=4, **settings.env_kwargs
    )
    assert again.summary()["return"] == final


def test_a_finished_run_is_reused_and_other_settings_are_refused(
    tiny_users: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrainSettings(out=str(tmp_path), **SMALL)
    train(tiny_users, settings, progress=False)
    before = (tmp_path / "model.zip").stat().st_mtime_ns
    train(tiny_users, settings, progress=False)
    assert "reused" in capsys.readouterr().out
    assert (tmp_path / "model.zip").stat().st_mtime_ns == before
    other = TrainSettings(out=str(tmp_path), **{**SMALL, "steps": 300})
    with pytest.raises(ValueError, match=r"steps was 600 and is now 300\); pass another out"):
        train(tiny_users, other, progress=False)
    train(tiny_users, TrainSettings(**{**vars(other), "overwrite": True}), progress=False)
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == 300


def test_a_killed_run_starts_over(
    tiny_users: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(out=str(tmp_path), **SMALL)

    def killed(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PPO, "save", killed)
        train(tiny_users, settings, progress=False)
    assert not (tmp_path / "model.zip").exists() and not (tmp_path / "training.json").exists()
    (tmp_path / ".model.1.tmp.zip").write_text("half")
    train(tiny_users, settings, progress=False)
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    assert not list(tmp_path.glob(".*"))


def test_the_same_seed_trains_the_same_agent(tiny_users: Any, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = train(
            tiny_users, TrainSettings(out=str(tmp_path / name), seed=seed, **SMALL), progress=False
        )
        weights.append(PPO.load(out / "model.zip", device="cpu").policy.scorer.items.learned)
    assert (weights[0] == weights[1]).all() and (weights[0] != weights[2]).any()


def test_the_policy_starts_from_popularity_and_reads_text(tiny_users: Any) -> None:
    arguments = policy_arguments(tiny_users, TrainSettings())
    popularity = tiny_users.catalogue.popularity
    np.testing.assert_allclose(np.exp(arguments["item_bias"]), popularity, rtol=1e-5)
    # TF-IDF of "Item number 7": like items by their words, of unit length.
    np.testing.assert_allclose(np.square(arguments["item_vectors"]).sum(1), 1, rtol=1e-5)
    ids_only = policy_arguments(tiny_users, TrainSettings(item_text=False))
    assert ids_only["item_vectors"] is None

    class WithText:
        catalogue = tiny_users.catalogue
        text_vectors = np.zeros((30, 4), np.float32)

    without = TrainSettings(item_bias="none")
    arguments = policy_arguments(WithText(), without)  # type: ignore[arg-type]
    assert arguments["item_bias"] is None
    assert arguments["item_vectors"] is WithText.text_vectors


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algo": "dreamer"}, "algo must be one of ppo, maskable_ppo, .* got 'dreamer'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"num_envs": -1}, "num_envs must be at least 1, got -1"),
        ({"algo": "dqn", "slate_size": 3}, "slate_size must be 1 with algo='dqn'"),
        ({"algo": "sac", "warm_start": "log"}, "warm_start must be 'none' with algo='sac'"),
        ({"users": "scripted", "partners": "b"}, "partners must be None with users='scripted'"),
        ({"early_stop": 2}, "early_stop needs an inner_judge and evaluations"),
    ],
)
def test_bad_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainSettings(**wrong)


def test_the_program_trains_and_shows_a_table(
    tiny_users: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(program, "load_users", lambda path: tiny_users)
    command = ["--users", "tiny", "--out", str(tmp_path), "--steps", "300", "--num-envs", "12"]
    program.main([*command, "--assumptions.acceptance", "0.6"])
    shown = capsys.readouterr().out
    assert "return" in shown and "validation users" in shown
    run = json.loads((tmp_path / "training.json").read_text())
    assert run["settings"]["assumptions"]["acceptance"] == 0.6
    for wrong, message in (
        (["--algo", "dreamer"], "algo must be one of ppo, maskable_ppo"),
        (["--stepz", "3"], "--stepz"),
    ):
        with pytest.raises(SystemExit, match="2"):
            program.main([*command, *wrong])
        assert message in capsys.readouterr().err
    both = [*command, "--seeds", "2", "--out", str(tmp_path / "two")]
    program.main(both)
    for seed in (0, 1):
        told = json.loads((tmp_path / "two" / f"seed-{seed}" / "training.json").read_text())
        assert told["settings"]["seed"] == seed
    # What only shows later ends with the same kind of line.
    with pytest.raises(SystemExit, match="steps was 300 and is now 301"):
        program.main([*command, "--assumptions.acceptance", "0.6", "--steps", "301"])


def test_users_and_their_partners_are_one_population(
    tiny_users: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(path: str) -> Any:
        loaded.append(path)
        return tiny_users

    monkeypatch.setattr(program, "load_users", load)
    assert program._users(TrainSettings(users="a")) is tiny_users
    users = program._users(TrainSettings(users="a", partners="b, c"))
    assert isinstance(users, MixedUsers) and len(users.models) == 3
    assert loaded == ["a", "a", "b", "c"]


@pytest.mark.slow
def test_ppo_learns_to_please_the_tiny_users(tiny_users: Any, tmp_path: Path) -> None:
    settings = TrainSettings(out=str(tmp_path), steps=100_000, num_envs=64, device="cpu")
    out = train(tiny_users, settings, progress=False)
    model = PPO.load(out / "model.zip", device="cpu")
    learned = evaluate(model, tiny_users, sessions_per_user=20).summary()["return"]
    random = evaluate(RandomAgent(30), tiny_users, sessions_per_user=20).summary()["return"]
    assert learned["low"] > random["high"]


def test_users_module_is_what_the_program_loads() -> None:
    assert program.load_users is users_module.load_users
