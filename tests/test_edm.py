"""EDM against closed forms: preconditioning, noise levels, solvers on a Gaussian whose denoiser is known."""

from __future__ import annotations

import math

import pytest
import torch

from models.edm import EdmObjective, ancestral, edm_scales, euler, heun, karras_levels, precondition

MEAN, VARIANCE = 0.3, 0.25


def gaussian_denoiser(noisy, sigma_B):
    """E[y | x] for y ~ N(MEAN, VARIANCE), x = y + sigma n."""
    total = VARIANCE + sigma_B[:, None] ** 2
    return (VARIANCE * noisy + sigma_B[:, None] ** 2 * MEAN) / total


def exact_end(x, sigma):
    """The end at sigma = 0 of the probability-flow trajectory through x."""
    return MEAN + (x - MEAN) * math.sqrt(VARIANCE / (VARIANCE + sigma**2))


@pytest.fixture
def start_BD():
    return 10.0 * torch.randn(64, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def end_error(solver, start_BD, steps):
    levels = karras_levels(steps, sigma_min=1e-5, sigma_max=10.0, rho=7.0)
    return (solver(gaussian_denoiser, start_BD, levels) - exact_end(start_BD, 10.0)).abs().max().item()


def test_scales_match_their_closed_forms():
    sigma = torch.tensor([0.002, 0.5, 80.0], dtype=torch.float64)
    scales = edm_scales(sigma, 0.5)
    torch.testing.assert_close(scales.skip, 0.25 / (sigma**2 + 0.25))
    torch.testing.assert_close(scales.out, 0.5 * sigma / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(scales.input, 1 / (sigma**2 + 0.25).sqrt())
    torch.testing.assert_close(scales.noise, sigma.log() / 4)


def test_network_input_and_wanted_output_have_unit_variance():
    generator = torch.Generator().manual_seed(0)
    for sigma in (0.05, 0.5, 5.0):
        clean, noise = 0.5 * torch.randn(20_000, generator=generator), torch.randn(20_000, generator=generator)
        noisy, at = clean + sigma * noise, edm_scales(torch.tensor(sigma), 0.5)
        assert (at.input * noisy).var().item() == pytest.approx(1, abs=0.05)
        assert ((clean - at.skip * noisy) / at.out).var().item() == pytest.approx(1, abs=0.05)


def test_levels_start_at_sigma_max_and_end_at_sigma_min_then_zero():
    levels = karras_levels(30, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    assert len(levels) == 31
    assert levels[0] == pytest.approx(80)
    assert levels[-2] == pytest.approx(0.002)
    assert levels[-1] == 0
    assert list(levels) == sorted(levels, reverse=True)
    assert karras_levels(1, sigma_min=0.002, sigma_max=80.0, rho=7.0) == pytest.approx((80.0, 0.0))


def test_no_steps_is_an_error():
    with pytest.raises(ValueError, match="at least one step"):
        karras_levels(0, sigma_min=0.002, sigma_max=80.0, rho=7.0)


def test_heun_error_shrinks_quadratically(start_BD):
    errors = [end_error(heun, start_BD, steps) for steps in (40, 80, 160)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)


def test_euler_error_shrinks_linearly(start_BD):
    errors = [end_error(euler, start_BD, steps) for steps in (40, 80, 160)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.15)


def test_heun_evaluates_twice_a_step_but_once_in_the_last(start_BD):
    calls = []

    def counted(noisy, sigma_B):
        calls.append(float(sigma_B[0]))
        return gaussian_denoiser(noisy, sigma_B)

    heun(counted, start_BD, karras_levels(30, sigma_min=0.002, sigma_max=80.0, rho=7.0))
    assert len(calls) == 59


def test_ancestral_sampling_without_fresh_noise_is_euler(start_BD):
    levels = karras_levels(12, sigma_min=0.002, sigma_max=10.0, rho=7.0)
    still = ancestral(gaussian_denoiser, start_BD, levels, noise=lambda: torch.randn_like(start_BD), eta=0.0)
    torch.testing.assert_close(still, euler(gaussian_denoiser, start_BD, levels))


@pytest.mark.parametrize(("solver", "steps"), [(heun, 40), (euler, 200), (ancestral, 1000)])
def test_samples_have_the_moments_of_the_target(solver, steps):
    generator = torch.Generator().manual_seed(1)
    levels = karras_levels(steps, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    start = 80 * torch.randn(20_000, 1, generator=generator)
    fresh = {"noise": lambda: torch.randn(20_000, 1, generator=generator)} if solver is ancestral else {}
    samples = solver(gaussian_denoiser, start, levels, **fresh)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert samples.var().item() == pytest.approx(VARIANCE, rel=0.05)


def test_loss_of_the_best_network_is_the_posterior_variance():
    """For y ~ N(0, sd^2) the best F is 0, and the wanted F has variance 1: the loss of silence is 1."""
    clean = 0.5 * torch.randn(4096, 2, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    silence = EdmObjective().loss(lambda noisy, _: 0 * noisy, clean, generator=generator, progress=0.0)
    assert silence.item() == pytest.approx(1, abs=0.02)


def test_loss_is_the_weighted_error_of_the_denoiser():
    objective, clean = EdmObjective(p_std=0.0, p_mean=0.2), torch.randn(4, 2, 8)

    def raw(noisy, sigma_B):
        return torch.sin(noisy) * sigma_B[:, None, None]

    loss = objective.loss(raw, clean, generator=torch.Generator().manual_seed(3), progress=0.0)
    generator = torch.Generator().manual_seed(3)
    torch.randn(4, generator=generator)
    sigma = torch.full((4,), math.exp(0.2))
    noisy = clean + sigma[:, None, None] * torch.randn(4, 2, 8, generator=generator)
    weight = (sigma[0] ** 2 + 0.25) / (sigma[0] * 0.5) ** 2
    denoised = precondition(raw, objective.scales)(noisy, sigma)
    torch.testing.assert_close(loss, weight * (denoised - clean).square().mean())


def test_channel_weights_scale_each_channels_share_of_the_loss():
    clean = torch.randn(8, 2, 4)

    def loss(weight_C):
        return EdmObjective().loss(
            lambda noisy, _: 0 * noisy,
            clean,
            generator=torch.Generator().manual_seed(0),
            progress=0.0,
            channel_weight_C=weight_C,
        )

    first, second = loss(torch.tensor([2.0, 0.0])), loss(torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(loss(None), (first + second) / 2)
    torch.testing.assert_close(loss(torch.tensor([0.5, 1.5])), first / 4 + 3 * second / 4)
