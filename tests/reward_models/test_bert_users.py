"""BERT users: a planted rule is recovered, directories are whole or refused."""

import copy
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.errors import UserModelError
from audience.reward_models.heads import SlateHeads
from audience.reward_models.histories import Histories
from audience.reward_models.log import InteractionLog
from audience.reward_models.users import (
    CHOICE,
    DRAWS,
    POPULATIONS,
    Assumptions,
    UserModel,
    load_users,
)

ALL = np.ones(2, bool)


def kind_of(users: BertUserModel) -> np.ndarray:
    """0 for a comet, 1 for a fern."""
    return np.array([int(item[1:]) % 2 for item in users.catalogue.item_ids])


def histories_of_kinds(users: BertUserModel) -> Histories:
    """One user who loved six comets and hated a fern, one the reverse."""
    kind = kind_of(users)
    comets, ferns = np.flatnonzero(kind == 0), np.flatnonzero(kind == 1)
    best = len(users.scale) - 1
    return Histories.from_lists(
        [
            [*((int(i), best) for i in comets[:6]), (int(ferns[0]), 0)],
            [*((int(i), best) for i in ferns[:6]), (int(comets[0]), 0)],
        ]
    )


def next_utilities(users: BertUserModel, histories: Histories) -> np.ndarray:
    """Log-probability of each item to be chosen next."""
    sessions = users.open(len(histories), 1, Assumptions())
    sessions.start(np.arange(len(histories)), histories)
    rows = torch.arange(len(sessions.states.hidden))
    with torch.inference_mode():
        return sessions.engine.utilities(sessions.states, rows).numpy().copy()


def test_users_who_like_comets_like_comets(planted_users: BertUserModel) -> None:
    histories, kind = histories_of_kinds(planted_users), kind_of(planted_users)
    for utilities in (
        planted_users.rank_items(histories),
        next_utilities(planted_users, histories),
    ):
        for user in range(2):
            best = np.argsort(-utilities[user])[:5]
            assert (kind[best] == user).mean() >= 0.8
    # Each real test user's events from the fifth on, from the events before.
    test = planted_users.starts("test")
    predictions = planted_users.predict_events(test)
    expected = predictions.shares @ np.array(planted_users.scale.values)
    late = np.concatenate(
        [np.arange(o + 4, e) for o, e in zip(test.offsets[:-1], test.offsets[1:], strict=True)]
    )
    loved = planted_users.scale.likes[test.levels[late]]
    assert loved.any() and not loved.all()
    assert expected[late][loved].min() > 3.5
    assert expected[late][~loved].max() < 3.0


def test_the_card_says_that_the_rule_was_found(planted_directory: Path) -> None:
    card = json.loads((planted_directory / "card.json").read_text())
    assert card["feedback"]["model"]["auc"] > 0.98
    assert card["feedback"]["model"]["rmse"] < card["feedback"]["user_item_mean"]["rmse"]
    assert card["choice"]["model"]["ndcg@10"] > card["choice"]["popularity"]["ndcg@10"]
    assert card["settings"]["order"] == "time" and card["settings"]["members"] == 2
    assert any(said.startswith("choice:") for said in card["assumptions"])
    assert "planted" in (planted_directory / "card.md").read_text()


def test_it_is_a_user_model(planted_users: BertUserModel) -> None:
    assert isinstance(planted_users, UserModel)


def test_responses_follow_luce_and_the_outside_option(planted_users: BertUserModel) -> None:
    assumptions = Assumptions(acceptance=0.5)
    sessions = planted_users.open(2, 3, assumptions)
    histories = histories_of_kinds(planted_users)
    sessions.start(np.arange(2), histories)
    free = [np.setdiff1d(np.arange(40), histories.items)[:3] for _ in range(2)]
    slates = np.stack(free).astype(np.int64)
    utilities = next_utilities(planted_users, histories)
    weight = np.exp(np.take_along_axis(utilities, slates, 1).astype(float))
    outside = np.exp(planted_users.outside_option(3, assumptions))
    expected = weight.sum(1) / (weight.sum(1) + outside)
    # Uniforms just below and above each border of the first user's distribution.
    border = np.cumsum(weight[0]) / (weight[0].sum() + outside)
    for place in range(3):
        for step, choice in ((-1e-4, place), (1e-4, place + 1 if place < 2 else -1)):
            sessions.start(np.arange(2), histories)
            uniforms = np.full((2, DRAWS), border[place] + step)
            response = sessions.respond(slates, uniforms, ALL)
            np.testing.assert_allclose(response.accept_probability, expected, rtol=1e-4)
            assert response.choice[0] == choice
            assert response.item[0] == (slates[0, choice] if choice >= 0 else -1)
            assert (response.level[0] >= 0) == (choice >= 0)


def test_slates_by_popularity_are_accepted_as_often_as_assumed(
    planted_users: BertUserModel,
) -> None:
    assumptions = Assumptions(acceptance=0.3)
    starts = planted_users.starts("fitting")
    sessions = planted_users.open(len(starts), 2, assumptions)
    rng = np.random.default_rng(5)
    accepted = []
    for _ in range(20):
        sessions.start(np.arange(len(starts)), starts)
        key = np.log(planted_users.catalogue.popularity) + rng.gumbel(size=(len(starts), 40))
        for user in range(len(starts)):
            key[user, starts.items[starts.offsets[user] : starts.offsets[user + 1]]] = -np.inf
        slates = np.argsort(-key, 1)[:, :2]
        response = sessions.respond(
            slates, rng.random((len(starts), DRAWS)), np.ones(len(starts), bool)
        )
        accepted.append(response.accept_probability.mean())
    assert np.mean(accepted) == pytest.approx(0.3, abs=0.02)


def test_consumed_and_repeated_items_are_never_chosen(planted_users: BertUserModel) -> None:
    sessions = planted_users.open(2, 2, Assumptions(acceptance=0.99))
    histories = histories_of_kinds(planted_users)
    sessions.start(np.arange(2), histories)
    old = histories.items[0]
    new = int(np.setdiff1d(np.arange(40), histories.items)[0])
    rng = np.random.default_rng(0)
    slates = np.array([[old, new], [new, new]])
    for _ in range(30):
        sessions.start(np.arange(2), histories)
        choice = sessions.respond(slates, rng.random((2, DRAWS)), ALL).choice
        assert choice[0] in (-1, 1)
        assert choice[1] in (-1, 0)
    sessions.start(np.arange(2), histories)
    uniforms = np.zeros((2, DRAWS))
    assert sessions.respond(np.full((2, 2), new), uniforms, ALL).choice.tolist() == [0, 0]
    again = sessions.respond(np.full((2, 2), new), uniforms, ALL)
    assert again.choice.tolist() == [-1, -1] and again.accept_probability.tolist() == [0, 0]


def test_inactive_slots_keep_their_state(planted_users: BertUserModel) -> None:
    sessions = planted_users.open(2, 1, Assumptions())
    histories = histories_of_kinds(planted_users)
    sessions.start(np.arange(2), histories)
    before = sessions.states.hidden.clone()
    new = np.setdiff1d(np.arange(40), histories.items)[:1]
    zeros = np.zeros((2, DRAWS))
    response = sessions.respond(np.tile(new, (2, 1)), zeros, np.array([True, False]))
    assert response.choice.tolist() == [0, -1]
    assert response.leave.tolist() == [True, False]
    assert not before[0].equal(sessions.states.hidden[0])
    assert before[1].equal(sessions.states.hidden[1])
    none = sessions.respond(np.tile(new, (2, 1)), zeros, np.zeros(2, bool))
    assert none.choice.tolist() == [-1, -1]


def test_a_session_longer_than_the_window_goes_on(planted_users: BertUserModel) -> None:
    window = planted_users.model.config.window
    sessions = planted_users.open(1, 1, Assumptions())
    sessions.start(np.arange(1), planted_users.starts("test").take(np.array([0])))
    rng = np.random.default_rng(1)
    met = set(planted_users.starts("test").take(np.array([0])).items.tolist())
    for item in [i for i in range(40) if i not in met][: 2 * window]:
        uniforms = np.array([[0.0, rng.random(), 0.9]])
        response = sessions.respond(np.array([[item]]), uniforms, np.ones(1, bool))
        assert response.item[0] == item
        assert 0 < response.accept_probability[0] <= 1
    assert int(sessions.states.statistics.count) == min(len(met) + 2 * window, 40)


def test_score_finds_the_best_slate(planted_users: BertUserModel) -> None:
    assumptions, size = Assumptions(), 2
    histories = histories_of_kinds(planted_users)
    scores = planted_users.score(*histories.padded(), assumptions, size)
    utilities = next_utilities(planted_users, histories)
    engine_reward = []
    scaled = planted_users.scale.scaled
    asked = np.arange(40)
    for user in range(2):
        start, end = histories.offsets[user : user + 2]
        items, levels = histories.items[start:end].tolist(), histories.levels[start:end].tolist()
        rows = [[*zip(items, levels, strict=True), (int(a), 0)] for a in asked]
        said = planted_users.predict_events(Histories.from_lists(rows))
        engine_reward.append((said.shares @ scaled)[end - start :: end - start + 1])
    outside = np.exp(planted_users.outside_option(size, assumptions))
    for user in range(2):
        start, end = histories.offsets[user : user + 2]
        assert np.isneginf(scores[user, histories.items[start:end]]).all()
        weight, reward = np.exp(utilities[user].astype(float)), engine_reward[user]
        free = np.flatnonzero(np.isfinite(utilities[user]))
        value = {
            (a, b): (weight[a] * reward[a] + weight[b] * reward[b])
            / (weight[a] + weight[b] + outside)
            for a in free
            for b in free
            if a < b
        }
        greedy = tuple(sorted(np.argsort(-scores[user])[:2].tolist()))
        assert value[greedy] == pytest.approx(max(value.values()), rel=1e-4)


def test_save_load_same_responses(planted_users: BertUserModel, tmp_path: Path) -> None:
    planted_users.save_pretrained(tmp_path / "copy")
    again = BertUserModel.from_pretrained(tmp_path / "copy")
    assert not list((tmp_path / "copy").glob("*.bin"))  # nothing pickled
    for population in ("fitting", "validation", "test"):
        a, b = planted_users.starts(population), again.starts(population)
        assert a.users.tolist() == b.users.tolist()
        assert a.items.tolist() == b.items.tolist() and a.offsets.tolist() == b.offsets.tolist()
    starts = planted_users.starts("test")
    a, b = planted_users.predict_events(starts), again.predict_events(starts)
    assert np.array_equal(a.shares, b.shares) and np.array_equal(a.choice_nll, b.choice_nll)
    assert again.catalogue.texts.tolist() == planted_users.catalogue.texts.tolist()
    assert again.outside_option(1, Assumptions()) == planted_users.outside_option(1, Assumptions())


def test_in_bfloat16_users_answer_nearly_the_same(
    planted_users: BertUserModel, tmp_path: Path
) -> None:
    """One user, few and many, with half the memory for what is kept of events."""
    planted_users.save_pretrained(tmp_path / "users")
    half = BertUserModel.from_pretrained(tmp_path / "users", "cpu", dtype="bfloat16")
    assert half.dtype == half.alone(1).dtype == pickle.loads(pickle.dumps(half)).dtype == "bfloat16"
    for slots in (1, 7, 200):
        starts, every = planted_users.starts("fitting"), np.arange(slots)
        rng = np.random.default_rng(0)
        items, slates = rng.integers(40, size=(slots, 1)), rng.integers(40, size=(slots, 3))
        draws, shares, answers, kept = rng.random((slots, DRAWS)), [], [], []
        for users in (planted_users, half):
            sessions = users.open(slots, 3, Assumptions())
            sessions.start(every, starts.take(every % len(starts)))
            sessions.remember(every, items[:, 0], items[:, 0] % len(users.scale))
            with torch.inference_mode():
                of = torch.from_numpy(every), torch.from_numpy(items)
                shares.append(sessions.engine.feedback(sessions.states, *of))
            answers.append(sessions.respond(slates, draws, np.ones(slots, bool)))
            kept.append(sessions.states.cache.keys[0].nbytes)
        torch.testing.assert_close(shares[1], shares[0], atol=0.03, rtol=0)
        assert not torch.equal(shares[1], shares[0])
        whole, nearly = (answer.accept_probability for answer in answers)
        np.testing.assert_allclose(nearly, whole, atol=0.02)
        assert kept[0] == 2 * kept[1]
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, got 'float16'"):
        half.to(dtype="float16")  # type: ignore[arg-type]


def test_members_alone_make_up_the_ensemble(planted_users: BertUserModel) -> None:
    starts = planted_users.starts("test")
    items = np.tile(np.arange(20, 40), (len(starts), 1))
    together = planted_users.feedback(starts, items)
    alone = [planted_users.alone(member) for member in range(2)]
    said = [one.feedback(starts, items) for one in alone]
    assert np.abs(said[0] - said[1]).max() > 1e-4  # they are not the same
    np.testing.assert_allclose(np.mean(said, 0), together, atol=1e-5)
    assert planted_users.model.config.members == 2 and alone[0].model.config.members == 1
    assert alone[0].card != planted_users.card  # so that trainings in them are told apart
    with pytest.raises(ValueError, match="member must be from 0 to 1, got 2"):
        planted_users.alone(2)


def test_start_histories_carry_no_user_id(planted_directory: Path) -> None:
    names = pl.read_parquet(planted_directory / "starts.parquet")["user"].unique().to_list()
    assert not any(name.startswith("u") for name in names)


def test_the_same_seed_fits_the_same_users(
    planted_log: InteractionLog, planted_users: BertUserModel, tmp_path: Path
) -> None:
    again = BertUserModel.fit(
        planted_log, tmp_path / "again", preset="tiny", device="cpu", verbose=False
    )
    starts = planted_users.starts("test")
    a, b = planted_users.predict_events(starts), again.predict_events(starts)
    np.testing.assert_allclose(a.shares, b.shares, atol=1e-6)
    assert not (tmp_path / "again.partial").exists()


def spoil(directory: Path, file: str, text: str | None) -> None:
    if text is None:
        (directory / file).unlink()
    else:
        (directory / file).write_text(text)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("users.json", None, "no user model directory"),
        ("users.json", "{", "damaged"),
        ("users.json", '{"format": 99, "audience": "9.9", "values": [], "edges": null}', "99"),
        ("items.parquet", "nonsense", "damaged"),
        ("starts.parquet", None, "damaged"),
        ("config.json", "{", "damaged"),
        ("model.safetensors", "nonsense", "damaged"),
        ("model.safetensors", None, "damaged"),
    ],
)
def test_a_damaged_directory_is_refused(
    planted_directory: Path, tmp_path: Path, file: str, text: str | None, said: str
) -> None:
    copy = tmp_path / "users"
    shutil.copytree(planted_directory, copy)
    spoil(copy, file, text)
    with pytest.raises(UserModelError, match=said) as error:
        load_users(copy)
    assert str(copy) in str(error.value) and "audience-fit" in str(error.value)


def test_items_that_do_not_fit_the_weights_are_refused(
    planted_directory: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "users"
    shutil.copytree(planted_directory, copy)
    items = pl.read_parquet(copy / "items.parquet")
    items.head(10).write_parquet(copy / "items.parquet")
    with pytest.raises(UserModelError, match=r"10 items.*40"):
        load_users(copy)


def test_a_missing_directory_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(UserModelError, match=r"no such directory.*audience-fit"):
        load_users(tmp_path / "nowhere")


def test_leaving_after_a_skip_is_stated_where_no_skips_taught_it(
    planted_users: BertUserModel,
) -> None:
    """Learned from sessions without slates: who chose something leaves as learned, always here."""
    model = copy.deepcopy(planted_users.model)
    model.config.leaves = True
    features = len(model.feature_mean)
    model.slates = SlateHeads(model.config, model.state_head.in_features, features)
    with torch.no_grad():
        model.slates.leave_base.weight.fill_(30.0)
    starts = {name: planted_users.starts(name) for name in POPULATIONS}
    users = BertUserModel(model, planted_users.catalogue, planted_users.scale, starts)
    assert users.learned == {"leave"}
    sessions = users.open(2, 1, Assumptions())
    sessions.start(np.arange(2), starts["test"].take(np.arange(2)))
    uniforms = np.full((2, DRAWS), 0.5)
    uniforms[:, CHOICE] = 0.0, 1 - 1e-9  # the first takes what is shown, the second nothing
    items = [
        next(i for i in range(40) if i not in starts["test"].take(np.array([u])).items)
        for u in range(2)
    ]
    response = sessions.respond(np.array(items)[:, None], uniforms, ALL)
    assert response.choice.tolist() == [0, -1]
    assert response.leave.tolist() == [True, False]  # .5 is above the stated .15
