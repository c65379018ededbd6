import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium as gym
import pytest

import audience.envs  # noqa: F401  registers the ids
from audience.envs.default_users import shared_users


@pytest.fixture
def fake_bert(
    tiny_users: Any, make_tiny_users: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> SimpleNamespace:
    """Stands in for the fitted model: what is fitted and loaded is counted, nothing computed."""
    seen = SimpleNamespace(fits=[], loads=[], cache=tmp_path)

    class BertUserModel:
        @staticmethod
        def fit(log: str, out: Path) -> None:
            seen.fits.append((log, out))
            out.mkdir()

        @staticmethod
        def from_pretrained(path: Path) -> Any:
            seen.loads.append(path)
            return make_tiny_users()

    class InteractionLog:
        @staticmethod
        def load(name: str) -> str:
            return name

    for name, member in (("bert_users", BertUserModel), ("log", InteractionLog)):
        module = ModuleType(f"audience.reward_models.{name}")
        setattr(module, member.__name__, member)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("AUDIENCE_CACHE", str(tmp_path))
    return seen


def test_missing_default_users_are_fitted_once(
    fake_bert: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    env = gym.make_vec("audience/MovieLens-v0", num_envs=2)
    (fit,) = fake_bert.fits
    assert fit[0] == "movielens" and fit[1].parent == fake_bert.cache / "users"
    assert "movielens" in fit[1].name
    said = capsys.readouterr()
    assert "fitting" in said.err and str(fit[1]) in said.err and "minutes" in said.err
    assert said.out == ""
    again = gym.make("audience/MovieLensSlate-v0")
    assert len(fake_bert.fits) == 1 and len(fake_bert.loads) == 1
    assert again.unwrapped.core.users is env.unwrapped.users  # type: ignore[attr-defined]
    assert capsys.readouterr().err == ""


def test_a_directory_is_loaded_once_until_it_changes(
    fake_bert: SimpleNamespace, tmp_path: Path
) -> None:
    directory = tmp_path / "users"
    directory.mkdir()
    first = shared_users(directory)
    assert shared_users(str(directory)) is first and len(fake_bert.loads) == 1
    (directory / "config.json").write_text("{}")  # changes the directory's time
    assert shared_users(directory) is not first and len(fake_bert.loads) == 2
    del first
    assert len(fake_bert.loads) == 2


def test_given_users_are_taken_as_they_are(tiny_users: Any) -> None:
    env = gym.make("audience/MovieLens-v0", users=tiny_users)
    assert env.unwrapped.core.users is tiny_users  # type: ignore[attr-defined]
