"""The worlds of one seed: the simulator, judges inside its half and outside, and real users."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from audience.benchmarks.files import read_json, write_json
from audience.benchmarks.judging import NOTE, fitted, judge_in, qualities
from audience.benchmarks.roster import ROSTER
from audience.benchmarks.scripted_truth import SEED, truth_of
from audience.benchmarks.settings import CompareSettings
from audience.benchmarks.world_names import INNER, JUDGE, REPLAY, SIMULATOR, TRUTH
from audience.reward_models.bert_users import BertUserModel
from audience.reward_models.checked import CheckedUsers
from audience.reward_models.fit_data import FitData
from audience.reward_models.fit_settings import FitSettings
from audience.reward_models.fitting import fit, settings_of
from audience.reward_models.judge_base import Judge
from audience.reward_models.judges import JUDGES
from audience.reward_models.log import InteractionLog
from audience.reward_models.quality_data import QualityData
from audience.reward_models.replay import ReplayUsers
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.splits import Half
from audience.reward_models.users import UserModel
from audience.reward_models.witnesses import fit_witness

HALF: Literal["a"] = "a"
"""The users who are fitted on: the other half is kept for the judges."""

OTHER: Literal["b"] = "b"

LEAST_REPLAYED = 5
"""Test users that a replay needs: the mean of fewer says nothing."""

PARTNER = "partner.json"
"""File of a seed that says whether agents learn in the partner."""

WITNESSES = 3
"""User models that check the simulator, where an agent asks for them; each costs a fit."""


class Worlds:
    """Users of each world, fitted or loaded when they are first asked for, and kept.

    Args:
        settings: Of the comparison.
        log: The log.
        data: Its half that is fitted on.
        seed: Of the halving and all else.
        record: What every stage of the seed depends on.
        say: Tells of progress.
    """

    def __init__(
        self,
        settings: CompareSettings,
        log: InteractionLog,
        data: FitData,
        seed: int,
        record: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.settings, self.log, self.data, self.seed = settings, log, data, seed
        self.out = Path(settings.out) / f"seed-{seed}"
        self._record, self._say = record, say
        self._judges: dict[tuple[Half, str], Judge] = {}
        self._digests: dict[Path, str | None] = {}

    @property
    def opened(self) -> list[str]:
        """The worlds that no agent was made in: judges of the other half, and real users."""
        judges = [f"{JUDGE}{kind}" for kind in JUDGES]
        truth = [TRUTH] if self.settings.scripted else []
        return [*judges, *truth, *([REPLAY] if self.replay else [])]

    def users_of(self, world: str) -> UserModel:
        """Whom an agent meets in a world."""
        if world == SIMULATOR:
            return self.simulator
        if world == REPLAY:
            assert self.replay is not None
            return self.replay
        if world == TRUTH:
            return truth_of(ScriptedUsers(seed=SEED), self.simulator)
        return self.judge(*self._kind_of(world))

    def digest(self, world: str) -> str | None:
        """Hash of the users of a world, None where nothing is fitted."""
        if world in (REPLAY, TRUTH):
            return None
        self.users_of(world)
        fitted_at = self.out / "users"
        if world != SIMULATOR:
            fitted_at = self._of_judge(*self._kind_of(world))
        return self._digest_of(fitted_at)

    @property
    def partner_digests(self) -> list[str | None]:
        """Hash of each of the `partners`."""
        return [self._digest_of(self._of_judge(HALF, one.kind)) for one in self.partners]

    @cached_property
    def simulator(self) -> UserModel:
        """The user model of this seed."""
        directory, settings = self.out / "users", self._fit_settings
        if read_json(directory / "settings.json") == settings_of(self.log, settings):
            self._say(f"user model: reused: {directory}")
            return BertUserModel.from_pretrained(directory, device=settings.device)
        for name, entry in ROSTER.items():
            if entry.kind == "rl":  # what was trained in other users is void
                shutil.rmtree(self.out / name, ignore_errors=True)
        self._say(f"fitting the user model (preset {settings.preset})")
        return fit(self.log, settings)

    @property
    def _fit_settings(self) -> FitSettings:
        return FitSettings(
            preset=self.settings.users_preset,
            half=HALF,
            seed=self.seed,
            device=self.settings.device,
            encoder=self.settings.encoder,
            studies=False,  # judges are fitted here, and refits would take longer than the rest
            out=str(self.out / "users"),
        )

    def judge(self, half: Half, kind: str) -> Judge:
        """A judge: of the other half for a verdict, of the simulator's for choices on the way."""
        if (half, kind) not in self._judges:
            directory = self._of_judge(half, kind)
            of_log = {key: self._record[key] for key in ("log", "versions", "seed")}
            record = {**of_log, "kind": kind, "half": half}
            judge = judge_in(directory, record)
            if judge is None:
                self._say(f"fitting the judge {kind} on half {half}")
                data = self.own_half if half == HALF else self._other_half
                judge = fitted(directory, kind, data, record)
            else:
                self._say(f"judge {kind} of half {half}: reused: {directory}")
            self._judges[half, kind] = judge
        return self._judges[half, kind]

    def checked(self, pessimism: float) -> UserModel:
        """The simulator with witnesses, who are fitted when they are first asked for."""
        users = self.simulator
        if not isinstance(users, BertUserModel):
            return users  # closed-form users are known
        return CheckedUsers(users, self.witnesses, pessimism)

    @cached_property
    def witnesses(self) -> list[BertUserModel]:
        """User models of other samples of the users that the simulator is fitted to."""
        found = []
        for number in range(WITNESSES):
            directory = self.out / "witnesses" / str(number)
            record = {key: self._record[key] for key in ("log", "versions", "seed")}
            record = {**record, "number": number, "users": self.digest(SIMULATOR)}
            if read_json(directory / NOTE) == json.loads(json.dumps(record)):
                self._say(f"witness {number}: reused: {directory}")
                found.append(BertUserModel.from_pretrained(directory, self.settings.device))
                continue
            self._say(f"fitting witness {number} of {WITNESSES}")
            settings = dataclasses.replace(self._fit_settings, out=str(directory))
            order = self.simulator.model.config.order  # type: ignore[attr-defined]
            found.append(fit_witness(self.data, settings, order, number))
            write_json(directory / NOTE, record)
        return found

    @cached_property
    def partners(self) -> list[Judge]:
        """Whom agents learn in beside the simulator, if they know real users about as well."""
        kind = self.settings.partner
        if kind is None:
            return []
        partner = self.judge(HALF, kind)
        if not hasattr(self.simulator, "predict_events"):
            return [partner]  # there is nothing to compare
        record = {key: self._record[key] for key in ("log", "versions", "seed")}
        record |= {"kind": kind, "users": self.digest(SIMULATOR)}
        kept = read_json(self.out / PARTNER)
        if kept is None or kept["record"] != json.loads(json.dumps(record)):
            kept = {"record": record, "found": qualities(partner, self.simulator, self.own_half)}
            write_json(self.out / PARTNER, kept)
        if kept["found"]["learned_in"]:
            return [partner]
        self._say(f"nobody learns in the partner {kind}: {kept['found']['sentence']}")
        return []

    @property
    def inner_judge(self) -> Judge:
        """The judge inside the simulator's half."""
        return self.judge(HALF, self.settings.inner_judge)

    @property
    def replay(self) -> ReplayUsers | None:
        """Real users, where they have events enough and slates hold one item."""
        return self._replayed[0]

    @property
    def no_replay(self) -> str | None:
        """Why nobody is replayed, None where somebody is."""
        return self._replayed[1]

    @cached_property
    def _replayed(self) -> tuple[ReplayUsers | None, str | None]:
        if self.settings.slate_size > 1:
            return None, "real feedback is on single items, and slates hold several"
        try:
            users = ReplayUsers(self.data.catalogue, self.data.scale, self.data.histories)
        except ValueError as error:
            return None, str(error)
        if (found := len(users.starts("test"))) < LEAST_REPLAYED:
            return None, f"{found} test users have events enough, and {LEAST_REPLAYED} are needed"
        return users, None

    @cached_property
    def own_half(self) -> QualityData:
        """What measures and judges of half A take."""
        return self.data.quality(self.seed)

    @cached_property
    def _other_half(self) -> QualityData:
        """Half B, with the levels of half A."""
        return FitData.of(self.log, OTHER, self.seed, scale=self.data.scale).quality(self.seed)

    def forget(self) -> None:
        """Free the memory; whatever is asked for later is loaded again."""
        for name in ("simulator", "partners", "witnesses", "_replayed", "own_half", "_other_half"):
            self.__dict__.pop(name, None)
        self._judges.clear()

    def _digest_of(self, directory: Path) -> str | None:
        if directory not in self._digests:  # they stay as they are once they are fitted
            self._digests[directory] = digest_of(directory)
        return self._digests[directory]

    def _kind_of(self, world: str) -> tuple[Half, str]:
        if world == INNER:
            return HALF, self.settings.inner_judge
        return OTHER, world.removeprefix(JUDGE)

    def _of_judge(self, half: Half, kind: str) -> Path:
        own = "partner" if kind == self.settings.partner else "inner-judge"
        return self.out / (own if half == HALF else "judges") / kind


def digest_of(path: Path) -> str | None:
    """Hash of a model's files (weights, tables and configurations), None where there is none."""
    if not path.is_dir():
        return None
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.iterdir()):
        if file.suffix in (".safetensors", ".parquet", ".zip") or file.name == "config.json":
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
