"""Sampling latents: candidates of their own, variations, pseudo-stereo."""

from __future__ import annotations

import math

import pytest
import torch

from models.conditioning import ClapSource, Conditioning, Conditions
from models.consistency import ConsistencyObjective
from models.denoiser import build_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective, dpm_multistep, euler, heun
from models.sampling import (
    AncestralSampler,
    ConsistencySampler,
    DpmSampler,
    EulerSampler,
    Guidance,
    HeunSampler,
    pseudo_stereo,
    run_sampler,
    sample_latents,
    variation_levels,
    vary,
)
from models.unet import UNetRecipe
from tasks.recipes import dump_recipe, load_recipe

SAMPLERS = [
    HeunSampler(steps=4),
    EulerSampler(steps=4),
    DpmSampler(steps=4),
    AncestralSampler(steps=4),
    ConsistencySampler(),
]
NETWORKS = [
    DiTRecipe(width=16, layers=1, heads=2, noise_width=16, frames_per_token=2),
    UNetRecipe(base=16, multipliers=(1, 2), blocks=1, attention_levels=(2,), embedding=16),
]
GUIDANCE = Guidance(context=1.25, clap=1.5)


@pytest.fixture
def make_denoiser():
    """A small denoiser that has left its zero initialisation."""

    def make(recipe=NETWORKS[0], objective=None):
        denoiser = build_denoiser(recipe, objective or EdmObjective(), clap_width=6, seed=0, latent_width=4)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in denoiser.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return denoiser.eval().requires_grad_(False)

    return make


@pytest.fixture
def conditions():
    generator = torch.Generator().manual_seed(3)
    row = Conditioning(clap=ClapSource.AUDIO, context=True)
    return row.conditions(torch.randn(3, 4, 8, generator=generator), torch.randn(3, 6, generator=generator))


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def rows(conditions, *chosen):
    index = list(chosen)
    return Conditions(
        conditions.context_BCT[index],
        conditions.clap_BE[index],
        conditions.has_context_B[index],
        conditions.has_clap_B[index],
    )


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_batch_composition_does_not_change_a_candidate(make_denoiser, conditions, sampler, network):
    denoiser = make_denoiser(network)
    together = sample_latents(
        denoiser, conditions, sampler=sampler, guidance=GUIDANCE, generators=generators(10, 11, 12)
    )
    for order in ((2,), (1, 2), (2, 0, 1)):
        part = sample_latents(
            denoiser,
            rows(conditions, *order),
            sampler=sampler,
            guidance=GUIDANCE,
            generators=generators(*[10 + row for row in order]),
        )
        torch.testing.assert_close(part, together[list(order)], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_a_candidate_is_a_function_of_its_seed(make_denoiser, conditions, sampler):
    def draw(*seeds):
        return sample_latents(
            make_denoiser(), conditions, sampler=sampler, guidance=GUIDANCE, generators=generators(*seeds)
        )

    first, second = draw(1, 2, 3), draw(1, 2, 4)
    assert torch.equal(first, draw(1, 2, 3))
    torch.testing.assert_close(first[:2], second[:2])
    assert (first[2] - second[2]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("sampler", "solver"), [(HeunSampler(), heun), (EulerSampler(), euler), (DpmSampler(), dpm_multistep)]
)
def test_a_deterministic_sampler_runs_its_own_solver_over_its_levels(sampler, solver):
    start, levels = torch.ones(2, 4, 8), sampler.levels

    def denoise(noisy, sigma_B):
        return noisy / (1 + sigma_B[:, None, None] ** 2)

    found = run_sampler(sampler, denoise, start, levels, noise=lambda: torch.full_like(start, torch.nan))
    assert torch.equal(found, solver(denoise, start, levels))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_outside_the_interval_a_candidate_costs_one_evaluation_a_call(make_denoiser, conditions, sampler):
    denoiser, calls = make_denoiser(), []
    denoiser.register_forward_pre_hook(lambda _, told: calls.append((float(told[1][0]), len(told[0]))))
    guidance = Guidance(context=2.0, clap=2.0, interval=(0.1, 10.0))
    sample_latents(denoiser, conditions, sampler=sampler, guidance=guidance, generators=generators(1, 2, 3))
    assert calls == [(sigma, 6 if 0.1 < sigma <= 10.0 else 3) for sigma, _ in calls]
    assert {rows for _, rows in calls} == {3, 6}


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_a_sampler_and_its_guidance_are_read_back_as_written(sampler):
    guidance = Guidance(interval=(0.2, 5.0), rescale=0.7)
    assert load_recipe(dump_recipe((sampler, guidance))) == (sampler, guidance)


def test_global_generator_is_left_alone(make_denoiser, conditions):
    denoiser = make_denoiser()
    before = torch.get_rng_state()
    build_denoiser(NETWORKS[0], EdmObjective(), clap_width=6, seed=5)
    sample_latents(
        denoiser, conditions, sampler=AncestralSampler(steps=2), guidance=GUIDANCE, generators=generators(1, 2, 3)
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_short_is_an_error(make_denoiser, conditions):
    with pytest.raises(ValueError, match="3 candidates need as many generators, got 2"):
        sample_latents(
            make_denoiser(), conditions, sampler=HeunSampler(), guidance=GUIDANCE, generators=generators(1, 2)
        )


@pytest.mark.parametrize("steps", [10, 20, 30])
def test_a_variation_begins_at_the_step_that_its_strength_names(steps):
    sampler = HeunSampler(steps=steps)
    for tenths in range(11):
        skipped = (10 - tenths) * steps // 10
        assert variation_levels(sampler, tenths / 10) == (sampler.levels[skipped:] if tenths else ())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_variation_of_no_strength_is_the_original_and_more_strength_is_farther(make_denoiser, conditions, sampler):
    objective = ConsistencyObjective() if isinstance(sampler, ConsistencySampler) else EdmObjective()
    denoiser, latent = make_denoiser(objective=objective), 0.5 * torch.randn(3, 4, 8)

    def away(strength):
        varied = vary(
            denoiser,
            latent,
            conditions,
            strength=strength,
            sampler=sampler,
            guidance=GUIDANCE,
            generators=generators(1, 2, 3),
        )
        return (varied - latent).square().mean().item()

    assert away(0.0) == 0
    assert 0 < away(0.3) < away(1.0)


def test_variation_of_full_strength_starts_at_sigma_max(make_denoiser, conditions):
    denoiser, levels = make_denoiser(), []
    denoiser.register_forward_pre_hook(lambda _, arguments: levels.append(float(arguments[1][0])))
    vary(
        denoiser,
        torch.zeros(3, 4, 8),
        conditions,
        strength=1.0,
        sampler=HeunSampler(steps=3),
        guidance=GUIDANCE,
        generators=generators(1, 2, 3),
    )
    assert levels[0] == pytest.approx(80)


def test_strength_outside_its_range_is_an_error(make_denoiser, conditions):
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        vary(
            make_denoiser(),
            torch.zeros(3, 4, 8),
            conditions,
            strength=1.5,
            sampler=HeunSampler(),
            guidance=GUIDANCE,
            generators=generators(1, 2, 3),
        )


def test_pseudo_stereo_keeps_the_left_and_varies_the_right(make_denoiser, conditions):
    latent = 0.5 * torch.randn(3, 4, 8)
    left, right = pseudo_stereo(
        make_denoiser(),
        latent,
        conditions,
        sampler=HeunSampler(steps=10),
        guidance=GUIDANCE,
        generators=generators(1, 2, 3),
    )
    assert torch.equal(left, latent)
    assert right.shape == latent.shape
    assert (right - left).abs().max() > 1e-3


class KnownDenoiser(torch.nn.Module):
    """The denoiser of y ~ N(0, v), whose trajectories are known: x shrinks to x sqrt(v / (v + sigma^2))."""

    variance = 0.25

    def forward(self, noisy, sigma_B, conditions):
        return noisy * (self.variance / (self.variance + sigma_B**2))[:, None, None]


@pytest.mark.parametrize("width", [0.0, 0.2, 0.4, 0.5, 1.0])
def test_stereo_width_sets_the_side_signal_as_known_and_leaves_the_variance(width):
    """At level s a variation is a (y + s z) with a^2 = v / (v + s^2); a width of 0 is mono, bit for bit."""
    sampler, count, variance = HeunSampler(steps=40), 64, KnownDenoiser.variance
    latent = 0.5 * torch.randn(count, 4, 64, generator=torch.Generator().manual_seed(0))
    none = Conditioning(clap=None, context=False).conditions(torch.zeros_like(latent), torch.zeros(count, 6))
    left, right = pseudo_stereo(
        KnownDenoiser(),
        latent,
        none,
        sampler=sampler,
        guidance=Guidance(context=1.0, clap=1.0),
        generators=generators(*range(count)),
        strength=width,
    )
    assert torch.equal(left, latent)
    if width == 0:
        assert torch.equal(right, left)
        return
    sigma = sampler.levels[round((1 - width) * sampler.steps)]
    kept = math.sqrt(variance / (variance + sigma**2))
    side = (variance * (1 - kept) ** 2 + (kept * sigma) ** 2) / 4
    assert ((left - right) / 2).var().item() == pytest.approx(side, rel=0.05)
    assert right.var().item() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("levels", [(), (1.0, 2.0), (1.0, 0.001)])
def test_consistency_levels_that_do_not_fall_to_sigma_min_are_an_error(levels):
    with pytest.raises(ValueError, match="must fall and stay at or above"):
        ConsistencySampler(levels=levels)
