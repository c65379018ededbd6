"""Heads that lose on validation users give way to plainer ones, and the card says so."""

import numpy as np
import polars as pl
import pytest
import torch

from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.fit_data import FitData
from audience.reward_models.log import InteractionLog
from audience.reward_models.plainer_heads import GIVEN_WAY, give_way
from audience.reward_models.quality_data import QualityData
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.splits import UserSplit


@pytest.fixture(scope="module")
def log() -> InteractionLog:
    """Scripted users whose dwell times hang on nothing; few of the fitting users' are known."""
    scripted = ScriptedUsers(60).log(users=120, step_limit=20)
    assert scripted.shown is not None
    rng = np.random.default_rng(0)
    seconds = pl.Series(np.exp(rng.normal(size=len(scripted.shown))))
    few = pl.Series(rng.random(len(seconds)) < 0.1)
    fitting = pl.col("user_id").is_in(UserSplit.of(scripted.user_ids, 0).fitting.tolist())
    known = (pl.col("chosen") == 1) & (few | ~fitting)
    rows = scripted.shown.with_columns(dwell_seconds=pl.when(known).then(seconds).otherwise(None))
    return InteractionLog.from_frames(rows, scripted.items)


@pytest.fixture(scope="module")
def users(log: InteractionLog, tmp_path_factory: pytest.TempPathFactory) -> BertUserModel:
    out = tmp_path_factory.mktemp("fits") / "users"
    return BertUserModel.fit(log, out, preset="tiny", device="cpu", verbose=False)


@pytest.fixture(scope="module")
def data(log: InteractionLog) -> QualityData:
    return FitData.of(log, None, 0).quality(0)


def test_dwell_times_that_hang_on_nothing_are_a_constant(
    users: BertUserModel, data: QualityData
) -> None:
    assert GIVEN_WAY["dwell"] in users.card["assumptions"]
    assert "dwell" in users.card["settings"]["gave_way"]
    found = users.predict_dwell(data.test)
    assert found is not None
    mean, std = found
    constant = users.card["dwell"]["constant"]["settings"]
    np.testing.assert_allclose(mean, constant["mean"], atol=1e-5)
    np.testing.assert_allclose(std, constant["std"], rtol=1e-5)
    assert constant["std"] == pytest.approx(1, abs=0.3)
    assert users.card["dwell"]["difference"]["nll"]["mean"] == pytest.approx(0, abs=1e-5)


def test_a_leave_head_that_loses_gives_way(users: BertUserModel, data: QualityData) -> None:
    slates = users.model.slates
    assert data.signals is not None and data.signals["validation"].slates is not None
    shown = data.signals["validation"].slates
    by_answer = slates.leave_base.weight.clone()
    # A state that misleads: leaving by the answer alone is right again.
    with torch.no_grad():
        slates.leave_out.weight.normal_(0, 30, generator=torch.Generator().manual_seed(0))
    assert give_way(users, data)[:1] == ["leave_by_answer"]
    assert not slates.leave_out.weight.any() and torch.equal(slates.leave_base.weight, by_answer)
    # What does not lose stays: here leaving is only right with what is not the answer's.
    with torch.no_grad():
        slates.leave_base.weight += 3
        slates.leave_out.bias -= 3
    assert "leave" not in " ".join(give_way(users, data))
    assert slates.leave_out.bias.item() == -3
    torch.testing.assert_close(slates.leave_base.weight, by_answer + 3)
    # Answers that mislead, too: the rates after a choice and after a skip are left.
    with torch.no_grad():
        slates.leave_base.weight[:-1] = torch.linspace(-4, 4, slates.levels)[:, None]
    assert give_way(users, data)[:1] == ["leave"]
    said = users.predict_leaves(data.validation, shown)
    assert said is not None
    fitting = data.signals["fitting"].slates
    assert fitting is not None and fitting.ends is not None
    late = fitting.earlier >= 5
    for chose in (True, False):
        own = said[(shown.chosen >= 0) == chose]
        ends = fitting.ends[late & ((fitting.chosen >= 0) == chose)]
        assert np.ptp(own) < 1e-5
        assert own[0] == pytest.approx((ends.sum() + 0.5) / (len(ends) + 1), abs=1e-5)
