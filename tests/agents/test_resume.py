from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from audience.agents.algorithms import algorithm_of
from audience.agents.callbacks import UsersCallback
from audience.agents.checkpoints import CheckpointError, load_checkpoint
from audience.agents.training import record_of, train
from audience.agents.training_settings import TrainSettings

SMALL: dict[str, Any] = {
    "steps": 240,
    "num_envs": 12,
    "evaluations": 3,
    "sessions_per_user": 1,
    "device": "cpu",
}


class Killed(BaseException):
    """Nothing in the program catches it."""


def killed_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """Let a training die in the middle of the rollout in which it reaches so many user-steps."""

    def die(self: BaseCallback) -> bool:
        if self.num_timesteps >= steps:
            raise Killed
        return True

    patch.setattr(UsersCallback, "_on_step", die)
    patch.setattr(UsersCallback, "_on_rollout_end", lambda self: None)


def parameters(out: Path, algo: str) -> dict[str, torch.Tensor]:
    model = algorithm_of(algo).make.load(out / "model.zip", device="cpu")  # type: ignore[attr-defined]
    found: dict[str, torch.Tensor] = model.policy.state_dict()
    return found


@pytest.mark.parametrize(
    ("algo", "warm"),
    [
        ("ppo", "none"),
        ("ppo", "log"),  # its learning rate falls from the first step to the last
        ("dqn", "none"),
        *(
            pytest.param(n, "none", marks=pytest.mark.slow)
            for n in ("maskable_ppo", "a2c", "qr_dqn", "sac", "td3")
        ),
    ],
)
def test_a_killed_run_ends_as_one_that_was_not(
    algo: str, warm: str, tiny_users: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Users whose leaving is an assumption: it is counted in rollouts, also after the resume.
    monkeypatch.setattr(tiny_users, "learned", frozenset(), raising=False)
    # Several rollouts of PPO too, so that a checkpoint lies between them.
    monkeypatch.setattr("audience.agents.algorithms.ROLLOUT", 60)
    kind = {**SMALL, "algo": algo, "warm_start": warm, "warm_start_steps": 5}
    whole = TrainSettings(out=str(tmp_path / "whole"), **kind)
    train(tiny_users, whole, progress=False)
    cut = TrainSettings(out=str(tmp_path / "cut"), checkpoint_seconds=0.0, **kind)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(150, patch)
        train(tiny_users, cut, progress=False)
    assert (tmp_path / "cut" / "checkpoint.pt").exists()
    assert not (tmp_path / "cut" / "training.json").exists()
    train(tiny_users, dataclasses.replace(cut, checkpoint_seconds=60.0), progress=False)
    told = [json.loads((tmp_path / n / "training.json").read_text()) for n in ("whole", "cut")]
    assert told[0]["final"] == told[1]["final"] and told[0]["steps"] == told[1]["steps"]
    weights = [parameters(tmp_path / name, algo) for name in ("whole", "cut")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=0, atol=0)
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()
    assert not list((tmp_path / "cut").glob(".*"))


def test_a_checkpoint_that_does_not_fit_is_refused(
    tiny_users: Any, make_tiny_users: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(out=str(tmp_path), checkpoint_seconds=0.0, **{**SMALL, "algo": "a2c"})
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(150, patch)
        train(tiny_users, settings, progress=False)
    moved = dataclasses.replace(settings, users="elsewhere")
    assert load_checkpoint(tmp_path / "checkpoint.pt", record_of(tiny_users, moved))
    other = TrainSettings(out=str(tmp_path), **{**SMALL, "algo": "dqn"})
    with pytest.raises(CheckpointError, match=r"another run \(algo was 'a2c' and is now 'dqn'"):
        train(tiny_users, other, progress=False)
    with pytest.raises(CheckpointError, match="the users, or the catalogue, are other ones"):
        train(make_tiny_users(items=31), settings, progress=False)
    path, record = tmp_path / "checkpoint.pt", record_of(tiny_users, settings)
    older = {**record, "versions": {**record["versions"], "torch": "1.0"}}
    with pytest.raises(CheckpointError, match=r"torch was .* and is now 1\.0"):
        load_checkpoint(path, older)
    with monkeypatch.context() as patch:
        patch.setattr("audience.agents.checkpoints.FORMAT", 99)
        with pytest.raises(CheckpointError, match="of format 1, this version reads format 99"):
            load_checkpoint(path, record)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is damaged .* pass overwrite"):
        train(tiny_users, settings, progress=False)
    train(tiny_users, TrainSettings(**{**vars(settings), "overwrite": True}), progress=False)
    assert (tmp_path / "training.json").exists()
