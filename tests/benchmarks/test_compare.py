"""The comparison over closed-form users and real judges, so that its own stages are at work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from audience.agents.recommender import Recommender
from audience.benchmarks import __main__ as program
from audience.benchmarks import compare as comparison
from audience.benchmarks import judging, stages
from audience.benchmarks import worlds as module
from audience.benchmarks.compare import compare
from audience.benchmarks.front import WEIGHTS
from audience.benchmarks.settings import CompareSettings
from audience.reward_models import judges
from audience.reward_models.fit_settings import FitSettings
from audience.reward_models.fitting import settings_of
from audience.reward_models.log import InteractionLog
from audience.reward_models.quality_data import QualityData

FAST = "random,popularity,mean_feedback,ease,greedy"
"""Without ALS and PPO, for what does not ask for them."""


class ScoringTinyUsers:
    """The tiny users, and a score: how well an item matches their taste."""

    def __init__(self, users: Any) -> None:
        self.users, self.text_vectors = users, users.vectors

    def __getattr__(self, name: str) -> Any:
        return getattr(self.users, name)

    def score(
        self, items: NDArray[Any], levels: NDArray[Any], lengths: NDArray[Any], *_: Any, top: int
    ) -> NDArray[np.float32]:
        used = np.arange(items.shape[1]) < lengths[:, None]
        taste = (self.users.vectors[items] * used[..., None]).sum(1) / lengths[:, None]
        return (taste @ self.users.vectors.T).astype(np.float32)


@pytest.fixture(scope="module")
def own_log() -> InteractionLog:
    """Eighty users with 16 of the tiny users' 30 items each."""
    return log_of(16, 30)


def log_of(length: int, n_items: int) -> InteractionLog:
    """Eighty users with `length` items each, whose feedback is chance."""
    rng = np.random.default_rng(0)
    items = [f"i{i}" for i in range(n_items)]
    rows = [(f"u{u}", items[i]) for u in range(80) for i in rng.permutation(n_items)[:length]]
    events = pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row")
    events = events.with_columns(feedback=pl.Series(rng.integers(1, 6, len(rows)).astype(float)))
    return InteractionLog.from_frames(events, pl.DataFrame({"item_id": items, "title": items}))


@pytest.fixture(scope="module")
def fit_judge() -> Any:
    """Fits judges for real, each only once in these tests."""
    kept: dict[Any, Any] = {}

    def fit(kind: str, data: QualityData, out: Path) -> Any:
        key = (kind, data.seed, *data.fitting.users.tolist(), len(data.fitting.items))
        if key not in kept:
            kept[key] = judges.fit_judge(kind, data)  # type: ignore[arg-type]
        kept[key].save_pretrained(out)
        return kept[key]

    return fit


@pytest.fixture
def stage(
    tiny_users: Any,
    own_log: InteractionLog,
    fit_judge: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> SimpleNamespace:
    """Stands in for the fit of the simulator, which is counted."""
    seen = SimpleNamespace(fits=[], loads=[], out=tmp_path / "out", kill=False)

    def fit(log: InteractionLog, settings: FitSettings) -> Any:
        if seen.kill:
            raise KeyboardInterrupt
        assert log is own_log and settings.half == "a"
        seen.fits.append((settings.seed, settings.preset))
        out = Path(settings.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(len(seen.fits)))
        (out / "settings.json").write_text(json.dumps(settings_of(log, settings)))
        return ScoringTinyUsers(tiny_users)

    class BertUserModel:
        @staticmethod
        def from_pretrained(path: Path, device: str) -> Any:
            seen.loads.append(path)
            return ScoringTinyUsers(tiny_users)

    monkeypatch.setattr(judging, "fit_judge", fit_judge)
    monkeypatch.setattr(module, "fit", fit)
    monkeypatch.setattr(module, "BertUserModel", BertUserModel)
    monkeypatch.setattr(CompareSettings, "load_log", lambda self: own_log)
    monkeypatch.setattr(comparison, "WEIGHTS", ())  # where variety is asked for, few are enough
    seen.settings = lambda **wanted: CompareSettings(
        **{
            "preset": "tiny",
            "out": str(seen.out),
            "agents": FAST,
            "device": "cpu",
            "jobs": 0,
            # A partner is asked for where all agents are compared: each test would fit one more.
            "partner": None,
            "inner_judge": "boosted",
            **wanted,
        }
    )
    return seen


Stage = SimpleNamespace


def test_a_comparison_of_all_agents(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "WEIGHTS", (2.0,))
    program.main(
        ["compare", "--preset", "tiny", "--out", str(stage.out), "--slate-size", "2"]
        + ["--sessions", "8"]
        + ["--device", "cpu", "--jobs", "0", "--assumptions.acceptance", "0.6"]
    )
    shown = capsys.readouterr().out
    results = json.loads((stage.out / "results.json").read_text())
    kinds = {name: agent["kind"] for name, agent in results["agents"].items()}
    assert kinds == {
        "random": "reference",
        "popularity": "cf",
        "mean_feedback": "cf",
        "item_knn": "cf",
        "user_knn": "cf",
        "als": "cf",
        "ease": "cf",
        "ease_feedback": "cf",
        "greedy": "reference",
        "ppo": "rl",
    }
    for name, agent in results["agents"].items():
        returns = agent["simulator"]["return"]
        assert returns["low"] <= returns["mean"] <= returns["high"]
        assert returns["per_seed"] == [returns["mean"]]
        assert 1 <= agent["session_length"] <= 30 and 0 < agent["coverage"] <= 1
        for world in ("simulator", "judge_als", "judge_boosted"):
            gap = agent[world]["difference_to_best_cf"]
            assert (gap is None) == (name == results["best_cf"])
        gap = agent["exploitation_gap"]
        assert gap["low"] <= gap["mean"] <= gap["high"]
        assert agent["novelty"] > 0 and agent["segments"]["rare_items"]["judge_als"]["return"]
        assert ("inner_judge" in agent) == (agent["kind"] in ("cf", "rl"))
        assert "replay" not in agent  # slates of two, and too few events
        assert name in shown
    assert results["complete"] is True
    assert results["learned_in"] == [["simulator", "boosted"]]
    assert "in turn: what only one" in (stage.out / "report.html").read_text()
    judge = results["judges"]["als"]
    assert set(judge["competence"]) == {"item_knn", "ease"} and "ease" in judge["kin"]
    verdict = results["verdict"]
    assert verdict["rl"] == "ppo" and verdict["cf"] == results["best_cf"]
    assert set(verdict["difference"]) == {"judge_als", "judge_boosted"}
    assert verdict["sentence"] in shown.replace("\n", " ") or "verdict" in shown
    # The comparison's own assumptions, and two others of each of three: its own acceptance, .6,
    # is one of three.
    grid = results["assumption_grid"]
    assert len(grid) == 7 and {row["acceptance"] for row in grid} == {0.2, 0.4, 0.6}
    assert set(grid[0]["difference"]) == {"judge_als", "judge_boosted"}
    front = results["diversity_front"]
    sides = ("ppo", "rl"), (results["best_cf"], "cf")
    assert [(row["agent"], row["kind"], row["weight"]) for row in front] == [
        (*side, weight) for side in sides for weight in (0.0, 2.0)
    ]
    for own, varied in (front[:2], front[2:]):
        for world in ("simulator", "judge_als", "judge_boosted"):
            assert own[world]["return"] == results["agents"][own["agent"]][world]["return"]
            assert own[world]["difference"] is None and varied[world]["difference"]
            assert varied[world]["diversity"] != own[world]["diversity"]
    assert "What variety costs" in (stage.out / "report.html").read_text()
    assert set(results["rank_correlation"]) == {
        "simulator_judge_als",
        "simulator_judge_boosted",
        "judge_als_judge_boosted",
    }
    assert results["rank_correlation"]["simulator_judge_als"]["agents"] == len(kinds)
    assert results["settings"]["assumptions"]["acceptance"] == 0.6
    assert results["settings"]["slate_size"] == 2 and results["log"]["users"] == 80
    record = json.loads((stage.out / "settings.json").read_text())
    assert record["settings"] == results["settings"] and "torch" in record["versions"]
    for part in ("seed-0/ppo", "summary"):
        assert list((stage.out / part).glob("events.out.tfevents.*"))
    assert (stage.out / "table.md").read_text().count("\n") == len(kinds) + 4
    assert "judge boosted" in (stage.out / "report.html").read_text()
    assert not list(stage.out.rglob(".*tmp*"))
    # What is fitted can be taken away.
    for part in ("baselines/ease", "baselines/popularity", "ppo"):
        found = Recommender.load(stage.out / "seed-0" / part).recommend(["i3", ("i4", 5.0)], k=4)
        assert len(found) == 4 and not {"i3", "i4"} & set(found.item_ids)
    # Greedy knows the tiny users' taste; random does not.
    best, worst = (results["agents"][name]["simulator"]["return"] for name in ("greedy", "random"))
    assert best["low"] > worst["high"]


def test_what_is_finished_is_reused_and_gives_the_same(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compare(stage.settings())
    assert "reused" not in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(stages, "evaluate", None)  # nothing is left to be evaluated
        assert compare(stage.settings()) == first
    shown = capsys.readouterr().out
    # The user model, three judges, five agents in three worlds, and the three of kind cf with
    # validation users in two.
    assert shown.count("reused") == 1 + 3 + 15 + 6 and stage.fits == [(0, "tiny")]
    # More agents and seeds add to the directory.
    more = compare(stage.settings(agents=f"{FAST},als", seeds=2))
    assert stage.fits == [(0, "tiny"), (1, "tiny")]
    assert capsys.readouterr().out.count("seed 1: ") > 0
    for name, agent in first["agents"].items():
        per_seed = more["agents"][name]["simulator"]["return"]["per_seed"]
        assert len(per_seed) == 2
        assert per_seed[0] == pytest.approx(agent["simulator"]["return"]["mean"])


@pytest.mark.parametrize("left", [3, 14])
def test_a_killed_run_goes_on_where_it_was_and_ends_the_same(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """Random draws of its own, and what it drew before is forgotten, whenever it is killed."""
    agents = "random,popularity,thompson,ppo"
    whole = compare(stage.settings(agents=agents))
    shutil.rmtree(stage.out)
    evaluate, rest = stages.evaluate, iter(range(left))

    def killed(*args: Any, **kwargs: Any) -> Any:
        if next(rest, None) is None:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stages, "evaluate", killed)
        compare(stage.settings(agents=agents))
    partial = json.loads((stage.out / "results.json").read_text())
    assert not partial["complete"]
    if left == 3:
        assert list(partial["agents"]) == ["random"]
    again = compare(stage.settings(agents=agents))
    assert again == whole
    assert json.loads((stage.out / "results.json").read_text()) == json.loads(json.dumps(whole))
    assert len(stage.fits) == 2 and len(stage.loads) == 1


def test_a_killed_fit_is_fitted_again(stage: Stage) -> None:
    stage.kill = True
    with pytest.raises(KeyboardInterrupt):
        compare(stage.settings())
    assert not (stage.out / "results.json").exists()
    stage.kill = False
    assert compare(stage.settings(agents="random"))["complete"]
    assert len(stage.fits) == 1 and not stage.loads


def test_another_user_model_voids_what_was_learned_in_the_old_one(stage: Stage) -> None:
    compare(stage.settings(agents="random,ppo"))
    note = stage.out / "seed-0" / "users" / "settings.json"
    note.write_text(note.read_text().replace('"tiny"', '"demo"'))
    kept = [
        stage.out / "seed-0" / file
        for file in ("sessions/random-simulator-test.npz", "ppo/model.zip")
    ]
    before = [file.stat().st_mtime_ns for file in kept]
    compare(stage.settings(agents="random,ppo"))
    assert len(stage.fits) == 2
    assert all(file.stat().st_mtime_ns > old for file, old in zip(kept, before, strict=True))


def test_a_directory_of_other_settings_is_refused(stage: Stage) -> None:
    compare(stage.settings(agents="random"))
    with pytest.raises(ValueError, match=r"step_limit was 30 and is now 5\); pass another out"):
        compare(stage.settings(agents="random", step_limit=5))
    results = compare(stage.settings(agents="random", step_limit=5, overwrite=True))
    assert results["agents"]["random"]["session_length"] <= 5
    assert len(stage.fits) == 1  # the users have no step limit


def test_agents_meet_the_same_users_under_the_same_draws(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    evaluate = stages.evaluate

    def watched(agent: Any, users: Any, **settings: Any) -> Any:
        key = (settings["population"], settings["sessions_per_user"], settings["seed"])
        asked.append((type(users).__name__, *key))
        return evaluate(agent, users, **settings)

    monkeypatch.setattr(stages, "evaluate", watched)
    compare(stage.settings(agents="random,popularity,greedy", seeds=2))
    for users in ("ScoringTinyUsers", "AlsJudge", "BoostedJudge"):
        test = [(n, seed) for name, part, n, seed in asked if (name, part) == (users, "test")]
        assert test == [(2, 2**32)] * 3 + [(2, 2**33)] * 3
    # 10 test users with 2 sessions each, 8 validation users: 3 each are the first as many.
    assert [one for one in asked if one[1] == "validation"] == [
        (users, "validation", 3, 2**32 * seed)
        for seed in (1, 2)
        for users in ("ScoringTinyUsers", "BoostedJudge")
    ]


def test_real_users_are_replayed_where_they_have_events_enough(
    make_tiny_users: Any, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = ScoringTinyUsers(make_tiny_users(items=60))
    log = log_of(50, 60)
    monkeypatch.setattr(CompareSettings, "load_log", lambda self: log)
    monkeypatch.setattr(module.Worlds, "simulator", users)
    results = compare(stage.settings(agents="random,popularity,ppo"))
    replay = results["agents"]["popularity"]["replay"]["return"]
    assert 0 < replay["low"] < replay["mean"] < 10  # ten picks of feedback from 0 to 1
    assert "replay" in results["verdict"]["difference"]
    assert "simulator_replay" in results["rank_correlation"]
    sessions = load_sessions_of(stage.out / "seed-0/sessions/random-replay-test.npz")
    assert (sessions["length"] == 10).all() and (sessions["chosen"] >= 0).all()
    monkeypatch.setattr(module, "LEAST_REPLAYED", 99)
    results = compare(stage.settings(agents="random"))
    assert "replay" not in results["agents"]["random"] and "99 are needed" in results["no_replay"]


def load_sessions_of(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as stream, np.load(stream) as kept:
        return {name: kept[name] for name in kept.files}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"slate_size": 23}, r"slate_size must be at most 22 \(the 30 items of the catalogue less"),
        ({"device": "abacus"}, "device must be auto, cpu or cuda, got 'abacus'"),
        ({"inner_judge": "oracle"}, "inner_judge must be one of als, boosted.*, got 'oracle'"),
        ({"partner": "oracle"}, "partner must be one of als, boosted, or None, got 'oracle'"),
        ({"partner": "boosted"}, "inner_judge must be of another class than the partner"),
    ],
)
def test_what_cannot_work_is_refused_before_the_fit(
    stage: Stage, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(stage.settings(**wrong))
    assert not stage.fits and not stage.out.exists()


def test_the_program_says_what_is_wrong(
    stage: Stage,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the default out is relative
    for wrong, message in (
        (["--agents", "ease,dreamer"], "'dreamer' is none"),
        (["--sedes", "3"], "--sedes"),
    ):
        with pytest.raises(SystemExit, match="2"):
            program.main(["compare", *wrong])
        # The message stands in a box, whose lines are broken anywhere.
        assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    with pytest.raises(SystemExit, match="audience-bench: slate_size must be at most 22"):
        program.main(["compare", "--preset", "tiny", "--slate-size", "30", "--device", "cpu"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_cells_side_by_side_give_what_they_give_one_after_the_other(tmp_path: Path) -> None:
    """With all its real parts: users fitted to files, PPO, judges, replay."""
    log = log_of(50, 60)
    log.interactions.write_csv(tmp_path / "interactions.csv")
    log.items.write_csv(tmp_path / "items.csv")
    found = [
        compare(
            CompareSettings(
                interactions=str(tmp_path / "interactions.csv"),
                items=str(tmp_path / "items.csv"),
                text="{text}",
                preset="tiny",
                agents="random,ease,greedy,greedy_pessimism,ppo",
                seeds=2,
                out=str(tmp_path / str(jobs)),
                jobs=jobs,
                device="cpu",
            )
        )
        for jobs in (1, 2)
    ]
    assert found[0] == found[1]
    assert {row["weight"] for row in found[0]["diversity_front"]} == {0.0, *WEIGHTS}
    assert found[0]["agents"]["ppo"]["replay"]["return"]["per_seed"][1] > 0
    assert "simulator" in found[0]["judges"]["als"]["competence"]
    masked = found[0]["rank_correlation"]["simulator_replay_same_masks"]
    assert masked["agents"] >= 11 and masked["kendall"] is not None
