from __future__ import annotations

from itertools import permutations

import pytest
import torch

from audience.agents.distribution import PlackettLuceDistribution


def all_slates(items: int, places: int) -> torch.Tensor:
    return torch.tensor(list(permutations(range(items), places)))


@pytest.mark.parametrize("places", [1, 2, 3, 4])
def test_probabilities_of_all_ordered_slates_sum_to_one(places: int) -> None:
    slates = all_slates(4, places)
    scores = torch.tensor([0.3, -1.0, 2.0, 0.5]).expand(len(slates), -1)
    log_prob = PlackettLuceDistribution(places).proba_distribution(scores).log_prob(slates)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_log_prob_worked_by_hand() -> None:
    # Weights 1, 2, 3: P(2, 0) = 3/6 * 1/3 and P(0, 1) = 1/6 * 2/5.
    scores = torch.tensor([1.0, 2.0, 3.0]).log().expand(2, -1)
    distribution = PlackettLuceDistribution(2).proba_distribution(scores)
    probability = distribution.log_prob(torch.tensor([[2, 0], [0, 1]])).exp()
    torch.testing.assert_close(probability, torch.tensor([1 / 6, 1 / 15]))


def test_log_prob_stays_exact_where_a_few_items_hold_all_probability() -> None:
    # After 0 and 1 nearly nothing is left; 1 - p_0 - p_1 in float32 would be 0 or noise.
    scores = torch.tensor([[30.0, 28.0, 0.0, 0.0]])
    log_prob = (
        PlackettLuceDistribution(3).proba_distribution(scores).log_prob(torch.tensor([[0, 1, 2]]))
    )
    exact = scores.double()[0]
    expected = sum(exact[k] - exact[k:].logsumexp(0) for k in range(3))
    torch.testing.assert_close(log_prob[0].double(), expected, rtol=1e-5, atol=1e-6)


def test_masked_items_have_probability_zero_and_are_never_drawn() -> None:
    torch.manual_seed(0)
    scores = torch.tensor([5.0, 0.0, 0.0, 0.0]).expand(2000, -1).clone().requires_grad_()
    allowed = torch.tensor([False, True, True, True]).expand(2000, -1)
    distribution = PlackettLuceDistribution(2).proba_distribution(scores, allowed)
    drawn = distribution.sample()
    assert not (drawn == 0).any() and not (distribution.mode() == 0).any()
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert distribution.log_prob(torch.tensor([[0, 1]] * 2000)).exp().max().item() == 0
    # The three allowed items are left to themselves.
    first = PlackettLuceDistribution(1).proba_distribution(scores, allowed)
    torch.testing.assert_close(first.log_prob(torch.ones(2000)).exp(), torch.full((2000,), 1 / 3))
    distribution.log_prob(drawn).sum().backward()
    assert scores.grad is not None and scores.grad.isfinite().all()
    assert (scores.grad[:, 0] == 0).all()


def test_slate_of_everything_that_is_allowed() -> None:
    scores = torch.zeros(1, 3, requires_grad=True)
    allowed = torch.tensor([[True, True, False]])
    log_prob = (
        PlackettLuceDistribution(2)
        .proba_distribution(scores, allowed)
        .log_prob(torch.tensor([[1, 0]]))
    )
    assert log_prob.item() == pytest.approx(-0.693147, abs=1e-5)
    log_prob.backward()
    assert scores.grad is not None and scores.grad.isfinite().all()


@pytest.mark.parametrize("places", [1, 2])
def test_samples_follow_the_probabilities(places: int) -> None:
    torch.manual_seed(1)
    slates = all_slates(3, places)
    scores = torch.tensor([1.0, 2.0, 3.0]).log()
    distribution = PlackettLuceDistribution(places).proba_distribution(scores.expand(20_000, -1))
    drawn = distribution.sample().reshape(-1, places)
    shares = torch.stack([(drawn == slate).all(1).float().mean() for slate in slates])
    expected = (
        PlackettLuceDistribution(places)
        .proba_distribution(scores.expand(len(slates), -1))
        .log_prob(slates)
    )
    # 5 standard errors of a share are at most 5 * .5 / sqrt(20,000) = .018.
    torch.testing.assert_close(shares, expected.exp(), rtol=0, atol=0.018)


def test_mode_and_entropy() -> None:
    scores = torch.tensor([[0.0, 2.0, 1.0]])
    assert PlackettLuceDistribution(1).proba_distribution(scores).mode().tolist() == [1]
    assert PlackettLuceDistribution(2).proba_distribution(scores).mode().tolist() == [[1, 2]]
    even = PlackettLuceDistribution(1).proba_distribution(
        torch.zeros(1, 4), torch.tensor([[True, True, False, False]])
    )
    assert even.entropy().item() == pytest.approx(0.693147, abs=1e-6)
