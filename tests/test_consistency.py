"""The consistency map, its schedules, its loss and its sampler."""

from __future__ import annotations

import pytest
import torch

from models.consistency import FIVE_LEVELS, ConsistencyObjective, NoiseDraw, consistency_chain, pseudo_huber
from models.edm import edm_scales, karras_levels, precondition

OBJECTIVE = ConsistencyObjective()


def test_consistency_map_is_identity_at_sigma_min():
    noisy = torch.randn(3, 2, 5)
    f = precondition(lambda x, _: torch.full_like(x, 7.0), OBJECTIVE.scales)
    torch.testing.assert_close(f(noisy, torch.full((3,), OBJECTIVE.sigma_min)), noisy, rtol=0, atol=0)


def test_map_and_edm_denoiser_differ_by_no_more_than_sigma_min():
    """So that a network trained as an EDM denoiser is a fair start for the map."""
    sigma = torch.logspace(-1, 1.9, 50)
    ours, edm = OBJECTIVE.scales(sigma), edm_scales(sigma, 0.5)
    assert (ours.skip - edm.skip).abs().max() < 2 * OBJECTIVE.sigma_min
    assert (ours.out - edm.out).abs().max() < 2 * OBJECTIVE.sigma_min
    torch.testing.assert_close(ours.input, edm.input)


def test_step_shrinks_exponentially_from_a_tenth_to_a_thousandth():
    assert [OBJECTIVE.step(k / 4) for k in range(5)] == pytest.approx([0.1, 10**-1.5, 0.01, 10**-2.5, 0.001])


def test_noise_levels_run_from_sigma_min_to_sigma_max():
    assert OBJECTIVE.sigma(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0.002, 80.0], rel=1e-5)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(OBJECTIVE.t(OBJECTIVE.sigma(t)), t)


def test_five_levels_are_the_six_point_grid_without_its_end():
    grid = karras_levels(6, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    assert pytest.approx(grid[:5], rel=1e-3) == FIVE_LEVELS


@pytest.mark.parametrize(("draw", "mean"), [(NoiseDraw.T_GRID, -0.55), (NoiseDraw.LOG_NORMAL, -1.1)])
def test_drawn_noise_levels_have_the_expected_mean_and_spread(draw, mean):
    objective = ConsistencyObjective(draw=draw)
    t = objective.draw_t(40_000, torch.Generator().manual_seed(0))
    log_sigma = objective.sigma(t).log()
    assert t.min() >= 0
    assert t.max() <= 1
    assert log_sigma.mean().item() == pytest.approx(mean, abs=0.05)
    assert log_sigma.std().item() == pytest.approx(1.95, abs=0.07)


def test_loss_is_zero_for_the_perfect_map():
    """When all data is one point y, trajectories are straight lines to y and the map's value is known everywhere."""
    y = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def perfect(noisy, sigma_B):
        sigma = sigma_B[:, None, None]
        wanted = y + OBJECTIVE.sigma_min / sigma * (noisy - y)
        at = OBJECTIVE.scales(sigma)
        return torch.where(at.out > 0, (wanted - at.skip * noisy) / at.out.clamp(min=1e-12), 0.0)

    def loss(raw):
        clean, generator = y.expand(64, -1, -1), torch.Generator().manual_seed(1)
        t_B, noise = OBJECTIVE.draw_t(64, generator), torch.randn(clean.shape, generator=generator)
        return OBJECTIVE.losses(raw, clean, t_B, noise, progress=0.0).mean().item()

    # The pseudo-Huber's own rounding near zero, over the step's weight, is what is left.
    assert loss(perfect) < 1e-4
    assert loss(lambda noisy, sigma_B: perfect(noisy, sigma_B) + 0.1) > 0.1


def test_teacher_gives_no_gradient():
    """At sigma_min the teacher is the data: the only gradient is the student's, at one noise level per item."""
    scale = torch.ones((), requires_grad=True)
    seen = []

    def raw(noisy, sigma_B):
        seen.append(torch.is_grad_enabled())
        return scale * noisy

    t_B = OBJECTIVE.draw_t(4, torch.Generator().manual_seed(0))
    OBJECTIVE.losses(raw, torch.randn(4, 2, 6), t_B, torch.randn(4, 2, 6), progress=0.5).mean().backward()
    assert seen == [False, True]
    assert scale.grad is not None


def test_pseudo_huber_is_quadratic_near_zero_and_linear_far_away():
    factor, error = 0.03, torch.zeros(1, 4, 25)
    c = factor * 10
    error[0, 0, 0] = 1e-2
    assert pseudo_huber(error, factor).item() == pytest.approx(1e-4 / (2 * c), rel=0.01)
    error[0, 0, 0] = 1e3
    assert pseudo_huber(error, factor).item() == pytest.approx(1e3 - c, rel=1e-4)


def test_chain_evaluates_once_a_level_and_draws_noise_between_levels_only():
    evaluated, drawn = [], []

    def f(noisy, sigma_B):
        evaluated.append(float(sigma_B[0]))
        return 0 * noisy

    def noise():
        drawn.append(1)
        return torch.ones(2, 1, 3)

    x0 = consistency_chain(f, torch.ones(2, 1, 3), FIVE_LEVELS, sigma_min=0.002, noise=noise)
    assert evaluated == pytest.approx(FIVE_LEVELS)
    assert len(drawn) == len(FIVE_LEVELS) - 1
    assert x0.abs().max() == 0


def test_chain_with_the_perfect_map_samples_the_target():
    """For y ~ N(0, v) the map is x sqrt((v + smin^2) / (v + s^2)); every re-noised estimate keeps that law."""
    variance, generator = 0.25, torch.Generator().manual_seed(0)

    def f(noisy, sigma_B):
        return noisy * ((variance + 0.002**2) / (variance + sigma_B[:, None] ** 2)).sqrt()

    samples = consistency_chain(
        f,
        80 * torch.randn(20_000, 1, generator=generator),
        FIVE_LEVELS,
        sigma_min=0.002,
        noise=lambda: torch.randn(20_000, 1, generator=generator),
    )
    assert samples.var().item() == pytest.approx(variance, rel=0.05)
