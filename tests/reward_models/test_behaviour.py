"""The behaviour tower: nothing leaks from the future, and use agrees with fitting."""

import numpy as np
import pytest
import torch

from audience.reward_models.about_users import AboutUsers
from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.blocks import Block, BlockDataset, covering, overlapping
from audience.reward_models.coming import KINDS
from audience.reward_models.configuration import BehaviourConfig
from audience.reward_models.engine import BehaviourEngine
from audience.reward_models.histories import Histories
from audience.reward_models.input_fitting import fit_inputs, set_coming
from audience.reward_models.inputs import TEXT_AXES
from audience.reward_models.log_slates import Slates
from audience.reward_models.prediction import predict_events, predict_slates

N_ITEMS, LEVELS, WINDOW = 40, np.array([1.0, 2.0, 3.0]), 8


def random_histories(users: int, events: int, seed: int = 0) -> Histories:
    rng = np.random.default_rng(seed)
    return Histories.from_lists(
        [
            list(zip(rng.permutation(N_ITEMS)[:events], rng.integers(0, 3, events), strict=True))
            for _ in range(users)
        ]
    )


def known_by_name() -> AboutUsers:
    """Features of all users but "1", and what they wrote about half of the items."""
    rng = np.random.default_rng(4)
    everything = Histories.from_lists([[(i, 0) for i in range(N_ITEMS)]] * 4, ["0", "2", "3", "4"])
    written = rng.random(4 * N_ITEMS) < 0.5
    notes = rng.normal(size=(4 * N_ITEMS, 4)).astype(np.float32) * written[:, None]
    features = rng.normal(size=(4, 3)).astype(np.float32)
    return AboutUsers.of([(everything, features, (notes, written))], N_ITEMS)


@pytest.fixture(params=[("random", False), ("time", False), ("time", True)])
def model(request: pytest.FixtureRequest) -> BehaviourModel:
    """Without and with features and notes."""
    return made(*request.param)


def made(order: str, names: bool, places: int = 0) -> BehaviourModel:
    """A model whose every parameter matters: nothing is left at zero."""
    histories = random_histories(30, 12, seed=1)
    vectors = np.random.default_rng(3).normal(size=(N_ITEMS, 4)).astype(np.float32)
    inputs = fit_inputs(
        [(histories, LEVELS[histories.levels])],
        N_ITEMS,
        LEVELS,
        factors=2,
        penalty=2.0,
        ease_l2=5.0,
        seed=0,
        vectors=vectors,
    )
    set_coming(inputs, [histories], vectors, np.ones(len(KINDS)))
    config = BehaviourConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        n_items=N_ITEMS,
        text_dim=4,
        level_values=LEVELS.tolist(),
        window=WINDOW,
        factors=2 + TEXT_AXES,
        linear_items=N_ITEMS,
        order=order,
        context_dim=3 if names else 0,
        note_dim=4 if names else 0,
        places=places,
    )
    model = BehaviourModel(config)
    if names:
        model.about = known_by_name()
    model.inputs.load_state_dict(inputs.state_dict())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        model.text_vectors.copy_(torch.randn(model.text_vectors.shape, generator=generator))
    return model.eval()


def outputs(model: BehaviourModel, histories: Histories) -> tuple[torch.Tensor, torch.Tensor]:
    blocks = BlockDataset(
        histories,
        covering(histories, WINDOW),
        model.inputs,
        LEVELS,
        model.config.window,
        order=model.config.order,
        about=model.about,
    )
    with torch.inference_mode():
        said = model(**blocks.collate([blocks[i] for i in range(len(blocks))]))
    return said.feedback_shares, said.utilities


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_changed_event_leaves_all_earlier_outputs_bit_same(
    model: BehaviourModel, attention: str
) -> None:
    model.set_attn_implementation(attention)
    before = random_histories(3, WINDOW, seed=2)
    items, levels = before.items.copy(), before.levels.copy()
    for user in range(3):  # event 5 of each becomes another item with another level
        at = user * WINDOW + 5
        own = before.items[user * WINDOW : (user + 1) * WINDOW]
        items[at] = next(i for i in range(N_ITEMS) if i not in own)
        levels[at] = (levels[at] + 1) % 3
    after = Histories(before.users, before.offsets, items, levels)
    (feedback, utilities), (feedback2, utilities2) = outputs(model, before), outputs(model, after)
    assert torch.equal(feedback[:, :5], feedback2[:, :5])
    assert torch.equal(utilities[:, :6], utilities2[:, :6])  # place 5 asks what event 5 will be
    assert not torch.equal(feedback[:, 6:], feedback2[:, 6:])
    assert not torch.equal(utilities[:, 6:], utilities2[:, 6:])


def test_sessions_say_what_the_whole_block_says(model: BehaviourModel) -> None:
    histories = random_histories(5, WINDOW, seed=3)
    feedback, utilities = outputs(model, histories)
    engine = BehaviourEngine(model)
    states, rows = engine.new_states(5), torch.arange(5)
    items = torch.from_numpy(histories.items.reshape(5, WINDOW))
    levels = torch.from_numpy(histories.levels.reshape(5, WINDOW))
    named = model.about.rows(histories.users)[:, None]
    notes = torch.from_numpy(model.about.notes_of(named, items.numpy())[0])
    with torch.inference_mode():
        engine.encode(states, rows, histories.first(3))
        for place in range(3, WINDOW):
            said = engine.utilities(states, rows)
            torch.testing.assert_close(said, utilities[:, place], atol=1e-5, rtol=1e-4)
            shares = engine.feedback(states, rows, items[:, place : place + 1])[:, 0].mean(1)
            torch.testing.assert_close(shares, feedback[:, place], atol=1e-5, rtol=1e-4)
            engine.add(states, rows, items[:, place], levels[:, place], notes[:, place])


@pytest.mark.parametrize("k", [3, 12])  # few, and so many that all items' texts are looked at
def test_slates_of_sessions_are_those_of_the_whole_block(k: int) -> None:
    model = made("time", names=True, places=k)
    histories, earlier = random_histories(5, WINDOW, seed=3), np.array([0, 2, 3, 5, 7])
    rng, new = np.random.default_rng(0), np.arange(5)
    slates = np.stack([rng.permutation(N_ITEMS)[:k] for _ in range(5)])
    none = np.full(5, -1)
    shown = Slates(
        new, earlier, k * np.arange(6), slates.ravel(), np.tile(np.arange(k), 5), none, None
    )
    chosen, nothing, _ = predict_slates(model, histories, shown)
    engine, rows = BehaviourEngine(model), torch.arange(1)
    for user in range(5):
        states = engine.new_states(1)
        with torch.inference_mode():
            engine.encode(states, rows, histories.take(new[user : user + 1]).first(earlier[user]))
            appeal = engine.appeals(states, rows, torch.from_numpy(slates[user : user + 1]))
        said = torch.cat([torch.zeros(1, 1), appeal], 1).softmax(1)[0].numpy()
        np.testing.assert_allclose(chosen[user * k : user * k + k], said[1:], atol=1e-5)
        np.testing.assert_allclose(nothing[user], said[0], atol=1e-5)


def test_a_query_does_not_see_the_other_queries(model: BehaviourModel) -> None:
    engine = BehaviourEngine(model)
    states, rows = engine.new_states(2), torch.arange(2)
    with torch.inference_mode():
        engine.encode(states, rows, random_histories(2, 4, seed=4))
        together = engine.feedback(states, rows, torch.tensor([[30, 31, 32], [33, 34, 35]]))
        alone = engine.feedback(states, rows, torch.tensor([[30], [33]]))
    torch.testing.assert_close(together[:, :1], alone)


def test_many_users_of_all_lengths_answer_as_each_alone(model: BehaviourModel) -> None:
    """What is copied and attended to beside shorter ones is not seen."""
    n = 150
    every = random_histories(n, WINDOW - 2, seed=11)  # two more are added
    lengths = np.random.default_rng(0).integers(0, WINDOW - 1, n)
    start = every.offsets[:-1]
    events = [
        list(zip(every.items[a : a + k].tolist(), every.levels[a : a + k].tolist(), strict=True))
        for a, k in zip(start, lengths, strict=True)
    ]
    histories = Histories.from_lists(events)
    engine, rows = BehaviourEngine(model), torch.from_numpy(np.random.default_rng(1).permutation(n))
    asked = torch.arange(n)[:, None] % N_ITEMS
    together, alone = engine.new_states(n), engine.new_states(1)
    with torch.inference_mode():
        engine.encode(together, rows, histories)
        shares = engine.feedback(together, rows, asked)
        engine.add(together, rows, asked[:, 0], torch.zeros(n, dtype=torch.int64))
        for user in range(0, n, 7):
            one = torch.zeros(1, dtype=torch.int64)
            engine.encode(alone, one, histories.take(np.array([user])))
            said = engine.feedback(alone, one, asked[user : user + 1])
            torch.testing.assert_close(said[0], shares[user], atol=1e-5, rtol=1e-4)
            engine.add(alone, one, asked[user], one)
            mine, own = alone.hidden[0], together.hidden[rows[user]]
            torch.testing.assert_close(mine, own, atol=1e-5, rtol=1e-4)
        # What was kept of the events serves the next as well.
        engine.add(together, rows[:140], asked[10:, 0], torch.ones(140, dtype=torch.int64))
        one = torch.zeros(1, dtype=torch.int64)
        engine.encode(alone, one, histories.take(np.array([7])))
        engine.add(alone, one, asked[7], one)
        engine.add(alone, one, asked[17], one + 1)
        mine, own = alone.hidden[0], together.hidden[rows[7]]
        torch.testing.assert_close(mine, own, atol=1e-5, rtol=1e-4)


def test_older_events_enter_as_a_summary(model: BehaviourModel) -> None:
    histories = random_histories(2, 3 * WINDOW, seed=5)
    engine = BehaviourEngine(model)
    states, rows = engine.new_states(2), torch.arange(2)
    with torch.inference_mode():
        engine.encode(states, rows, histories)
    half = WINDOW // 2
    assert states.cache.length.tolist() == [1 + half, 1 + half]
    assert bool(states.statistics.count.eq(3 * WINDOW).all())
    blocks = [Block(u, 3 * WINDOW - half - 1, 3 * WINDOW, 0) for u in range(2)]
    assert len(blocks) == 2
    other = random_histories(2, 3 * WINDOW, seed=6)
    tail = 2 * WINDOW + half  # another past, the same last half window
    items, levels = histories.items.copy(), histories.levels.copy()
    for user in range(2):
        at = user * 3 * WINDOW
        mine = set(items[at + tail : at + 3 * WINDOW])
        past = [i for i in other.items[at : at + 3 * WINDOW] if i not in mine][:tail]
        items[at : at + tail] = past
    changed = engine.new_states(2)
    with torch.inference_mode():
        engine.encode(changed, rows, Histories(histories.users, histories.offsets, items, levels))
    asked = torch.full((2, 1), int(histories.items[3 * WINDOW - 1]))
    with torch.inference_mode():
        a, b = engine.feedback(states, rows, asked), engine.feedback(changed, rows, asked)
    assert not torch.allclose(a, b)


def test_overlapping_blocks_score_every_event_once() -> None:
    histories = random_histories(4, 37)
    scored = np.zeros(len(histories.items), int)
    for block in overlapping(histories, WINDOW):
        first = histories.offsets[block.user]
        scored[first + block.scored : first + block.end] += 1
        assert block.scored == 0 or block.scored - block.start >= WINDOW // 2
    assert (scored == 1).all()


def test_predictions_of_events_do_not_depend_on_later_events(model: BehaviourModel) -> None:
    histories = random_histories(3, 20, seed=7)
    whole, start = predict_events(model, histories), predict_events(model, histories.first(11))
    kept = np.concatenate([np.arange(20 * u, 20 * u + 11) for u in range(3)])
    np.testing.assert_allclose(whole.shares[kept], start.shares, atol=1e-6)
    np.testing.assert_allclose(whole.choice_nll[kept], start.choice_nll, atol=1e-5)
    np.testing.assert_allclose(whole.shares.sum(1), 1, atol=1e-5)


def test_save_load_same_outputs(model: BehaviourModel, tmp_path: object) -> None:
    model.save_pretrained(tmp_path)
    again = BehaviourModel.from_pretrained(tmp_path).eval()
    again.about = model.about  # no weights: `BertUserModel` keeps them for its starts
    histories = random_histories(3, WINDOW, seed=8)
    for a, b in zip(outputs(model, histories), outputs(again, histories), strict=True):
        assert torch.equal(a, b)


def test_who_asks_and_what_they_wrote_matter() -> None:
    model = made("time", names=True)
    histories = random_histories(5, WINDOW, seed=3)
    strangers = Histories(
        np.array([f"stranger {i}" for i in range(5)]),
        histories.offsets,
        histories.items,
        histories.levels,
    )
    (feedback, utilities), (feedback2, utilities2) = (
        outputs(model, h) for h in (histories, strangers)
    )
    assert torch.equal(feedback[1], feedback2[1])  # user "1" is as unknown as a stranger
    assert torch.equal(utilities[1], utilities2[1])
    for user in (0, 2, 3, 4):
        assert not torch.allclose(feedback[user], feedback2[user])
    # Without its features, a stranger's notes still count, and the other way round.
    whole = model.about
    model.about = AboutUsers(whole.users, whole.contexts * 0, whole.keys, whole.notes, N_ITEMS)
    assert not torch.allclose(outputs(model, histories)[0], feedback2)
    nothing = whole.keys[:0], whole.notes[:0]
    model.about = AboutUsers(whole.users, whole.contexts, *nothing, N_ITEMS)
    assert not torch.allclose(outputs(model, histories)[0], feedback2)


def test_encoded_anew_simulated_events_have_no_notes() -> None:
    model = made("time", names=True)
    histories = random_histories(5, 2 * WINDOW, seed=9)
    engine = BehaviourEngine(model)
    kept, anew, rows = engine.new_states(5), engine.new_states(5), torch.arange(5)
    real = np.full(5, 4)  # all later events are simulated, though with items once written about
    with torch.inference_mode():
        engine.encode(kept, rows, histories.first(4))
        for place in range(4, WINDOW - 1):
            items, levels = (
                torch.from_numpy(a.reshape(5, -1)[:, place].copy())
                for a in (histories.items, histories.levels)
            )
            engine.add(kept, rows, items, levels)
        engine.encode(anew, rows, histories.first(WINDOW - 1), real)
        asked = torch.arange(5, 10)[:, None].expand(-1, 3).T.reshape(5, 3)
        a, b = (engine.feedback(states, rows, asked) for states in (kept, anew))
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
        assert kept.names.tolist() == anew.names.tolist() == list("01234")
        engine.encode(anew, rows, histories.first(WINDOW - 1))
        assert not torch.allclose(a, engine.feedback(anew, rows, asked))
