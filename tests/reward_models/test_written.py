"""What users wrote as an input: notes name the topic that the next feedback depends on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from audience.reward_models.about_users import NOTE_DECAY, note_sums
from audience.reward_models.bert_fit import BertFit, encoded_notes
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.errors import UserModelError
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import PRESETS, FitSettings
from audience.reward_models.log import InteractionLog
from audience.reward_models.metrics import auc
from audience.reward_models.text_encoders import text_encoder
from audience.reward_models.users import POPULATIONS, START_EVENTS

ITEMS, EVENTS = 40, 14

TITLES = ("a comet in the night sky", "a fern in the green wood")
"""What an item of each topic is called."""

WORDS = (
    ("the stars are bright tonight", "astronomy is all I think of", "I bought a telescope"),
    ("the forest smells of moss", "plants are on my mind", "I planted a garden"),
)
"""What users write when they are in the mood for each topic."""


def moody_log() -> InteractionLog:
    """A mood is drawn anew after every event, and only what is written at the event tells it.

    The next item is loved where it is of that mood's topic, but for one in ten. Nobody is in any
    mood at first, and one event in five is without words: the mood then stays.
    """
    rng = np.random.default_rng(0)
    rows = []
    for user in range(160):
        mood = -1
        for time, item in enumerate(rng.permutation(ITEMS)[:EVENTS].tolist()):
            topic = item % 2
            loves = rng.random() < (0.5 if mood < 0 else 0.9 if topic == mood else 0.1)
            text = None
            if rng.random() < 0.8:
                mood = int(rng.integers(2))
                text = WORDS[mood][rng.integers(3)]
            rows.append((f"{user}", f"i{item}", 1.0 + loves, 1000.0 + time, text))
    columns = ["user_id", "item_id", "feedback", "timestamp", "text"]
    titles = [f"{TITLES[i % 2]} {i}" for i in range(ITEMS)]
    return InteractionLog.from_frames(
        pl.DataFrame(rows, schema=columns, orient="row"),
        pl.DataFrame({"item_id": [f"i{i}" for i in range(ITEMS)], "title": titles}),
        name="moody",
    )


@pytest.fixture(scope="module")
def data() -> FitData:
    return FitData.of(moody_log(), None, 0)


def fitted(data: FitData, work: Path, noting: bool) -> BertUserModel:
    device = torch.device("cpu")
    encoder = text_encoder(None, device)
    vectors = encoder.encode(data.catalogue.texts.tolist())
    notes = encoded_notes(encoder, data.signals)
    fit = BertFit(FitSettings(), "time", device, work, False, PRESETS["tiny"])
    return fit(data, vectors, None, notes if noting else None)[0]


@pytest.fixture(scope="module")
def users(data: FitData, tmp_path_factory: pytest.TempPathFactory) -> BertUserModel:
    return fitted(data, tmp_path_factory.mktemp("noting"), noting=True)


@pytest.fixture(scope="module")
def directory(users: BertUserModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("written") / "users"
    users.save_pretrained(directory)
    return directory


def test_words_tell_what_will_be_loved(data: FitData, users: BertUserModel, tmp_path: Path) -> None:
    wordless = fitted(data, tmp_path, noting=False)
    assert users.model.config.note_dim == users.model.config.text_dim
    assert wordless.model.config.note_dim == 0
    test = data.histories["test"]
    later = np.arange(len(test.items)) % EVENTS > 0
    found = [
        auc(of.predict_events(test).shares[later, 1].astype(np.float64), test.levels[later] == 1)
        for of in (users, wordless)
    ]
    assert found[0] > 0.75 and found[0] > found[1] + 0.15, found


def test_any_part_of_a_history_keeps_its_own_notes(data: FitData, users: BertUserModel) -> None:
    test = data.histories["test"]
    whole = users.predict_events(test).shares.reshape(-1, EVENTS, 2)
    asked = test.items.reshape(-1, EVENTS)
    said = users.feedback(test.first(5), asked[:, 5:6])[:, 0]
    np.testing.assert_allclose(said, whole[:, 5], atol=1e-5)
    about = users.model.about
    rows = about.rows(test.users)
    half = asked[:, ::2]
    texts = data.signals["test"].texts
    assert texts is not None
    wrote = np.array([bool(text) for text in texts]).reshape(-1, EVENTS)
    np.testing.assert_array_equal(about.notes_of(rows[:, None], half)[1], wrote[:, ::2])


def test_starts_keep_vectors_of_notes_and_no_word(users: BertUserModel, directory: Path) -> None:
    table = pl.read_parquet(directory / "notes.parquet")
    assert dict(table.schema) == {
        "user": pl.String(),
        "item": pl.Int64(),
        "note": pl.Array(pl.Float32, users.model.config.text_dim),
    }
    again = BertUserModel.from_pretrained(directory, device="cpu")
    named = set(again.model.about.users)
    for population in POPULATIONS:
        starts = users.starts(population)
        assert starts.lengths.max() == START_EVENTS
        a, b = (u.predict_events(starts).shares for u in (users, again))
        np.testing.assert_array_equal(a, b)
        assert set(table["user"].unique()) & set(starts.users.tolist())
        named -= set(starts.users.tolist())
    assert not named
    assert len(again.model.about.keys) == len(table)
    # What a start does not hold, the real user wrote later: it is not kept.
    started = {
        (name, item)
        for population in POPULATIONS
        for starts in [users.starts(population)]
        for name, item in zip(
            np.repeat(starts.users, starts.lengths).tolist(), starts.items.tolist(), strict=True
        )
    }
    assert set(table.select("user", "item").iter_rows()) <= started


def test_free_running_users_write_nothing(users: BertUserModel, data: FitData) -> None:
    starts = data.histories["test"].first(4)  # real names: what they wrote later must not count
    simulated = users.simulate(starts, np.full(len(starts), 24), seed=0)
    assert (simulated.lengths == 24).all()
    sessions = users.roam(len(starts))
    sessions.start(np.arange(len(starts)), starts)
    before = sessions.states.note_sum.clone(), sessions.states.note_last.clone()
    assert before[0].any()
    rng = np.random.default_rng(0)
    for _ in range(20):  # a window of 16 overflows, and is cut anew
        sessions.wander(np.arange(len(starts)), rng.random((len(starts), 3)))
    assert torch.allclose(before[0], sessions.states.note_sum)
    assert torch.equal(before[1], sessions.states.note_last)


def test_notes_fade_with_notes_not_with_events() -> None:
    notes = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]], np.float32)
    total, weight, last = note_sums(notes, np.array([True, False, True, False]))
    np.testing.assert_allclose(total, [NOTE_DECAY, 1.0])
    np.testing.assert_allclose(weight, 1 + NOTE_DECAY)
    np.testing.assert_allclose(last, [0.0, 1.0])
    total, weight, last = note_sums(notes[:0], np.zeros(0, np.bool_))
    assert not total.any() and not last.any() and weight == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("missing", "notes.parquet is missing"),
        ("strangers", "other users than starts.parquet"),
        ("items", "items beyond the 40"),
        ("contexts", "contexts.parquet is there"),
    ],
)
def test_damaged_notes_are_refused(directory: Path, tmp_path: Path, wrong: str, said: str) -> None:
    copy = tmp_path / "users"
    shutil.copytree(directory, copy)
    file = copy / "notes.parquet"
    table = pl.read_parquet(file)
    if wrong == "missing":
        file.unlink()
    elif wrong == "strangers":
        table.with_columns(pl.col("user") + "x").write_parquet(file)
    elif wrong == "items":
        table.with_columns(pl.col("item") + ITEMS).write_parquet(file)
    else:
        table.write_parquet(copy / "contexts.parquet")
    with pytest.raises(UserModelError, match=said):
        BertUserModel.from_pretrained(copy, device="cpu")
