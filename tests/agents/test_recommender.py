"""Recommendations by item id, from agents at hand, saved, and trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audience.agents import recommender as module
from audience.agents.baselines import ConstantAgent, EASEAgent, PopularityAgent
from audience.agents.latency import latency
from audience.agents.recommender import Recommendations, Recommender
from audience.agents.saving import save_agent
from audience.agents.trained import load_agent_of, load_trained
from audience.agents.training import train
from audience.agents.training_settings import TrainSettings
from audience.reward_models.catalogue import Catalogue
from audience.reward_models.errors import UserModelError
from audience.reward_models.histories import Histories
from audience.reward_models.scale import FeedbackScale

if TYPE_CHECKING:
    from audience.reward_models.bert_users import BertUserModel

SCALE = FeedbackScale((1.0, 2.0, 3.0, 4.0, 5.0))
IDS = np.array(["a", "b", "c", "d", "e"])
ITEMS = Catalogue(IDS, IDS, np.array([5, 4, 3, 2, 1]), np.zeros(5))


class Told:
    """Scores as given; remembers what it was asked."""

    def __init__(self, values: list[float]) -> None:
        self.values, self.asked = np.array(values, float), []  # type: ignore[var-annotated]

    def scores(
        self, items: NDArray[np.int64], levels: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[Any]:
        for row, length in enumerate(lengths):
            pairs = zip(items[row, :length].tolist(), levels[row, :length].tolist(), strict=True)
            self.asked.append(list(pairs))
        return np.tile(self.values, (len(items), 1))


def told(values: list[float] | None = None, window: int | None = None) -> Any:
    return Recommender(Told(values or [5, 4, 3, 2, 1]), IDS, SCALE, window)


def test_the_best_items_that_were_not_met() -> None:
    recommender = told()
    found = recommender.recommend([("a", 4.0), ("c", 1.0)], k=2)
    assert found == Recommendations(["b", "d"], [4.0, 2.0], unknown=0)
    assert list(found) == [("b", 4.0), ("d", 2.0)] and len(found) == 2
    assert recommender.scorer.asked == [[(0, 3), (2, 0)]]
    assert recommender.recommend(["a"], k=2, exclude={"b", "never heard of"}).item_ids == ["c", "d"]
    few = recommender.recommend([], k=3, candidates=["e", "b", "never heard of"])
    assert few.item_ids == ["b", "e"]  # no more are left
    assert recommender.recommend(list("abcde"), k=3) == Recommendations([], [], 0)


def test_events_are_read_as_documented() -> None:
    recommender = told()
    history = [("a", 4.4), ("x", 3.0), ("b", -2.0), "c", ("d", None), ("e", 99)]
    assert recommender.recommend(history).unknown == 1
    # The nearest level; without feedback the lowest like, 4 of 5 stars.
    assert recommender.scorer.asked == [[(0, 3), (1, 0), (2, 3), (3, 3), (4, 4)]]
    nobody = recommender.recommend(["x", "y"], k=1)
    assert nobody.item_ids == ["a"] and nobody.unknown == 2
    assert recommender.scorer.asked[1] == []


def test_numbers_as_ids_are_read_as_text() -> None:
    numbered = Recommender(Told([1, 2]), np.array(["10", "20"]), SCALE)
    assert numbered.recommend([(20, 5.0)], k=1).item_ids == ["10"]  # type: ignore[list-item]


def test_the_window_holds_the_last_events_and_all_stay_consumed() -> None:
    recommender = told(window=2)
    assert recommender.recommend(["a", "b", "c"], k=5).item_ids == ["d", "e"]
    assert recommender.scorer.asked == [[(1, 3), (2, 3)]]


def test_what_was_never_scored_is_left_out() -> None:
    assert told([-np.inf, 1, -np.inf, 2, 3]).recommend([], k=5).item_ids == ["e", "d", "b"]


def test_a_batch_is_many_singles(monkeypatch: pytest.MonkeyPatch) -> None:
    histories: list[Any] = [["a"], [], [("b", 1.0), "zzz", "c"]]
    exclude: list[list[str]] = [["b"], [], ["a"]]
    candidates = [IDS.tolist(), ["c", "d"], IDS.tolist()]
    alone = [
        told().recommend(h, 2, e, c) for h, e, c in zip(histories, exclude, candidates, strict=True)
    ]
    assert told().recommend_batch(histories, 2, exclude, candidates) == alone
    monkeypatch.setattr(module, "CELLS", 1)  # one history at a time
    assert told().recommend_batch(histories, 2, exclude, candidates) == alone
    assert told().recommend_batch([], 2) == []


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"history": [("a", float("nan"))]}, ValueError, "history 0, event 0: feedback must be"),
        ({"history": ["b", ("a", 1.0, 2)]}, TypeError, r"event 1 must be an item id or \(item id"),
        ({"history": [3]}, TypeError, "must be an item id"),
        ({"exclude": "abc"}, ValueError, "collections of item ids, got the string 'abc'"),
    ],
)
def test_wrong_calls(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        told().recommend(**{"history": [], **wrong})


def test_a_batch_needs_one_exclusion_a_history() -> None:
    with pytest.raises(ValueError, match="exclude must have one collection .* 2 histories, got"):
        told().recommend_batch([["a"], ["b"]], exclude=[["a"]])


def test_cold_users_get_what_is_popular() -> None:
    log = Histories.from_lists([[(0, 4), (1, 4)], [(1, 0), (2, 3)], [(1, 2), (4, 1)], [(4, 1)]])
    agent = EASEAgent.fit(log, ITEMS, SCALE)
    assert Recommender.of(agent, ITEMS, SCALE).recommend([], k=2).item_ids == ["b", "e"]


def test_damaged_and_foreign_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no agent: neither model.zip"):
        Recommender.load(tmp_path)
    log = Histories.from_lists([[(0, 4), (1, 4)]])
    directory = save_agent(PopularityAgent.fit(log, ITEMS, SCALE), tmp_path / "p", ITEMS, SCALE)
    assert Recommender.load(directory).recommend(["a"], k=1).item_ids == ["b"]
    about = directory / "recommender.json"
    whole = about.read_text()
    about.write_text(whole.replace('"format": 1', '"format": 7'))
    with pytest.raises(ValueError, match="format 7 of version .* reads format 1; save it again"):
        Recommender.load(directory)
    for wrong in (
        whole[:50],
        whole.replace('"popularity"', '"dreamer"'),
        whole.replace("slate_", "sl_"),
    ):
        about.write_text(wrong)
        with pytest.raises(ValueError, match="the directory is damaged"):
            Recommender.load(directory)
    about.write_text(whole)
    arrays = directory / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"damaged \(.*\); save it again"):
        Recommender.load(directory)
    with pytest.raises(ValueError, match="catalogue must be .* of 3 items, got one of 5"):
        save_agent(ConstantAgent(np.ones(3)), tmp_path / "q", ITEMS, SCALE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match="holds something else than a saved baseline"):
        save_agent(PopularityAgent(np.ones(5)), tmp_path / "mine", ITEMS, SCALE)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    with pytest.raises(TypeError, match="agent must be one of random, popularity, .*, got Told"):
        save_agent(Told([1] * 5), tmp_path / "r", ITEMS, SCALE)  # type: ignore[arg-type]
    assert not (tmp_path / "r").exists() and not list(tmp_path.glob(".*"))


def test_a_fitted_user_model_recommends_greedily(
    planted_directory: Path, planted_users: BertUserModel
) -> None:
    recommender = Recommender.load(planted_directory)
    best = planted_users.scale.values[-1]
    for start in (0, 1):  # lovers of even items, and of odd ones
        loved = [(f"i{item}", best) for item in range(start, 40, 4)]
        found = recommender.recommend(loved, k=5)
        assert sum(int(item[1:]) % 2 == start for item in found.item_ids) >= 4
    (unfit := planted_directory.parent / "unfit").mkdir(exist_ok=True)
    (unfit / "users.json").write_text("{}")
    with pytest.raises(UserModelError, match="damaged"):
        Recommender.load(unfit)


def trained(users: Any, out: Path, algo: str, **changes: Any) -> Path:
    settings: dict[str, Any] = {"steps": 64, "num_envs": 8, "evaluations": 0, "device": "cpu"}
    settings |= {"users": "nowhere", "out": str(out), "algo": algo, "sessions_per_user": 1}
    return train(users, TrainSettings(**(settings | changes)), progress=False)


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo", "a2c", "dqn", "qr_dqn", "sac", "td3"])
def test_a_trained_agent_is_taken_away(tiny_users: Any, tmp_path: Path, algo: str) -> None:
    directory = trained(tiny_users, tmp_path / "run", algo)
    recommender = Recommender.load(directory, device="cpu")
    events = [(3, 4), (9, 0), (17, 2)]
    history = [(f"i{item}", tiny_users.scale.values[level]) for item, level in events]
    found = recommender.recommend(history, k=6)
    assert len(set(found.item_ids)) == 6 and not {"i3", "i9", "i17"} & set(found.item_ids)
    assert found.scores == sorted(found.scores, reverse=True)
    # What it recommends is what the agent does in the environment.
    agent = load_agent_of(directory, "cpu")
    items, levels, lengths = Histories.from_lists([events, []]).padded(recommender.window)
    observed = {"item": items, "feedback": levels, "length": lengths[:, None]}
    actions = np.ravel(agent.predict(observed, deterministic=True)[0])
    best = [found.item_ids[0], recommender.recommend([], k=1).item_ids[0]]
    assert tiny_users.catalogue.item_ids[actions].tolist() == best
    both = recommender.recommend_batch([history, []], k=6)
    assert both[0].item_ids == found.item_ids
    np.testing.assert_allclose(both[0].scores, found.scores, rtol=1e-4, atol=1e-5)
    # More events than the policy's window: the last ones count, all stay consumed.
    whole = [f"i{item}" for item in range(25)]
    last = recommender.recommend(whole, k=30)
    assert sorted(last.item_ids) == [f"i{item}" for item in range(25, 30)]


def test_a_policy_with_candidates_ranks_the_whole_catalogue(
    make_tiny_users: Any, tmp_path: Path
) -> None:
    users = make_tiny_users(items=60)
    directory = trained(users, tmp_path / "run", "ppo", candidates=12)
    found = Recommender.load(directory).recommend([("i4", 5.0)], k=59)
    assert sorted(found.item_ids) == sorted(f"i{item}" for item in range(60) if item != 4)


def test_a_run_without_its_labels(planted_directory: Path, tiny_users: Any, tmp_path: Path) -> None:
    directory = trained(tiny_users, tmp_path / "run", "ppo")
    (directory / "recommender.json").unlink()
    with pytest.raises(ValueError, match="does not tell the ids .* its users nowhere are not"):
        load_trained(directory)
    record = json.loads((directory / "settings.json").read_text())
    record["settings"]["users"] = str(planted_directory)
    (directory / "settings.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="40 item ids, the model has 30 items"):
        load_trained(directory)
    (directory / "model.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="the directory is damaged"):
        load_trained(directory)


def test_a_training_that_has_not_finished_is_no_agent_yet(tiny_users: Any, tmp_path: Path) -> None:
    directory = trained(tiny_users, tmp_path / "run", "ppo")
    (directory / "model.zip").unlink()
    for load in (Recommender.load, load_trained):
        with pytest.raises(
            ValueError, match="has not finished: it has no model.zip; run audience-"
        ):
            load(directory)


def test_recommending_leaves_the_policy_as_it_was(tiny_users: Any, tmp_path: Path) -> None:
    scorer, _ = load_trained(trained(tiny_users, tmp_path / "run", "ppo"), "cpu")
    items, levels, lengths = Histories.from_lists([[(3, 4)], [(2, 0), (5, 1)]]).padded()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = scorer.scores(items, levels, lengths)
    np.testing.assert_array_equal(first, scorer.scores(items, levels, lengths))
    assert torch.equal(state, torch.get_rng_state()) and first.shape == (2, 30)


def test_latency_counts_every_call() -> None:
    seen: list[int] = []
    found = latency(seen.append, calls=10, warmup=3)
    assert seen == [0, 1, 2, *range(10)] and found.p50 <= found.p99 and found.calls == 10
