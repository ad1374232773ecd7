"""EDM against closed forms: preconditioning, noise levels, solvers on targets whose denoiser is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal

from models.edm import (
    EdmObjective,
    ancestral,
    dpm_multistep,
    edm_scales,
    euler,
    heun,
    karras_levels,
    precondition,
)

MEAN, VARIANCE = 0.3, 0.25
MODES, SHARES, MODE_VARIANCE = (-1.0, 0.5), (0.3, 0.7), 0.04
SOLVERS = [(heun, 40), (dpm_multistep, 40), (euler, 200), (ancestral, 1000)]  # and the steps that each needs


def gaussian_denoiser(noisy, sigma_B):
    """E[y | x] for y ~ N(MEAN, VARIANCE), x = y + sigma n."""
    total = VARIANCE + sigma_B[:, None] ** 2
    return (VARIANCE * noisy + sigma_B[:, None] ** 2 * MEAN) / total


def mixture_denoiser(noisy, sigma_B):
    """E[y | x] for y of the mixture of N(MODES, MODE_VARIANCE) in SHARES, x = y + sigma n."""
    total = MODE_VARIANCE + sigma_B[:, None] ** 2
    modes = noisy.new_tensor(MODES)
    belongs = (noisy.new_tensor(SHARES).log() - (noisy - modes) ** 2 / (2 * total)).softmax(1)
    return (belongs * (MODE_VARIANCE * noisy + sigma_B[:, None] ** 2 * modes) / total).sum(1, keepdim=True)


def exact_end(x, sigma):
    """The end at sigma = 0 of the probability-flow trajectory through x."""
    return MEAN + (x - MEAN) * math.sqrt(VARIANCE / (VARIANCE + sigma**2))


def mixture_rank(x, sigma):
    """P(y + sigma n <= x) for y of the mixture; a flow in one dimension keeps it, for trajectories never cross."""
    at_modes = Normal(x.new_tensor(MODES), math.sqrt(MODE_VARIANCE + sigma**2)).cdf(x)
    return (x.new_tensor(SHARES) * at_modes).sum(1)


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


def test_dpm_multistep_error_shrinks_quadratically(start_BD):
    errors = [end_error(dpm_multistep, start_BD, steps) for steps in (40, 80, 160)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize(("solver", "order"), [(heun, 2), (dpm_multistep, 2), (euler, 1)])
def test_error_on_a_mixture_shrinks_with_the_order_of_the_solver(start_BD, solver, order):
    def rank_error(steps):
        levels = karras_levels(steps, sigma_min=1e-5, sigma_max=10.0, rho=7.0)
        end_BD = solver(mixture_denoiser, start_BD, levels)
        return (mixture_rank(end_BD, 0.0) - mixture_rank(start_BD, 10.0)).abs().max().item()

    errors = [rank_error(steps) for steps in (80, 160, 320)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(2**order, rel=0.15)


def test_dpm_multistep_matches_its_equations_on_uneven_levels():
    """Lu et al. 2022, algorithm 2 in its own symbols: lambda = -log sigma, h its steps, r their ratios."""
    x_B, levels = torch.tensor([[3.0], [-1.0]], dtype=torch.float64), (4.0, 1.5, 1.0, 0.0)
    d = [torch.full((2, 1), value, dtype=torch.float64) for value in (0.7, -0.2, 0.4)]
    h = [math.log(4.0 / 1.5), math.log(1.5 / 1.0)]
    first = 1.5 / 4.0 * x_B - math.expm1(-h[0]) * d[0]
    r = h[0] / h[1]
    second = 1.0 / 1.5 * first - math.expm1(-h[1]) * ((1 + 1 / (2 * r)) * d[1] - 1 / (2 * r) * d[0])
    told = iter(d)
    torch.testing.assert_close(dpm_multistep(lambda *_: next(told), x_B, levels[:-1]), second)
    told = iter(d)
    torch.testing.assert_close(dpm_multistep(lambda *_: next(told), x_B, levels), d[2], rtol=0, atol=0)


def test_dpm_multistep_evaluates_once_a_step(start_BD):
    calls = []

    def counted(noisy, sigma_B):
        calls.append(float(sigma_B[0]))
        return gaussian_denoiser(noisy, sigma_B)

    levels = karras_levels(30, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    dpm_multistep(counted, start_BD, levels)
    assert calls == pytest.approx(levels[:-1])


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


def sampled(solver, steps, denoise):
    """20,000 samples (B, 1) of the target that `denoise` knows."""
    generator = torch.Generator().manual_seed(1)
    levels = karras_levels(steps, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    start = 80 * torch.randn(20_000, 1, generator=generator)
    fresh = {"noise": lambda: torch.randn(20_000, 1, generator=generator)} if solver is ancestral else {}
    return solver(denoise, start, levels, **fresh)


@pytest.mark.parametrize(("solver", "steps"), SOLVERS)
def test_samples_have_the_moments_of_the_target(solver, steps):
    samples = sampled(solver, steps, gaussian_denoiser)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert samples.var().item() == pytest.approx(VARIANCE, rel=0.05)


@pytest.mark.parametrize(("solver", "steps"), SOLVERS)
def test_samples_fill_each_mode_of_a_mixture_by_its_share_and_width(solver, steps):
    samples = sampled(solver, steps, mixture_denoiser)
    middle = sum(MODES) / 2
    for mode, share, inside in zip(MODES, SHARES, (samples < middle, samples > middle), strict=True):
        assert inside.float().mean().item() == pytest.approx(share, abs=0.015)
        assert samples[inside].mean().item() == pytest.approx(mode, abs=0.01)
        assert samples[inside].var().item() == pytest.approx(MODE_VARIANCE, rel=0.1)


def test_loss_of_the_best_network_is_the_posterior_variance():
    """For y ~ N(0, sd^2) the best F is 0, and the wanted F has variance 1: the loss of silence is 1."""
    clean = 0.5 * torch.randn(4096, 2, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    t_B, noise = EdmObjective().draw_t(4096, generator), torch.randn(clean.shape, generator=generator)
    silence = EdmObjective().losses(lambda noisy, _: 0 * noisy, clean, t_B, noise, progress=0.0)
    assert silence.mean().item() == pytest.approx(1, abs=0.02)


def test_loss_is_the_weighted_error_of_the_denoiser():
    objective, clean, noise = EdmObjective(p_std=0.0, p_mean=0.2), torch.randn(4, 2, 8), torch.randn(4, 2, 8)

    def raw(noisy, sigma_B):
        return torch.sin(noisy) * sigma_B[:, None, None]

    losses = objective.losses(raw, clean, objective.draw_t(4, torch.Generator()), noise, progress=0.0)
    sigma = torch.full((4,), math.exp(0.2))
    noisy = clean + sigma[:, None, None] * noise
    weight = (sigma[0] ** 2 + 0.25) / (sigma[0] * 0.5) ** 2
    denoised = precondition(raw, objective.scales)(noisy, sigma)
    torch.testing.assert_close(losses, weight * (denoised - clean).square())


def test_channel_weights_scale_each_channels_share_of_the_loss():
    clean, noise, t_B = torch.randn(8, 2, 4), torch.randn(8, 2, 4), torch.randn(8)

    def loss(weight_C):
        silence = EdmObjective().losses(
            lambda noisy, _: 0 * noisy, clean, t_B, noise, progress=0.0, channel_weight_C=weight_C
        )
        return silence.mean()

    first, second = loss(torch.tensor([2.0, 0.0])), loss(torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(loss(None), (first + second) / 2)
    torch.testing.assert_close(loss(torch.tensor([0.5, 1.5])), first / 4 + 3 * second / 4)
