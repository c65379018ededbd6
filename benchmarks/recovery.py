"""Recovery: users fitted to a log of scripted users, beside those scripted users themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from audience.agents.evaluation import evaluate
from audience.benchmarks.agreement import Value
from audience.benchmarks.fidelity_settings import FidelityPreset
from audience.benchmarks.grid import HAZARDS
from audience.benchmarks.policies import scripted_policies
from audience.benchmarks.scripted_truth import LOG_STEP_LIMIT, truth_of
from audience.reward_models.fit_data import FitData
from audience.reward_models.log import InteractionLog
from audience.reward_models.scripted import ScriptedUsers
from audience.reward_models.scripted_log import LoggingPolicy, Rates, log_of, write_frame
from audience.reward_models.scripted_plan import best_value, plan
from audience.reward_models.users import UserModel

STEP_LIMIT = 30
"""Of sessions, in both worlds."""

RETURNS_SEED = 2**33
"""Where the keys of the sessions begin that policies are valued in."""


def recovery(
    logging: LoggingPolicy,
    seed: int,
    budget: FidelityPreset,
    fit: Callable[[InteractionLog, int], UserModel],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Fit users to a scripted log and value policies in both worlds, under the same rules.

    Both worlds show one item a step, end sessions after STEP_LIMIT steps, and begin them with
    the first events of the same test users of the log. What the user model does not learn is
    set to the rates of the log.

    Args:
        logging: Who chose what the log's users were shown.
        seed: Of the log, the split and the fit.
        budget: How much to spend.
        fit: Fits users to a log with a seed.
        say: Tells of progress.

    Returns:
        `policies.<name>.{simulator|truth}` as `Value`, `planning` (exact mean returns of the
        best and the greedy policy, and their distance as a share of the best), `rates`.
    """
    scripted = ScriptedUsers(seed=seed)
    frame = write_frame(
        scripted, logging, new_users=budget.users, step_limit=LOG_STEP_LIMIT, seed=seed
    )
    log = log_of(scripted, frame, logging)
    rates = Rates.of(frame, LOG_STEP_LIMIT)
    users = fit(log, seed)
    truth = truth_of(scripted, users)
    fitting = FitData.of(log, None, seed).histories["fitting"]
    policies = scripted_policies(truth, fitting, users.catalogue, STEP_LIMIT, seed)
    learned: frozenset[str] = getattr(users, "learned", frozenset())
    rules: dict[str, Any] = {}
    if "outside" not in learned:
        if "acceptance" not in learned:
            rules["acceptance"] = rates.acceptance
        # What is met next is exposure times acceptance: a log shown by popularity has both in it.
        rules["popularity_discount"] = 1.0 if logging == "popularity" else 0.0
    if "leave" not in learned:
        rules |= {name: getattr(rates, name) for name in HAZARDS if name not in learned}
    valued: dict[str, dict[str, Value]] = {}
    for name, policy in policies.items():
        say(f"{log.name}, seed {seed}: {name} in both worlds")
        valued[name] = {
            world: Value.of(
                evaluate(
                    policy,
                    population,
                    sessions_per_user=budget.sessions,
                    seed=RETURNS_SEED * (seed + 1),
                    step_limit=STEP_LIMIT,
                    **rules,
                ).user_returns()
            )
            for world, population in (("simulator", users), ("truth", truth))
        }
    return {"policies": valued, "planning": planning(scripted), "rates": vars(rates)}


def planning(users: ScriptedUsers) -> dict[str, float]:
    """What planning is worth: exact mean returns from the users' test starts at slates of one."""
    starts = users.starts("test")
    best = float(np.mean(best_value(users, starts, STEP_LIMIT)))
    greedy = float(np.mean(plan(users, 1).value(starts, STEP_LIMIT)))
    return {"best": best, "greedy": greedy, "margin": (best - greedy) / best}
