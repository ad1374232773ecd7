"""How much of a consistency step is rounding, where it can be computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.batch import LatentBatch
from models.consistency import ConsistencyObjective
from models.denoiser import build_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective, per_item, precondition
from models.rounding import rounding_noise

OBJECTIVE = ConsistencyObjective()


class LinearDenoiser(nn.Module):
    """F(x) = x: the only rounding is that of x and of F, once each."""

    def __init__(self):
        super().__init__()
        self.objective = OBJECTIVE
        self.layer = nn.Linear(8, 8, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(8))

    def forward(self, noisy, sigma_B, conditions):
        def raw(x, sigma_B):
            scaled = per_item(self.objective.scales(sigma_B).input, x) * x
            return self.layer(scaled.transpose(1, 2)).transpose(1, 2).to(x.dtype)

        return precondition(raw, self.objective.scales)(noisy, sigma_B)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    latents = 0.5 * torch.randn(2, 64, 8, 12, generator=generator)
    given = torch.ones(64, dtype=torch.bool)
    return LatentBatch(latents[0], latents[1], torch.randn(64, 6, generator=generator), given, given)


def by_hand(batch, sigma, progress, dtype, seed):
    """c_out times what rounding adds to F, at both ends of the step, over the exact difference of f."""
    noise = torch.randn(batch.target_BCT.shape, generator=torch.Generator().manual_seed(seed)).double()
    t = OBJECTIVE.t(torch.tensor([sigma], dtype=torch.float64))
    error, difference = 0.0, 0.0
    for sign, level in ((1, OBJECTIVE.sigma(t)), (-1, OBJECTIVE.sigma((t - OBJECTIVE.step(progress)).clamp(min=0)))):
        at, x = OBJECTIVE.scales(level), batch.target_BCT.double() + level * noise
        error = error + sign * at.out * ((at.input * x).to(dtype).double() - at.input * x)
        difference = difference + sign * (at.skip * x + at.out * at.input * x)
    return (error.norm() / difference.norm()).item()


@pytest.mark.parametrize("progress", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_ratio_of_a_linear_network_is_that_of_its_rounded_values(batch, dtype, progress):
    for found in rounding_noise(LinearDenoiser(), batch, progress=progress, dtype=dtype, seed=5):
        assert found.ratio == pytest.approx(by_hand(batch, found.sigma, progress, dtype, 5), rel=0.02)
        assert found.step == pytest.approx(0.1 if progress == 0 else 0.001)


def test_ratio_grows_as_the_step_shrinks_and_falls_with_the_precision(batch):
    denoiser = build_denoiser(
        DiTRecipe(width=16, layers=1, heads=2, noise_width=16), OBJECTIVE, clap_width=6, seed=0, latent_width=8
    )
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))

    def ratio(dtype, progress):
        return rounding_noise(denoiser, batch, progress=progress, dtype=dtype, seed=0, levels=(2.5,))[0].ratio

    assert ratio(torch.bfloat16, 1.0) > 30 * ratio(torch.bfloat16, 0.0)
    # eight bits of mantissa in bfloat16, eleven in float16, twenty-four in float32
    assert ratio(torch.bfloat16, 0.5) > 4 * ratio(torch.float16, 0.5)
    assert ratio(torch.float16, 0.5) > 1000 * ratio(torch.float32, 0.5) > 0


def test_another_objective_has_no_consistency_difference(batch):
    denoiser = build_denoiser(
        DiTRecipe(width=16, layers=1, heads=2, noise_width=16), EdmObjective(), clap_width=6, seed=0, latent_width=8
    )
    with pytest.raises(ValueError, match="only a consistency denoiser"):
        rounding_noise(denoiser, batch, progress=0.0, dtype=torch.bfloat16, seed=0)
