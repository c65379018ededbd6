"""The tilt of free-running choice, and the normaliser of what a slate's items are worth."""

import copy

import numpy as np
import pytest
import torch

from audience.reward_models import choosing
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.engine import BehaviourEngine
from audience.reward_models.histories import Histories
from audience.reward_models.inputs import CollaborativeInputs
from audience.reward_models.tilting import fit_tilt
from audience.reward_models.users import DRAWS, Assumptions


def sampled_histories(users: BertUserModel, seed: int, n: int = 60) -> Histories:
    """Histories of 16 events that the users themselves write."""
    rng = np.random.default_rng(seed)
    firsts = [[(int(item), 0)] for item in rng.integers(len(users.catalogue), size=n)]
    return users.simulate(Histories.from_lists(firsts), np.full(n, 16), seed)


POPULARITY = np.geomspace(1, 30, 40) / np.geomspace(1, 30, 40).sum()
"""Of the 40 planted items, which are in truth all alike: a trait for users to run after."""


def mean_popularity(histories: Histories) -> float:
    return float(np.log(POPULARITY)[histories.items].mean())


def test_users_that_run_to_what_is_popular_are_called_back(planted_users: BertUserModel) -> None:
    real = sampled_histories(planted_users, seed=3)
    wrong = BertUserModel(
        copy.deepcopy(planted_users.model),
        planted_users.catalogue,
        planted_users.scale,
        {name: planted_users.starts(name) for name in ("fitting", "validation", "test")},
    )
    with torch.no_grad():  # what is popular draws far too much
        wrong.model.tilt.prepare(POPULARITY, wrong.catalogue.mean_feedback, wrong.text_vectors)
        wrong.model.item_bias.weight[:, 0] += torch.from_numpy(np.log(POPULARITY))
    wanted = mean_popularity(real)
    starts, lengths = real.first(5), real.lengths
    before = mean_popularity(wrong.simulate(starts, lengths, 9)) - wanted
    folds = np.zeros(len(real), np.int64)
    fit_tilt(wrong, real, real, wrong.model.inputs, folds, most=60, seed=0)
    after = mean_popularity(wrong.simulate(starts, lengths, 9)) - wanted
    assert before > 0.1
    assert abs(after) < before / 3
    told = wrong.predict_events(real).choice_nll
    wrong.model.tilt.weights.zero_()
    assert np.array_equal(told, wrong.predict_events(real).choice_nll)  # tilted in sessions only


def test_a_slate_is_worth_what_the_whole_catalogue_says(planted_users: BertUserModel) -> None:
    """The normaliser is kept between steps: it must follow every event and every new session."""
    sessions = planted_users.open(3, 2, Assumptions())
    starts = planted_users.starts("test").take(np.arange(3))
    sessions.start(np.arange(3), starts)
    rng, rows = np.random.default_rng(0), torch.arange(3)
    slates = np.array([[20, 21], [22, 23], [24, 25]])
    for step in range(4):
        with torch.inference_mode():
            whole = sessions.engine.utilities(sessions.states, rows)
            asked = sessions.engine.appeals(sessions.states, rows, torch.from_numpy(slates))
        torch.testing.assert_close(asked, whole.gather(1, torch.from_numpy(slates)))
        active = np.array([True, step != 1, True])
        sessions.respond(slates, rng.random((3, DRAWS)), active)
        if step == 2:
            sessions.start(np.array([1]), starts.take(np.array([0])))
        slates = slates + 4


def test_a_sampled_normaliser_is_near_the_exact_one(
    planted_users: BertUserModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories, rows = sampled_histories(planted_users, seed=5, n=8), torch.arange(8)
    slates = torch.tensor([[30], [31]] * 4)
    found = []
    for exact in (20_000, 10):
        monkeypatch.setattr(choosing, "EXACT_ITEMS", exact)
        engine = BehaviourEngine(planted_users.model)
        states = engine.new_states(8)
        with torch.inference_mode():
            engine.encode(states, rows, histories)
            found.append(engine.appeals(states, rows, slates))
    # All 40 items are among those that EASE covers, so nothing is left to the sample.
    torch.testing.assert_close(found[0], found[1])


def test_fitting_users_are_run_with_the_folds_that_do_not_hold_them(
    planted_users: BertUserModel,
) -> None:
    """As many folds as levels: what is cut by folds must not be cut by its length."""
    real = sampled_histories(planted_users, seed=7, n=12)
    own, levels = planted_users.model.inputs, len(planted_users.scale)
    values = np.array(planted_users.scale.values)
    vectors = planted_users.text_vectors
    parts = [(real, values[real.levels])] * levels
    crossed = CollaborativeInputs.fit(
        parts, 40, values, factors=2, penalty=2.0, ease_l2=5.0, seed=0, vectors=vectors
    )
    alone = crossed.of_fold(1)
    assert alone.base.shape == own.base.shape and alone.level_shares.shape == (levels,)
    assert torch.equal(alone.ease[0], crossed.ease[1])
    before = planted_users.model.tilt.weights.clone()
    folds = np.arange(12) % levels
    fit_tilt(planted_users, real.take(np.arange(2)), real, crossed, folds, most=8, seed=0)
    assert torch.isfinite(planted_users.model.tilt.weights).all()
    planted_users.model.tilt.weights.copy_(before)
