"""Query features: the same for running sessions as for whole blocks, and worked by hand."""

import numpy as np
import torch

from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.block_features import event_features, places_of, slate_features
from audience.reward_models.blocks import BlockDataset, covering
from audience.reward_models.coming import KINDS
from audience.reward_models.configuration import BehaviourConfig
from audience.reward_models.engine import BehaviourEngine
from audience.reward_models.histories import Histories
from audience.reward_models.input_fitting import fit_inputs, set_coming
from audience.reward_models.inputs import TEXT_AXES
from audience.reward_models.text_nearness import LATEST, SPANS

N_ITEMS, LEVELS, WINDOW, EVENTS, USERS = 40, np.array([1.0, 2.0, 3.0]), 8, 20, 4


def made() -> tuple[BehaviourModel, Histories]:
    rng = np.random.default_rng(0)
    histories = Histories.from_lists(
        [
            list(zip(rng.permutation(N_ITEMS)[:EVENTS], rng.integers(0, 3, EVENTS), strict=True))
            for _ in range(USERS)
        ]
    )
    vectors = rng.normal(size=(N_ITEMS, 10)).astype(np.float32)
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
    model = BehaviourModel(
        BehaviourConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            n_items=N_ITEMS,
            text_dim=10,
            level_values=LEVELS.tolist(),
            window=WINDOW,
            factors=2 + TEXT_AXES,
            linear_items=N_ITEMS,
            order="time",
            places=1,
        )
    )
    model.inputs.load_state_dict(inputs.state_dict())
    return model.eval(), histories


def asked_one_by_one(model: BehaviourModel, histories: Histories) -> torch.Tensor:
    """Features of all items before each event and after the last, (users, events + 1, items, n)."""
    inputs, rows, values = model.inputs, torch.arange(USERS), model.level_values
    engine = BehaviourEngine(model)
    items, levels, _ = (torch.from_numpy(a) for a in histories.padded())
    everything = torch.arange(N_ITEMS).expand(USERS, -1)
    statistics, found = inputs.empty(USERS), []
    for place in range(EVENTS + 1):
        known = inputs.known(statistics, rows, everything)
        timed = torch.ones(USERS, dtype=torch.bool)
        features = inputs.query_features(known, everything, torch.zeros_like(rows), timed)
        latest = engine.latest_axes(statistics, rows)
        found.append(model.asked_features(features, {"latest": latest}, everything))
        if place < EVENTS:
            inputs.add(statistics, rows, items[:, place], levels[:, place], values)
    return torch.stack(found, 1)


def test_blocks_say_what_sessions_say_of_events_and_slates() -> None:
    model, histories = made()
    one_by_one = asked_one_by_one(model, histories)
    cut = covering(histories, WINDOW)  # later blocks begin amid a user's events
    blocks = BlockDataset(histories, cut, model.inputs, LEVELS, WINDOW)
    batch = blocks.collate([blocks[i] for i in range(len(blocks))])
    items, earlier, fold = batch["items"], batch["earlier"], batch["fold"]
    timed = batch["timed"]
    places = places_of(model, items, batch["levels"], earlier, fold, timed, model.inputs, {})
    of = items, earlier, fold, timed, model.inputs
    events = event_features(model, places, *of)
    asked = torch.tensor([[3, 17, 30]])
    for row, block in enumerate(cut):
        for at in range(block.end - block.start + 1):
            whole = one_by_one[block.user, block.start + at]
            if at < block.end - block.start:
                said = events[row, at]
                torch.testing.assert_close(said, whole[items[row, at]], atol=1e-4, rtol=1e-4)
            past = histories.items[histories.offsets[block.user] :][: block.start]
            given = histories.levels[histories.offsets[block.user] :][: block.start]
            opinion = blocks._opinion(past, given, asked[0].numpy(), 0)
            shown = {
                "row": torch.tensor([row]),
                "at": torch.tensor([at]),
                "items": asked,
                "opinion": torch.from_numpy(opinion)[None],
            }
            slate = slate_features(model, places, shown, *of)
            torch.testing.assert_close(slate[0], whole[asked[0]], atol=1e-4, rtol=1e-4)


def test_nearness_to_each_of_the_latest_events_by_hand() -> None:
    model, histories = made()
    features = asked_one_by_one(model, histories)
    axes = model.inputs.design[0, :, -TEXT_AXES:].numpy()
    for place in (0, 3, EVENTS):
        before = histories.items[histories.offsets[1] :][:place][::-1][:LATEST]
        near = np.zeros(LATEST)
        near[: len(before)] = axes[before] @ axes[17]
        of_spans = [near[:span].mean() for span in SPANS]
        by_axis = [axes[17, axis] * of for axis in range(TEXT_AXES) for of in of_spans]
        said = features[1, place, 17, model.inputs.n_features :].numpy()
        np.testing.assert_allclose(said[:LATEST], near, atol=1e-5)
        np.testing.assert_allclose(said[LATEST:], by_axis, atol=1e-5)
