"""The tilt of free-running choice, and the normaliser of what a slate's items are worth."""

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audience.reward_models import choosing
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.engine import BehaviourEngine
from audience.reward_models.histories import Histories
from audience.reward_models.input_fitting import fit_inputs
from audience.reward_models.sessions import BertSessions
from audience.reward_models.tilt import NEARNESS, OF_ITEM, OF_USER, PAIRS, ChoiceTilt
from audience.reward_models.tilting import _Runs, fit_tilt
from audience.reward_models.users import DRAWS, POPULATIONS, Assumptions


def sampled_histories(users: BertUserModel, seed: int, n: int = 60) -> Histories:
    """Histories of 16 events that the users themselves write."""
    rng = np.random.default_rng(seed)
    firsts = [[(int(item), 0)] for item in rng.integers(len(users.catalogue), size=n)]
    return users.simulate(Histories.from_lists(firsts), np.full(n, 16), seed)


POPULARITY = np.geomspace(1, 30, 40) / np.geomspace(1, 30, 40).sum()
"""Of the 40 planted items, which are in truth all alike: a trait for users to run after."""


def mean_popularity(histories: Histories) -> float:
    return float(np.log(POPULARITY)[histories.items].mean())


def own_copy(users: BertUserModel, liked: NDArray[np.float64]) -> BertUserModel:
    """A copy whose tilt knows POPULARITY and this mean feedback of the items."""
    own = BertUserModel(
        copy.deepcopy(users.model),
        users.catalogue,
        users.scale,
        {name: users.starts(name) for name in POPULATIONS},
    )
    given = np.linspace(-1, 1, len(users.scale))
    own.model.tilt.prepare(POPULARITY, liked, users.text_vectors, given)
    return own


def test_users_that_run_to_what_is_popular_are_called_back(planted_users: BertUserModel) -> None:
    real = sampled_histories(planted_users, seed=3)
    wrong = own_copy(planted_users, planted_users.catalogue.mean_feedback)
    with torch.no_grad():  # what is popular draws far too much
        wrong.model.item_bias.weight[:, 0] += torch.from_numpy(np.log(POPULARITY))
    wanted = mean_popularity(real)
    starts, lengths = real.first(5), real.lengths
    before = mean_popularity(wrong.simulate(starts, lengths, 9)) - wanted
    folds = np.zeros(len(real), np.int64)
    fit_tilt(wrong, real, real, wrong.model.inputs, folds, passes=9, seed=0)
    after = mean_popularity(wrong.simulate(starts, lengths, 9)) - wanted
    assert before > 0.1
    assert abs(after) < before / 3
    told = wrong.predict_events(real).choice_nll
    wrong.model.tilt.weights.zero_()
    assert np.array_equal(told, wrong.predict_events(real).choice_nll)  # tilted in sessions only


def test_users_who_stay_with_what_is_well_liked_are_followed(planted_users: BertUserModel) -> None:
    """What comes in runs, as films of one page of a catalogue do, comes in runs in simulation."""
    liked = np.random.default_rng(1).permutation(np.repeat([-1.0, 1.0], 20))
    truth, users = own_copy(planted_users, liked), own_copy(planted_users, liked)
    truth.model.tilt.weights[PAIRS.index(("liked last", "liked"))] = 1.0

    def alike(histories: Histories) -> float:
        """Mean product of `liked` of neighbouring events after the fifth, 0 without runs."""
        items = histories.padded()[0][:, 5:]
        return float((liked[items[:, 1:]] * liked[items[:, :-1]]).mean())

    real = sampled_histories(truth, seed=3, n=120)
    starts, lengths = real.first(5), real.lengths
    before = alike(real) - alike(users.simulate(starts, lengths, 9))
    folds = np.zeros(len(real), np.int64)
    fit_tilt(users, real, real.take(np.arange(0)), users.model.inputs, folds[:0], passes=9, seed=0)
    after = alike(real) - alike(users.simulate(starts, lengths, 9))
    assert before > 0.3
    assert abs(after) < before / 4


def test_the_tilt_adds_the_weighted_features_to_the_utilities(planted_users: BertUserModel) -> None:
    users = own_copy(planted_users, np.linspace(1, 5, 40))
    weights = np.random.default_rng(0).normal(0, 0.3, len(PAIRS) + NEARNESS)
    histories, rows = sampled_histories(planted_users, seed=5, n=6), torch.arange(6)
    found = []
    for tilted in (False, True):
        users.model.tilt.weights.copy_(torch.from_numpy(weights))
        engine = BehaviourEngine(users.model, tilted=tilted)
        states = engine.new_states(6)
        with torch.inference_mode():
            engine.encode(states, rows, histories)
            found.append(engine.utilities(states, rows))
    items = torch.arange(40).expand(6, -1)
    added = users.model.tilt_features(states.statistics, rows, items) @ users.model.tilt.weights
    left = torch.isfinite(found[0])
    difference = torch.where(left, found[1] - found[0] - added, 0.0)
    constant = difference.sum(1, keepdim=True) / left.sum(1, keepdim=True)
    torch.testing.assert_close(
        difference, constant * left, atol=1e-4, rtol=0
    )  # but for the normaliser


def test_who_is_recommended_to_is_not_tilted(planted_users: BertUserModel) -> None:
    """Answers to slates are those of the tower, and only who runs freely is tilted."""
    users = own_copy(planted_users, np.linspace(1, 5, 40))
    starts, rows = users.starts("test").take(np.arange(3)), torch.arange(3)

    def said(sessions: BertSessions) -> torch.Tensor:
        sessions.start(np.arange(3), starts)
        with torch.inference_mode():
            return sessions.engine.utilities(sessions.states, rows)

    users.model.tilt.weights.zero_()
    plain = said(users.open(3, 1, Assumptions())), said(users.roam(3))
    torch.testing.assert_close(*plain)
    users.model.tilt.weights.fill_(0.5)
    assert torch.equal(said(users.open(3, 1, Assumptions())), plain[0])
    assert not torch.allclose(said(users.roam(3)), plain[0], atol=0.1)


def test_what_the_tilt_knows_of_a_user(planted_users: BertUserModel) -> None:
    """Worked by hand: items 0, 1, 2 of levels 0, 1, 1, and a user who has met nothing yet."""
    tilt = ChoiceTilt(3, 2)
    with torch.no_grad():
        tilt.bases[:, OF_ITEM.index("popular")] = torch.tensor([1.0, 2.0, 6.0])
        tilt.bases[:, OF_ITEM.index("liked")] = torch.tensor([-3.0, 0.0, 9.0])
        tilt.given.copy_(torch.tensor([-1.0, 2.0]))
        tilt.directions[:, 0] = torch.tensor([1.0, -1.0, 1.0])
    statistics = planted_users.model.inputs.empty(2)
    statistics.items = torch.tensor([[0, 1, 2], [0, 0, 0]])
    statistics.given = torch.tensor([[0, 1, 1], [0, 0, 0]])
    statistics.beyond = torch.zeros(2, 3)
    statistics.count = torch.tensor([3, 0])
    context = tilt.context(statistics.seen(torch.arange(2)))
    knows = dict(zip(OF_USER, context.of_user.T.tolist(), strict=True))
    assert knows["popular last"] == [6.0, 0.0] and knows["liked last"] == [9.0, 0.0]
    for when in ("recent", "late", "ever"):
        assert knows[f"popular {when}"] == pytest.approx([3.0, 0.0])
        assert knows[f"liked {when}"] == pytest.approx([2.0, 0.0])
        assert knows[f"given {when}"] == pytest.approx([1.0, 0.0])
    assert context.last[:, 0].tolist() == [1.0, 0.0]
    assert context.recent[:, 0].tolist() == pytest.approx([1 / 3, 0.0])


def test_users_who_give_too_much_of_a_level_are_called_back(planted_users: BertUserModel) -> None:
    """In free runs alone: the answer to what is recommended stays as it was learned."""
    real = sampled_histories(planted_users, seed=4)
    wrong = own_copy(planted_users, planted_users.catalogue.mean_feedback)
    base = wrong.model.feedback_base.linear
    assert base is not None
    with torch.no_grad():  # the highest level is given far too often, and nothing for sure
        for weights in (*base.parameters(), *wrong.model.feedback_head.parameters()):
            weights.mul_(0.3)
        base.bias.view(-1, len(planted_users.scale))[:, -1] += 2.0

    def highest(of: Histories) -> float:
        late = np.arange(len(of.items)) % 16 >= 5
        return float((of.levels[late] == len(planted_users.scale) - 1).mean())

    def excess() -> float:
        runs = [wrong.simulate(real.first(5), real.lengths, seed) for seed in range(5)]
        return float(np.mean([highest(run) for run in runs])) - highest(real)

    def answers() -> NDArray[np.float64]:
        items = np.tile(np.arange(40), (len(real), 1))
        return wrong.feedback(real.first(3), items)

    before, answered = excess(), answers()
    fit_tilt(wrong, real, real, wrong.model.inputs, np.zeros(60, np.int64), passes=9, seed=0)
    assert before > 0.2 and abs(excess()) < before / 3
    np.testing.assert_array_equal(answers(), answered)


def test_every_user_runs_and_begins_like_the_real_one(planted_users: BertUserModel) -> None:
    lengths = np.random.default_rng(0).integers(6, 17, 10)
    real = Histories.from_padded(*sampled_histories(planted_users, 3, n=10).padded()[:2], lengths)
    runs, seen = _Runs(planted_users, real, 4, np.random.default_rng(0)), set()
    for _ in range(60):
        runs()
        seen |= set(runs.who.tolist())
        found = runs.sessions.histories()
        assert np.array_equal(found.lengths, runs.place)
        assert (runs.place <= lengths[runs.who]).all()
        begun = real.take(runs.who).first(5)
        assert np.array_equal(found.first(5).items, begun.items)
    assert seen == set(range(10))


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
    crossed = fit_inputs(
        parts, 40, values, factors=2, penalty=2.0, ease_l2=5.0, seed=0, vectors=vectors
    )
    alone = crossed.of_fold(1)
    assert alone.base.shape == own.base.shape and alone.level_shares.shape == (levels,)
    assert torch.equal(alone.ease[0], crossed.ease[1])
    before = planted_users.model.tilt.weights.clone()
    folds = np.arange(12) % levels
    fit_tilt(planted_users, real.take(np.arange(2)), real, crossed, folds, passes=1, seed=0)
    assert torch.isfinite(planted_users.model.tilt.weights).all()
    planted_users.model.tilt.weights.copy_(before)
