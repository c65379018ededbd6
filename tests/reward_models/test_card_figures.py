"""What figures of a card are drawn from, and that they reach TensorBoard."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audience.reward_models.card import card_of
from audience.reward_models.card_figures import scalars, write_figures
from audience.reward_models.fit_data import FitData
from audience.reward_models.log import InteractionLog
from audience.reward_models.metrics import UserBootstrap, calibration_error, reliability
from audience.reward_models.quality_data import QualityData, measured
from audience.reward_models.quality_feedback import feedback_quality

Card = dict[str, Any]

FIGURES = {
    "card/reliability",
    "card/feedback",
    "card/feedback_difference",
    "card/choice",
    "card/simulated_feedback",
    "card/simulated_popularity",
    "card/session_length",
}


@pytest.fixture(scope="module")
def data(planted_log: InteractionLog) -> QualityData:
    return FitData.of(planted_log, None, 0).quality(0)


@pytest.fixture(scope="module")
def shares(data: QualityData) -> NDArray[np.float64]:
    """Right about three events of four, and sure of .75."""
    levels, n = data.test.levels, len(data.scale)
    said = (levels + (np.random.default_rng(0).random(len(levels)) < 0.25)) % n
    shares = np.full((len(levels), n), 0.25 / (n - 1))
    shares[np.arange(len(levels)), said] = 0.75
    return shares


@pytest.fixture(scope="module")
def feedback(data: QualityData, shares: NDArray[np.float64]) -> Card:
    bootstrap = UserBootstrap(len(data.test), 0)
    return feedback_quality(shares, data, data.test, data.test_values, bootstrap)


def test_curves_are_those_of_the_measured_events(
    data: QualityData, shares: NDArray[np.float64], feedback: Card
) -> None:
    at = measured(data.test)
    levels = feedback["curves"]["levels"]
    real = np.bincount(data.test.levels[at], minlength=len(data.scale)) / at.sum()
    np.testing.assert_allclose(levels["real"], real)
    np.testing.assert_allclose(levels["predicted"], shares[at].mean(0))
    assert levels["value"] == list(data.scale.values)

    bins = feedback["curves"]["reliability"]
    assert list(bins) == ["model", feedback["difference"]["nll"]["against"]]
    for name, part in bins.items():
        predicted, observed, count = (np.array(part[k]) for k in ("predicted", "observed", "count"))
        assert count.sum() == at.sum() and np.ptp(count) <= 1
        error = np.abs(predicted - observed) @ count / count.sum()
        assert error == pytest.approx(feedback[name]["ece"])
        assert (np.diff(predicted) >= 0).all()
    liked = data.scale.likes[data.test.levels[at]]
    like = shares[at][:, data.scale.likes].sum(1)
    assert feedback["model"]["ece"] == calibration_error(like, liked)
    for found, key in zip(
        reliability(like, liked), ("predicted", "observed", "count"), strict=True
    ):
        np.testing.assert_allclose(found, bins["model"][key])
    json.dumps(feedback, allow_nan=False)


def full_card(feedback: Card) -> Card:
    def ranked(figure: float) -> Card:
        ends = {"": 0.0, "_low": -0.02, "_high": 0.02}
        return {
            f"{measure}{end}": figure + off
            for measure in ("ndcg@10", "half_ndcg@10", "hit@10", "half_hit@10")
            for end, off in ends.items()
        }

    model, popular = ranked(0.3), ranked(0.2)
    against = {"mean": 0.1, "low": 0.05, "high": 0.15, "against": "popularity"}
    curve = {"real": [0.5, 0.75, 1.0], "simulated": [0.4, 0.8, 1.0]}
    simulation = {
        "feedback_tv": 0.125,
        "session_length_ks": None,
        "session_length": {"sessions": 20, "real": 1.7, "simulated": 2.5},
        "discriminator_auc": 0.7,
        "discriminator_auc_low": 0.6,
        "discriminator_auc_high": 0.8,
        "discriminator_check_auc": 0.9,
        "curves": {
            "feedback": {"value": [1.0, 2.0, 5.0], "real": [0.2, 0.3, 0.5], "simulated": [1, 0, 0]},
            "popularity": {"items": [1 / 3, 2 / 3, 1.0], **curve},
            "session_length": {"steps": [1, 2, 3], "real": [1, 0.6, 0.1], "simulated": [1, 1, 0.5]},
        },
        "users": 32,
        "events": 288,
    }
    difference = dict.fromkeys(("ndcg@10", "half_ndcg@10", "hit@10", "half_hit@10"), against)
    choice = {"model": model, "popularity": popular, "difference": difference}
    counts = {"users": 32, "events": 288, "first_event": 6}
    measured = {"feedback": feedback, "choice": choice, "measured": counts}
    return card_of("planted", {"seed": 0}, measured, ["leave: a constant"]) | {
        "simulation": simulation
    }


def test_scalars_are_the_numbers_of_the_card(feedback: Card) -> None:
    found = scalars(full_card(feedback))
    assert found["feedback/rmse"] == feedback["model"]["rmse"]
    assert found["feedback/difference/nll"] == feedback["difference"]["nll"]["mean"]
    assert found["choice/ndcg_at_10"] == 0.3
    assert found["choice/difference/ndcg_at_10"] == 0.1
    assert found["simulation/discriminator_auc"] == 0.7
    assert "simulation/session_length_ks" not in found  # null in the card
    assert not any(name.endswith(("_low", "_high")) for name in found)
    assert scalars(card_of("planted", {}, {}, [])) == {}
    cold = {"text": {"auc": 0.7}, "no_text": {"auc": 0.6}, "difference": {"auc": {"mean": 0.1}}}
    assert scalars({"cold_items": cold}) == {
        "cold_items/auc": 0.7,
        "cold_items/difference/auc": 0.1,
    }


def read(directory: Path) -> EventAccumulator:
    events = EventAccumulator(str(directory / "logs" / "card"), {"images": 0, "tensors": 0})
    return events.Reload()


def test_figures_scalars_and_text_are_in_the_event_file(feedback: Card, tmp_path: Path) -> None:
    card = full_card(feedback)
    write_figures(tmp_path, card)
    events = read(tmp_path)
    assert set(events.Tags()["images"]) == FIGURES
    assert set(events.Tags()["scalars"]) == {f"card/{name}" for name in scalars(card)}
    assert events.Scalars("card/simulation/feedback_tv")[0].value == 0.125
    assert "card/text_summary" in events.Tags()["tensors"]
    for tag in FIGURES:
        (shown,) = events.Images(tag)
        image = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)).convert("RGB"))
        assert (image == 255).all(2).mean() > 0.3  # drawn on white,
        assert (image == (0x00, 0x72, 0xB2)).all(2).sum() > 100  # with something of the model


def test_an_older_file_is_replaced(feedback: Card, tmp_path: Path) -> None:
    write_figures(tmp_path, full_card(feedback))
    write_figures(tmp_path, card_of("planted", {}, {"feedback": feedback}, []))
    assert len(list((tmp_path / "logs" / "card").glob("events*"))) == 1
    drawn = {"card/reliability", "card/feedback", "card/feedback_difference"}
    assert set(read(tmp_path).Tags()["images"]) == drawn


def test_an_empty_card_has_only_its_text(tmp_path: Path) -> None:
    write_figures(tmp_path, card_of("planted", {}, {}, []))
    tags = read(tmp_path).Tags()
    assert tags["images"] == [] and tags["scalars"] == []
    assert tags["tensors"] == ["card/text_summary"]
