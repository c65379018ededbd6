"""Users with witnesses: they live as alone, and disagreement is about choice and feedback."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from audience.agents.evaluation import evaluate
from audience.agents.greedy import GreedyAgent
from audience.envs.vector import RecommendVectorEnv
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.checked import CheckedUsers
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import FitSettings
from audience.reward_models.log import InteractionLog
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.users import Assumptions
from audience.reward_models.witnesses import SHARE, fit_witness


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> FitSettings:
    out = tmp_path_factory.mktemp("witness") / "0"
    return FitSettings(preset="tiny", device="cpu", out=str(out), studies=False)


@pytest.fixture(scope="module")
def witness(planted_log: InteractionLog, settings: FitSettings) -> BertUserModel:
    return fit_witness(FitData.of(planted_log, None, 0), settings, "time", 0)


def test_they_live_as_they_do_alone(planted_users: BertUserModel, witness: BertUserModel) -> None:
    agent = GreedyAgent(planted_users)
    checked = CheckedUsers(planted_users, [witness])
    alone, beside = (
        evaluate(agent, users, sessions_per_user=3, step_limit=6)
        for users in (planted_users, checked)
    )
    np.testing.assert_array_equal(alone.recommended, beside.recommended)
    np.testing.assert_array_equal(alone.levels, beside.levels)
    assert checked.catalogue is planted_users.catalogue and checked.learned == planted_users.learned


@pytest.mark.parametrize("slate_size", [1, 3])
def test_a_witness_of_themselves_never_disagrees_and_another_does(
    planted_users: BertUserModel, witness: BertUserModel, slate_size: int
) -> None:
    """In every state: a witness remembers what the users did, not what it would have done."""
    found = []
    for one in (planted_users, witness):
        users = CheckedUsers(planted_users, [one])
        env = RecommendVectorEnv(8, users=users, slate_size=slate_size, pessimism=2.0)
        _, info = env.reset(seed=3)
        for step in range(6):
            open_items = np.argsort(-info["action_mask"], axis=1, kind="stable")
            actions = open_items[:, step : step + slate_size]
            _, reward, _, _, info = env.step(actions[:, 0] if slate_size == 1 else actions)
            disagreement = info["disagreement"]
            found.append(disagreement)
            parts = info["reward_parts"]
            np.testing.assert_allclose(parts["uncertainty"], -2 * disagreement)
            np.testing.assert_allclose(reward, parts["feedback"] + parts["uncertainty"])
    same, other = np.array(found[:6]), np.array(found[6:])
    assert same.max() < 1e-6
    # Also of slates of which nothing was chosen, but for sessions that had just ended.
    assert (other > 1e-4).mean() > 0.8


def test_expected_rewards_are_choice_times_feedback(planted_users: BertUserModel) -> None:
    """Shown alone an item is worth what `score` ranks it by, as a probability and a mean level."""
    starts = planted_users.starts("test")
    slots = np.arange(len(starts))
    sessions = planted_users.open(len(starts), 1, Assumptions())
    sessions.start(slots, starts)
    slates = np.full((len(starts), 1), 7)
    said = sessions.expected(slots, slates)
    response = sessions.respond(slates, np.full((len(starts), 5), 0.5), np.ones(len(slots), bool))
    shares = planted_users.feedback(dataclasses.replace(starts), slates)[:, 0]
    wanted = response.accept_probability * (shares @ planted_users.scale.scaled)
    np.testing.assert_allclose(said, wanted, rtol=1e-4, atol=1e-6)


def test_pessimistic_scores_fall_by_the_disagreement(
    planted_users: BertUserModel, witness: BertUserModel
) -> None:
    starts = planted_users.starts("test").padded()

    def scores(pessimism: float, *others: BertUserModel, top: int = 12) -> NDArray[np.float32]:
        users = CheckedUsers(planted_users, others, pessimism)
        return users.score(*starts, Assumptions(), 1, top=top)

    plain = scores(0.0, witness)
    np.testing.assert_array_equal(plain, planted_users.score(*starts, Assumptions(), 1, top=12))
    sure = scores(3.0, planted_users)  # nobody disagrees: the same item is best
    some, more = scores(1.0, witness), scores(2.0, witness)
    scored = np.isfinite(plain)
    assert (np.isfinite(sure) == scored).all() and (scored.sum(1) == 12).all()
    np.testing.assert_array_equal(plain.argmax(1), sure.argmax(1))
    fall = sure[scored] - some[scored]
    assert fall.min() >= -1e-6 and fall.max() > 1e-3
    np.testing.assert_allclose(sure[scored] - more[scored], 2 * fall, atol=1e-5)
    consumed = np.arange(len(scored)), starts[0][:, 0]
    assert not scored[consumed].any()
    whole = scores(2.0, witness, top=99)
    np.testing.assert_array_equal(np.isneginf(whole).sum(1), starts[2])  # what is consumed, alone


def test_a_witness_knows_other_users_and_is_kept(
    planted_log: InteractionLog, witness: BertUserModel, settings: FitSettings
) -> None:
    again = BertUserModel.from_pretrained(settings.out, device="cpu")
    assert again.card == witness.card and again.card["witness"] == 0
    assert not Path(f"{settings.out}.partial").exists()
    everyone, some = FitData.of(planted_log, None, 0), witness.starts("fitting")
    assert len(some) == round(SHARE * len(everyone.split.fitting))
    copied = copy.deepcopy(CheckedUsers(witness, [again]))
    assert copied.card["witnesses"] == [again.card]


def test_a_sample_of_the_users_keeps_what_belongs_to_each() -> None:
    """Of a log with slates, leaves and dwell times; items, levels and the others stay."""
    data = FitData.of(ScriptedUsers().log(users=60), None, 0)
    part = data.sampled(0.5, np.random.default_rng(0))
    names = part.split.fitting.tolist()
    assert len(names) == round(len(data.split.fitting) / 2) and set(names) <= set(
        data.split.fitting
    )
    assert part.histories["fitting"].users.tolist() == names
    assert part.histories["test"] is data.histories["test"] and part.catalogue is data.catalogue
    whole, own = data.signals["fitting"], part.signals["fitting"]
    assert whole.slates is not None and own.slates is not None
    of, among = data.histories["fitting"], part.histories["fitting"]
    for row, name in enumerate(names):
        before = of.users.tolist().index(name)
        events = slice(*of.offsets[before : before + 2]), slice(*among.offsets[row : row + 2])
        for all_of, some_of in (
            (of.items, among.items),
            (data.values["fitting"], part.values["fitting"]),
            (whole.dwell, own.dwell),
            (whole.ends, own.ends),
        ):
            assert all_of is not None and some_of is not None
            np.testing.assert_array_equal(all_of[events[0]], some_of[events[1]])
        theirs, ours = whole.slates.user == before, own.slates.user == row
        for field in ("earlier", "chosen", "sizes"):
            np.testing.assert_array_equal(
                getattr(whole.slates, field)[theirs], getattr(own.slates, field)[ours]
            )
        first = whole.slates.offsets[:-1][theirs], own.slates.offsets[:-1][ours]
        np.testing.assert_array_equal(whole.slates.items[first[0]], own.slates.items[first[1]])


def test_what_does_not_fit_is_refused(planted_users: BertUserModel) -> None:
    with pytest.raises(ValueError, match="pessimism must be a finite number of at least 0, got -1"):
        CheckedUsers(planted_users, [], -1)
    other = copy.copy(planted_users)
    other._scale = dataclasses.replace(planted_users.scale, values=(1.0, 2.0))
    with pytest.raises(ValueError, match="witness 0 must have the .* of the users"):
        CheckedUsers(planted_users, [other])
