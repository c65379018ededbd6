"""Fitting: settings are checked, a killed fit leaves nothing and resumes, the program speaks."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from audience.reward_models import fitting
from audience.reward_models.__main__ import main
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.errors import LogError, UserModelError
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import FitSettings
from audience.reward_models.log import InteractionLog
from audience.reward_models.splits import UserSplit


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"preset": "huge"}, "preset must be one of tiny, demo, full"),
        ({"half": "c"}, "half must be a, b or None"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"learning_rate": -1.0}, "learning_rate must be"),
        ({"interactions": "a.csv"}, "interactions and items go together"),
        ({"log": "movielens", "interactions": "a", "items": "b"}, "not both"),
    ],
)
def test_bad_settings_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FitSettings(**wrong)  # type: ignore[arg-type]


def test_halves_share_items_and_test_users(planted_log: InteractionLog) -> None:
    a, b = (FitData.of(planted_log, half, 0) for half in ("a", "b"))
    assert a.catalogue.item_ids.tolist() == b.catalogue.item_ids.tolist()
    assert a.split.test.tolist() == b.split.test.tolist()
    assert not set(a.split.fitting) & set(b.split.fitting)


def test_a_log_of_too_few_users_is_refused(planted_log: InteractionLog, tmp_path: Path) -> None:
    some = planted_log.user_ids[:3].tolist()
    rows = planted_log.interactions["user_id"].is_in(some)
    log = InteractionLog.from_frames(planted_log.interactions.filter(rows), planted_log.items)
    with pytest.raises(LogError, match="at least 2 items with min_events=5"):
        BertUserModel.fit(log, tmp_path / "users", preset="tiny", verbose=False)
    assert not list(tmp_path.iterdir())


def test_a_log_whose_validation_users_met_nothing_frequent_is_refused(
    planted_log: InteractionLog, tmp_path: Path
) -> None:
    # Every user meets two items that all meet, but for the validation users, who meet one each.
    users = planted_log.user_ids[:40]
    lonely = set(UserSplit.of(users, 0).validation.tolist())
    rows = [
        (user, item)
        for i, user in enumerate(users.tolist())
        for item in ([f"i{2 + i % 38}"] if user in lonely else ["i0", "i1"])
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    log = InteractionLog.from_frames(frame, planted_log.items)
    with pytest.raises(LogError, match="validation users has an event"):
        BertUserModel.fit(log, tmp_path / "users", preset="tiny", verbose=False)
    assert not list(tmp_path.iterdir())


def test_the_assumptions_do_not_deny_what_the_log_has(planted_log: InteractionLog) -> None:
    plain = " ".join(fitting._assumptions(planted_log, frozenset()))
    assert "no sessions of use" in plain and "no dwell times" in plain
    frame = planted_log.interactions.with_columns(session_id=pl.lit("s"), dwell_seconds=pl.lit(2.0))
    items = planted_log.items.rename({"text": "title"})
    log = InteractionLog.from_frames(frame, items)
    judged = " ".join(fitting._assumptions(log, frozenset()))
    assert "these users learn nothing from sessions of use" in judged
    assert "these users learn nothing from dwell times" in judged and "no impressions" in judged
    learned = " ".join(fitting._assumptions(log, frozenset({"leave", "dwell"})))
    assert "constant chance" not in learned and "dwell:" not in learned
    assert "the log has no skips" in learned


def test_a_directory_of_something_else_is_not_overwritten(
    planted_log: InteractionLog, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserModelError, match="no user model directory"):
        BertUserModel.fit(planted_log, tmp_path, preset="tiny", verbose=False)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_killed_fit_resumes_to_the_same_users(
    planted_log: InteractionLog,
    planted_users: BertUserModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "users"

    class Killed(BaseException):
        """As a signal would."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("audience.reward_models.tower._EpochOrders.on_epoch_end", kill, raising=False)
        with pytest.raises(Killed):
            BertUserModel.fit(planted_log, out, preset="tiny", device="cpu", verbose=False)
    assert not out.exists()
    with monkeypatch.context() as patch:  # killed again, with a checkpoint behind it
        patch.setattr(fitting, "quality", kill)
        with pytest.raises(Killed):
            BertUserModel.fit(planted_log, out, preset="tiny", device="cpu", verbose=False)
    assert not out.exists()
    assert list((tmp_path / "users.partial" / "checkpoints").glob("checkpoint-*"))
    users = BertUserModel.fit(planted_log, out, preset="tiny", device="cpu", verbose=False)
    starts = planted_users.starts("test")
    np.testing.assert_allclose(
        users.predict_events(starts).shares, planted_users.predict_events(starts).shares, atol=1e-6
    )


def test_the_program_fits_ones_own_files_and_reuses_them(
    planted_log: InteractionLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted_log.interactions.write_csv(tmp_path / "a.csv")
    planted_log.items.rename({"text": "title"}).write_csv(tmp_path / "b.csv")
    out = tmp_path / "users"
    arguments = ["--interactions", str(tmp_path / "a.csv"), "--items", str(tmp_path / "b.csv")]
    arguments += ["--text", "{title}", "--preset", "tiny", "--device", "cpu", "--out", str(out)]
    main(arguments)
    said = capsys.readouterr()
    assert "RMSE" in said.err and "reused" not in said.err
    settings = json.loads((out / "settings.json").read_text())
    assert settings["seed"] == 0 and settings["versions"]["audience"]
    assert list(out.glob("logs/events.out.tfevents.*"))
    main(arguments)
    assert "reused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--log", "netflix"], "movielens"),
        (["--log", "movielens", "--preset", "tiny", "--device", "tpu9"], "device"),
        (["--interactions", "nowhere.csv", "--items", "nothing.csv"], "nowhere.csv"),
    ],
)
def test_what_the_user_can_cure_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--out", str(tmp_path / "users")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "users").exists()
