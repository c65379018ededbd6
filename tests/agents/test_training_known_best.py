from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audience.agents.evaluation import bootstrap_interval
from audience.agents.known_best import KnownBest
from audience.agents.training import train
from audience.agents.training_settings import TrainSettings
from audience.envs.scripted import scripted_users


@pytest.mark.slow
def test_ppo_comes_near_the_best_policy_of_scripted_users_and_beats_greedy(tmp_path: Path) -> None:
    users = scripted_users()
    runs = [
        TrainSettings(
            users="scripted",
            out=str(tmp_path / str(seed)),
            steps=200_000,
            evaluations=0,
            seed=seed,
            device="cpu",
        )
        for seed in range(2)
    ]
    for run in runs:
        train(users, run, progress=False)
    known = KnownBest.of(users, runs[0])
    own = np.mean([known.returns(run) for run in runs], axis=0)
    assert own.mean() >= 0.9 * known.best.mean()
    low, _ = bootstrap_interval(own - known.greedy)
    assert low > 0
    assert "of the best" in known.sentence(runs)
