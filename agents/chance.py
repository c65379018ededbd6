"""Leaving that nobody can help, counted as a discount: less chance in what is learned from."""

from __future__ import annotations

import dataclasses

from audience.reward_models.users import Assumptions, UserModel


def without_chance(users: UserModel, assumptions: Assumptions) -> tuple[Assumptions, float]:
    """Assumptions without the leaving that comes whatever is shown, and what it leaves of worth.

    Users of whom a share h leaves after any step are worth as much to a policy as users who never
    leave for that reason and whose future counts 1 - h as much a step: P(stay) = (1 - h) (1 - x),
    so every expected discounted return is the same. But a session that ends by chance takes with
    it all that was to come, which is many times what a recommendation can win or lose: on
    movielens a critic's squared error falls from 24 to 2.

    Args:
        users: Where leaving is learned from the log, nothing is changed; nor where the users do
            not say what they learned (`learned`).
        assumptions: Of the environment.

    Returns:
        Assumptions to train under, and the factor on the discount, 1 - h.
    """
    learned = getattr(users, "learned", None)
    given = assumptions.leave_after_choice, assumptions.leave_after_skip
    if learned is None or ("leave" in learned and None in given):
        return assumptions, 1.0
    stated = assumptions.stated
    both = stated.leave_after_choice, stated.leave_after_skip
    least = min(both)
    if least >= 1:
        return assumptions, 1.0
    choice, skip = ((hazard - least) / (1 - least) for hazard in both)
    changed = dataclasses.replace(assumptions, leave_after_choice=choice, leave_after_skip=skip)
    return changed, 1 - least
