"""What is fitted before the tower, on data whose law is known."""

import numpy as np
import torch

from audience.reward_models.bases import _fit_appeal
from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.configuration import BehaviourConfig


def test_the_appeal_goes_on_as_it_began_beyond_what_slates_showed() -> None:
    torch.manual_seed(0)
    config = BehaviourConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        level_values=[1.0, 2.0],
        places=2,
    )
    model = BehaviourModel(config)
    slates, n = 4000, len(model.feature_mean)
    x = torch.randn(slates, 2, n)
    places = torch.arange(2).expand(slates, 2)
    law = 2 * x[..., 0] - 1 - 0.5 * places  # each place down costs half a unit
    options = torch.cat([torch.zeros(slates, 1), law], 1).softmax(1)
    chosen = torch.multinomial(options, 1)[:, 0] - 1
    there = torch.ones(slates, 2, dtype=torch.bool)
    _fit_appeal(model, [(x, places, there, chosen)], seed=0)
    asked = torch.zeros(4, n)
    asked[:, 0] = torch.tensor([-4.0, 0.0, 1.0, 4.0])  # the log's are nearly all within 3
    with torch.no_grad():
        said = model.slates.base_appeal(asked, torch.zeros(4, dtype=torch.long)).numpy()
        lower = model.slates.base_appeal(asked, torch.ones(4, dtype=torch.long)).numpy()
    np.testing.assert_allclose(said, [-9, -1, 1, 7], atol=0.9)
    np.testing.assert_allclose(said - lower, 0.5, atol=0.2)
