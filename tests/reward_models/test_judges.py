"""Judges: a planted rule is recovered, both ways of computing agree, directories are whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from audience.reward_models.choice_baselines import ItemScorer
from audience.reward_models.errors import UserModelError
from audience.reward_models.histories import Histories
from audience.reward_models.judge_base import Judge
from audience.reward_models.judge_competence import competence
from audience.reward_models.judge_feedback import FeedbackFeatures
from audience.reward_models.judge_kernel import KernelLogit
from audience.reward_models.judge_neighbours import UserNeighbours
from audience.reward_models.judge_sessions import JudgeStates
from audience.reward_models.judge_trees import BoostedLevels
from audience.reward_models.judges import JUDGES, fit_judge, load_judge
from audience.reward_models.log import InteractionLog
from audience.reward_models.outside import outside_utility, popular_slate_weights
from audience.reward_models.quality_data import EventPredictions, QualityData
from audience.reward_models.splits import UserSplit
from audience.reward_models.users import DRAWS, Assumptions, UserModel


@pytest.fixture(scope="module")
def data(planted_log: InteractionLog) -> QualityData:
    split = UserSplit.of(planted_log.user_ids)
    catalogue, scale = planted_log.catalogue(split.fitting), planted_log.scale(split.fitting)
    parts = {}
    for name in ("fitting", "validation", "test"):
        users = getattr(split, name)
        parts[name] = planted_log.histories(users, catalogue, scale)
        parts[f"{name}_values"] = planted_log.values(users, catalogue)
    return QualityData(**parts, scale=scale, catalogue=catalogue)


@pytest.fixture(scope="module", params=list(JUDGES))
def judge(request: pytest.FixtureRequest, data: QualityData) -> Judge:
    return fit_judge(request.param, data)


def kind_of(judge: Judge) -> np.ndarray:
    """0 for a comet, 1 for a fern."""
    return np.array([int(item[1:]) % 2 for item in judge.catalogue.item_ids])


def rows_of(histories: Histories) -> np.ndarray:
    return np.arange(len(histories))


def test_users_who_like_comets_like_comets(judge: Judge, data: QualityData) -> None:
    kind, test = kind_of(judge), data.test
    loves = np.array(
        [
            np.bincount(kind[test.items[a:b]], minlength=2).argmax()
            for a, b in zip(test.offsets[:-1], test.offsets[1:], strict=True)
        ]
    )
    utilities = judge.rank_items(test.first(8))
    best = np.argsort(-utilities, 1)[:, :5]
    assert (kind[best] == loves[:, None]).mean() > 0.9
    said = judge.predict_events(test)
    expected = said.shares @ np.array(judge.scale.values)
    late = np.arange(len(test.items)) - np.repeat(test.offsets[:-1], test.lengths) >= 5
    loved = judge.scale.likes[test.levels]
    assert expected[late & loved].mean() > 4.5
    assert expected[late & ~loved].mean() < 2.5


def test_it_is_a_user_model_with_probabilities(judge: Judge, data: QualityData) -> None:
    assert isinstance(judge, UserModel)
    assert judge.starts("test").lengths.max() == 8
    assert judge.starts("test").users[0] == "test-0"
    said = judge.predict_events(data.test)
    np.testing.assert_allclose(said.shares.sum(1), 1, rtol=1e-5)
    utilities = judge.rank_items(data.test)
    np.testing.assert_allclose(np.exp(utilities).sum(1), 1)
    assert np.isneginf(utilities).sum() == len(data.test.items)


def test_sessions_and_predictions_agree_on_real_events(judge: Judge, data: QualityData) -> None:
    test = data.test.take(np.arange(6))
    said = judge.predict_events(test)
    for length in (0, 1, 7, 12):
        shown, at = test.first(length), test.offsets[:-1] + length
        asked = judge.feedback(shown, test.items[at][:, None])[:, 0]
        np.testing.assert_allclose(asked, said.shares[at], atol=1e-6)
        states = JudgeStates(judge, 6)
        states.start(rows_of(shown), shown)
        utilities = states.utilities(rows_of(shown))
        own = utilities[rows_of(shown), test.items[at]]
        np.testing.assert_allclose(-own, said.choice_nll[at], atol=1e-5)
        assert ((utilities > own[:, None]).sum(1) == said.choice_rank[at]).all()


def test_one_event_more_is_the_whole_history_anew(judge: Judge, data: QualityData) -> None:
    starts = data.test.take(np.arange(4)).first(8)
    states = JudgeStates(judge, 4)
    states.start(rows_of(starts), starts)
    rows, rng = rows_of(starts), np.random.default_rng(0)
    for _ in range(3):
        states.react(rows, states.utilities(rows).argmax(1), rng.random(4))
    anew = JudgeStates(judge, 4)
    anew.start(rows, Histories.from_padded(states.items, states.levels, states.count))
    np.testing.assert_allclose(states.utilities(rows), anew.utilities(rows), atol=1e-5)


def test_no_draw_depends_on_the_batch_around_it(judge: Judge, data: QualityData) -> None:
    starts, rng = judge.starts("test"), np.random.default_rng(1)
    slates = rng.integers(len(judge.catalogue), size=(3, len(starts), 4))
    uniforms = rng.random((3, len(starts), DRAWS))
    many = judge.open(len(starts), 4, Assumptions(acceptance=0.8))
    one = judge.open(1, 4, Assumptions(acceptance=0.8))
    many.start(rows_of(starts), starts)
    one.start(np.array([0]), starts.take(np.array([5])))
    chosen = 0
    for slate, uniform in zip(slates, uniforms, strict=True):
        all_of_them = many.respond(slate, uniform, np.ones(len(starts), bool))
        alone = one.respond(slate[5:6], uniform[5:6], np.ones(1, bool))
        for name in ("choice", "item", "level", "leave"):
            assert getattr(all_of_them, name)[5] == getattr(alone, name)[0]
        accepted = all_of_them.accept_probability[5]
        assert accepted == pytest.approx(alone.accept_probability[0], abs=1e-5)
        chosen += int((all_of_them.level >= 0).sum())
    assert chosen > len(starts)


def test_slates_by_popularity_are_accepted_as_often_as_assumed(judge: Judge) -> None:
    starts = judge.starts("fitting")
    sessions = judge.open(len(starts), 2, Assumptions(acceptance=0.3))
    rng = np.random.default_rng(5)
    accepted = []
    for _ in range(20):
        sessions.start(rows_of(starts), starts)
        key = np.log(judge.catalogue.popularity) + rng.gumbel(size=(len(starts), 40))
        key[np.repeat(rows_of(starts), starts.lengths), starts.items] = -np.inf
        response = sessions.respond(
            np.argsort(-key, 1)[:, :2],
            rng.random((len(starts), DRAWS)),
            np.ones(len(starts), bool),
        )
        accepted.append(response.accept_probability.mean())
    assert np.mean(accepted) == pytest.approx(0.3, abs=0.02)


def test_consumed_repeated_and_inactive(judge: Judge) -> None:
    starts = judge.starts("test").take(np.arange(3))
    sessions = judge.open(3, 2, Assumptions(acceptance=0.99))
    old = starts.items[0]
    new = int(np.setdiff1d(np.arange(40), starts.items)[0])
    slates = np.array([[old, new], [new, new], [new, new]])
    active = np.array([True, True, False])
    rng = np.random.default_rng(0)
    for _ in range(30):
        sessions.start(np.arange(3), starts)
        response = sessions.respond(slates, rng.random((3, DRAWS)), active)
        assert response.choice[0] in (-1, 1) and response.choice[1] in (-1, 0)
        assert response.level[2] == response.item[2] == response.choice[2] == -1
        assert not response.leave[2] and response.accept_probability[2] == 0
    sessions.start(np.arange(3), starts)
    before = sessions.states.utilities(np.array([2]))
    first = sessions.respond(np.full((3, 2), new), np.zeros((3, DRAWS)), active)
    assert first.choice.tolist() == [0, 0, -1]
    again = sessions.respond(np.full((3, 2), new), np.zeros((3, DRAWS)), active)
    assert again.choice.tolist() == [-1, -1, -1] and again.accept_probability[0] == 0
    assert (sessions.states.utilities(np.array([2])) == before).all()


def test_free_running_users_keep_their_start_and_length(judge: Judge, data: QualityData) -> None:
    starts = data.test.first(5)
    lengths = starts.lengths + np.arange(len(starts)) % 9
    lengths[0] = 200  # more than there are items
    found = judge.simulate(starts, lengths, seed=3)
    assert (found.users == starts.users).all()
    assert found.lengths.tolist() == np.minimum(lengths, 40).tolist()
    assert (found.first(5).items == starts.items).all()
    assert len(found.without_repeats()[1]) == len(found.items)
    same, other = (judge.simulate(starts, lengths, seed=seed) for seed in (3, 4))
    assert (same.items == found.items).all() and (same.levels == found.levels).all()
    assert not np.array_equal(other.items, found.items)


def test_a_directory_round_trip_keeps_every_number(
    judge: Judge, data: QualityData, tmp_path: Path
) -> None:
    judge.save_pretrained(tmp_path / "judge")
    written = {path.name for path in (tmp_path / "judge").iterdir()}
    assert written == {"users.json", "items.parquet", "starts.parquet", "judge.safetensors"}
    again = load_judge(tmp_path / "judge")
    assert type(again) is type(judge)
    for name in ("shares", "choice_rank", "choice_nll"):
        before, after = (getattr(j.predict_events(data.test), name) for j in (judge, again))
        assert (before == after).all()
    assert (again.starts("test").items == judge.starts("test").items).all()
    assert again.scale == judge.scale


def test_what_is_no_judge_is_refused(judge: Judge, tmp_path: Path) -> None:
    with pytest.raises(UserModelError, match="no such directory"):
        load_judge(tmp_path / "none")
    judge.save_pretrained(tmp_path)
    whole = (tmp_path / "judge.safetensors").read_bytes()
    (tmp_path / "judge.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserModelError, match="damaged"):
        load_judge(tmp_path)
    (tmp_path / "judge.safetensors").unlink()
    with pytest.raises(UserModelError, match="damaged"):
        load_judge(tmp_path)
    (tmp_path / "judge.safetensors").write_bytes(whole)
    about = json.loads((tmp_path / "users.json").read_text())
    (tmp_path / "users.json").write_text(json.dumps(about | {"kind": "bert", "format": 3}))
    with pytest.raises(UserModelError, match="judges are als, boosted"):
        load_judge(tmp_path)
    (tmp_path / "users.json").write_text(json.dumps(about | {"format": 3}))
    with pytest.raises(UserModelError, match="format 3 of version .* reads format 5"):
        load_judge(tmp_path)


def test_an_unknown_kind_is_refused(data: QualityData) -> None:
    with pytest.raises(ValueError, match="one of als, boosted, got 'tree'"):
        fit_judge("tree", data)  # type: ignore[arg-type]


class Blurred:
    """A judge that knows nothing of feedback beyond the shares of levels."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.rank_items = judge.rank_items

    def predict_events(self, histories: Histories) -> EventPredictions:
        said = self.judge.predict_events(histories)
        same = np.tile(said.shares.mean(0), (len(said.shares), 1))
        return EventPredictions(same, said.choice_rank, said.choice_nll)


def test_competence_compares_pairs(judge: Judge, data: QualityData) -> None:
    itself = competence(judge, judge, data)
    assert itself["competent"]
    assert itself["feedback"]["rmse"]["worse"] == itself["feedback"]["rmse"]["high"] == 0
    worse = competence(Blurred(judge), judge, data)
    assert not worse["competent"] and not worse["feedback"]["nll"]["competent"]
    assert worse["choice"]["ndcg@10"]["worse"] == 0
    better = competence(judge, Blurred(judge), data)
    assert better["competent"] and better["feedback"]["nll"]["high"] < 0
    popularity = ItemScorer.popularity(data.catalogue.popularity)
    against = competence(judge, popularity, data)
    assert against["feedback"] is None and against["competent"]
    assert against["half"]["ndcg@10"]["high"] < 0


@pytest.mark.parametrize("present", [[0, 1, 2, 3], [1, 3], [2]])
def test_exported_trees_are_scikit_learns(present: list[int]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 4))
    levels = np.array(present)[(np.digitize(x[:, 1] * x[:, 2], [-0.5, 0, 0.5])) % len(present)]
    trees = BoostedLevels.fit(x, levels, 4, seed=0)
    found = trees.probabilities(x)
    np.testing.assert_allclose(found.sum(1), 1)
    absent = np.setdiff1d(np.arange(4), present)
    assert found[:, absent].max(initial=0) < 0.02
    if len(present) > 1:
        assert (np.array(present)[found[:, present].argmax(1)] == levels).mean() > 0.9


@pytest.mark.parametrize("bent", [False, True])
def test_the_kernel_logit_finds_slopes_and_bends(bent: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5_000, 2))
    driver = np.abs(x[:, 0]) - np.abs(x[:, 1]) if bent else x[:, 0] - x[:, 1]
    logits = np.stack([0 * driver, 2 * driver, 0.5 + driver], -1)
    levels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    found = KernelLogit.fit(x, levels, 4, seed=0)
    truth = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    shares = found.probabilities(x)
    assert np.abs(shares[:, :3] - truth).mean() < 0.03 and shares[:, 3].max() < 0.02
    # A row is the same whatever stands around it, and the same fit is the same.
    assert (found.probabilities(x[7:8]) == shares[7:8]).all()
    again = KernelLogit.fit(x, levels, 4, seed=0)
    assert (again.kernel_weights == found.kernel_weights).all()


def test_user_neighbours_by_hand() -> None:
    """Two fitting users said +1 and -1 of items 0 to 2; the asked user agrees with the first."""
    items, levels = np.array([0, 1, 2, 0, 1, 2]), np.zeros(6, np.int64)
    both = Histories(np.array(["a", "b"]), np.array([0, 3, 6]), items, levels)
    said = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    near = UserNeighbours.fit(both, said, 4, spread=1.0)
    own = said[:3].sum() / (3 + 5)
    np.testing.assert_allclose(near.table[:, 0], [1 - own, -1 - own, 1 - own, 0], rtol=1e-6)
    residual = np.array([1.0, -1.0, 0.5])
    found = near.before(np.array([0, 1, 2]), residual)
    assert (found[0] == 0).all()  # nothing is known of a user before the first event
    # Before item 2 the user's mean is 0, the spread (2 + 5) / 7 = 1.
    theirs = near.table[:2, 0].astype(np.float64)
    cosine = (theirs @ residual[:2]) / np.sqrt((theirs**2).sum() * 2)
    like = cosine * 2 / (2 + np.array([10.0, 30.0]))
    expected = like * near.table[2, 0] / (like + 0.5)
    np.testing.assert_allclose(found[2, :2], expected, rtol=1e-5)
    np.testing.assert_allclose(found[2, 2:], np.log1p(like), rtol=1e-5)
    used = np.array([[True, True, False], [False, False, False]])
    asked = near.asked(
        np.tile(np.arange(3), (2, 1)), np.tile(residual, (2, 1)), used, np.array([[2, 3], [2, 3]])
    )
    np.testing.assert_allclose(asked[0, 0], found[2], rtol=1e-5)
    assert (asked[0, 1] == 0).all() and (asked[1] == 0).all()


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("factors", [0, 2])
def test_features_of_a_tiny_log_are_finite(levels: int, factors: int) -> None:
    given = np.array([0, 0, levels - 1])
    few = Histories(np.array(["a", "b", "c"]), np.array([0, 0, 1, 3]), np.array([0, 1, 2]), given)
    vectors = np.eye(5, dtype=np.float32)
    found = FeedbackFeatures.fit(few, np.arange(levels) + 1.0, vectors, factors, 4.0, seed=0)
    x = found.before(few)
    assert np.isfinite(x).all() and len(x) == 3
    assert found.before(few.take(np.arange(0))).shape == (0, x.shape[1])
    events, said, lengths = few.padded()
    used = np.arange(events.shape[1]) < lengths[:, None]
    assert np.isfinite(found.asked(events, said, used, np.tile(np.arange(5), (3, 1)))).all()
    np.testing.assert_allclose(KernelLogit.fit(x, given, levels, 0).probabilities(x).sum(1), 1)


def test_the_outside_option_by_hand() -> None:
    assert np.exp(outside_utility(np.array([0.2]), 0.25)) == pytest.approx(0.6)
    utilities = np.log(np.array([[0.5, 0.3, 0.2]]))
    utilities[0, 2] = -np.inf
    weights = popular_slate_weights(utilities, np.array([0.1, 0.1, 0.8]), 2)
    np.testing.assert_allclose(weights, 0.8)
