"""Guidance: what the scales mean, how many evaluations they cost, and what withholding a condition does."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from models.conditioning import ClapSource, Conditioning, Conditions
from models.denoiser import build_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective, heun, karras_levels
from models.guidance import Guidance, GuidanceKind, guided, terms

NONE, CONTEXT, CLAP, BOTH = (False, False), (True, False), (False, True), (True, True)
MEANS = {NONE: 0.0, CONTEXT: 0.4, CLAP: -0.3, BOTH: 0.7}
DEVIATIONS = {NONE: 0.9, CONTEXT: 0.6, CLAP: 0.7, BOTH: 0.5}


@pytest.fixture
def denoiser():
    """A small denoiser that has left its zero initialisation."""
    recipe = DiTRecipe(width=16, layers=1, heads=2, noise_width=16)
    denoiser = build_denoiser(recipe, EdmObjective(), clap_width=6, seed=0, latent_width=4)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return denoiser.eval().requires_grad_(False)


@pytest.fixture
def noisy_BCT():
    return torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def conditions():
    generator = torch.Generator().manual_seed(3)
    context_BCT, clap_BE = torch.randn(3, 4, 8, generator=generator), torch.randn(3, 6, generator=generator)
    return Conditioning(clap=ClapSource.AUDIO, context=True).conditions(context_BCT, clap_BE)


@pytest.fixture
def sigma_B():
    return torch.tensor([0.3, 2.0, 9.0])


@pytest.fixture
def gaussian():
    """The denoiser of four Gaussian targets, one for each set of conditions given, and its forward passes' rows."""

    def make(deviations):
        rows = []

        def denoise(noisy, sigma_B, conditions):
            rows.append(len(noisy))
            given = list(zip(conditions.has_context_B.tolist(), conditions.has_clap_B.tolist(), strict=True))
            mean = noisy.new_tensor([MEANS[kept] for kept in given])[:, None, None]
            variance = noisy.new_tensor([deviations[kept] ** 2 for kept in given])[:, None, None]
            noise = sigma_B[:, None, None] ** 2
            return (variance * noisy + noise * mean) / (variance + noise)

        return denoise, rows

    return make


def as_dict(evaluations):
    return {(term.keeps_context, term.keeps_clap): term.coefficient for term in evaluations}


def test_weight_one_is_no_guidance(denoiser, noisy_BCT, conditions, sigma_B):
    denoise = guided(denoiser, conditions, Guidance(context=1.0, clap=1.0))
    torch.testing.assert_close(denoise(noisy_BCT, sigma_B), denoiser(noisy_BCT, sigma_B, conditions))


def test_evaluations_are_as_few_as_the_scales_allow():
    def count(context, clap, has_context=True, has_clap=True):
        return len(terms(Guidance(context=context, clap=clap), has_context=has_context, has_clap=has_clap))

    assert count(1.0, 1.0) == 1
    assert count(1.25, 1.25) == 2
    assert count(1.25, 2.0) == 3
    assert count(1.25, 2.0, has_clap=False) == 2
    assert count(1.25, 2.0, has_context=False) == 2
    assert count(1.25, 2.0, has_context=False, has_clap=False) == 1


def test_equal_scales_cost_two_forward_rows_per_candidate(denoiser, noisy_BCT, conditions, sigma_B):
    rows = []
    denoiser.register_forward_pre_hook(lambda _, arguments: rows.append(len(arguments[0])))
    guided(denoiser, conditions, Guidance(context=1.25, clap=1.25))(noisy_BCT, sigma_B)
    assert rows == [2 * len(noisy_BCT)]


@pytest.mark.parametrize("kind", GuidanceKind)
@pytest.mark.parametrize("has_context", [True, False])
@pytest.mark.parametrize("has_clap", [True, False])
def test_coefficients_always_sum_to_one(kind, has_context, has_clap):
    guidance = Guidance(context=1.7, clap=3.0, kind=kind)
    evaluations = terms(guidance, has_context=has_context, has_clap=has_clap)
    assert sum(term.coefficient for term in evaluations) == pytest.approx(1)


def test_nested_and_independent_terms_match_their_formulas():
    nested = as_dict(terms(Guidance(context=1.5, clap=2.0), has_context=True, has_clap=True))
    assert nested == pytest.approx({NONE: -0.5, CONTEXT: -0.5, BOTH: 2.0})
    independent = Guidance(context=1.5, clap=2.0, kind=GuidanceKind.INDEPENDENT)
    found = as_dict(terms(independent, has_context=True, has_clap=True))
    assert found == pytest.approx({NONE: -2.5, CONTEXT: 1.5, CLAP: 2.0})


def test_one_condition_alone_is_guided_by_its_own_scale():
    only_clap = as_dict(terms(Guidance(context=1.5, clap=2.0), has_context=False, has_clap=True))
    assert only_clap == pytest.approx({NONE: -1.0, CLAP: 2.0})
    only_context = as_dict(terms(Guidance(context=1.5, clap=2.0), has_context=True, has_clap=False))
    assert only_context == pytest.approx({NONE: -0.5, CONTEXT: 1.5})


def test_guided_denoiser_is_the_formula(denoiser, noisy_BCT, conditions, sigma_B):
    found = guided(denoiser, conditions, Guidance(context=1.5, clap=2.0))(noisy_BCT, sigma_B)
    none = denoiser(noisy_BCT, sigma_B, conditions.without(context=True, clap=True))
    context = denoiser(noisy_BCT, sigma_B, conditions.without(clap=True))
    both = denoiser(noisy_BCT, sigma_B, conditions)
    torch.testing.assert_close(found, none + 1.5 * (context - none) + 2.0 * (both - context), rtol=1e-4, atol=1e-4)


def test_dropping_a_condition_equals_never_giving_it(denoiser, noisy_BCT, conditions, sigma_B):
    dropped = denoiser(noisy_BCT, sigma_B, conditions.without(context=True, clap=True))
    absent = torch.zeros(3, dtype=torch.bool)
    never = Conditions(torch.full((3, 4, 8), torch.nan), torch.full((3, 6), torch.nan), absent, absent)
    torch.testing.assert_close(denoiser(noisy_BCT, sigma_B, never), dropped, rtol=0, atol=0)


def test_each_condition_reaches_the_denoiser(denoiser, noisy_BCT, conditions, sigma_B):
    both = denoiser(noisy_BCT, sigma_B, conditions)
    for withheld in (conditions.without(context=True), conditions.without(clap=True)):
        assert (denoiser(noisy_BCT, sigma_B, withheld) - both).abs().amax((1, 2)).min() > 1e-3


def test_conditions_of_a_row_are_given_as_its_label_says():
    context_BCT, clap_BE = torch.randn(2, 4, 8), torch.randn(2, 6)
    row = Conditioning(clap=None, context=True)
    conditions = row.conditions(context_BCT, clap_BE)
    assert row.label == "ctx"
    assert conditions.has_context_B.all()
    assert not conditions.has_clap_B.any()


@pytest.mark.parametrize("kind", GuidanceKind)
def test_guidance_is_the_score_of_the_tilted_density(gaussian, noisy_BCT, conditions, sigma_B, kind):
    """D(x) = x + sigma^2 grad log p (Tweedie), of the product of the noisy densities, each to its coefficient."""
    guidance = Guidance(context=1.5, clap=2.0, kind=kind)
    powers = (
        {NONE: -0.5, CONTEXT: -0.5, BOTH: 2.0} if kind is GuidanceKind.NESTED else {NONE: -2.5, CONTEXT: 1.5, CLAP: 2}
    )
    x = noisy_BCT.double().requires_grad_()
    sigma = sigma_B.double()[:, None, None]
    log_density = sum(
        power * Normal(MEANS[kept], (DEVIATIONS[kept] ** 2 + sigma**2).sqrt()).log_prob(x).sum()
        for kept, power in powers.items()
    )
    (score,) = torch.autograd.grad(log_density, x)
    denoiser, _ = gaussian(DEVIATIONS)
    found = guided(denoiser, conditions, guidance)(noisy_BCT.double(), sigma_B.double())
    torch.testing.assert_close(found, noisy_BCT + sigma**2 * score)


def test_guided_samples_have_the_moments_of_the_tilted_density(gaussian, conditions):
    """Of Gaussians of one deviation, tilting is exact at every level: it moves the mean and keeps the deviation."""
    denoiser, _ = gaussian(dict.fromkeys(MEANS, 0.5))
    start_BCT = 80 * torch.randn(3, 4, 4000, generator=torch.Generator().manual_seed(4))
    levels = karras_levels(40, sigma_min=0.002, sigma_max=80.0, rho=7.0)
    samples = heun(guided(denoiser, conditions, Guidance(context=1.5, clap=2.0)), start_BCT, levels)
    tilted = -0.5 * MEANS[NONE] - 0.5 * MEANS[CONTEXT] + 2.0 * MEANS[BOTH]
    assert samples.mean().item() == pytest.approx(tilted, abs=0.01)
    assert samples.std().item() == pytest.approx(0.5, rel=0.02)


def test_guidance_acts_within_its_interval_alone(gaussian, conditions):
    """The end of the exact flow through three ranges of levels: conditional, tilted, conditional."""
    deviation, low, high = 0.5, 0.2, 2.0
    denoiser, _ = gaussian(dict.fromkeys(MEANS, deviation))
    guidance = Guidance(context=3.0, clap=3.0, interval=(low, high))
    tilted = 3 * MEANS[BOTH] - 2 * MEANS[NONE]
    start_BCT = 10 * torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    exact_BCT = start_BCT
    for here, after, mean in ((10.0, high, MEANS[BOTH]), (high, low, tilted), (low, 0.0, MEANS[BOTH])):
        exact_BCT = mean + (exact_BCT - mean) * ((deviation**2 + after**2) / (deviation**2 + here**2)) ** 0.5
    levels = karras_levels(1000, sigma_min=1e-3, sigma_max=10.0, rho=7.0)
    found_BCT = heun(guided(denoiser, conditions, guidance), start_BCT, levels)
    torch.testing.assert_close(found_BCT, exact_BCT, rtol=0, atol=5e-3)


@pytest.mark.parametrize("kind", GuidanceKind)
def test_outside_the_interval_one_evaluation_gives_the_conditional_prediction(gaussian, noisy_BCT, conditions, kind):
    denoiser, rows = gaussian(DEVIATIONS)
    denoise = guided(denoiser, conditions, Guidance(context=1.5, clap=2.0, kind=kind, interval=(0.3, 2.0)))
    always = guided(denoiser, conditions, Guidance(context=1.5, clap=2.0, kind=kind))
    for sigma, inside in ((0.3, False), (0.4, True), (2.0, True), (2.1, False)):
        sigma_B = torch.full((3,), sigma)
        wanted = always(noisy_BCT, sigma_B) if inside else denoiser(noisy_BCT, sigma_B, conditions)
        rows.clear()
        assert torch.equal(denoise(noisy_BCT, sigma_B), wanted)
        assert rows == [9 if inside else 3]


def test_each_item_of_a_batch_is_guided_by_its_own_noise_level(gaussian, noisy_BCT, conditions, sigma_B):
    denoiser, _ = gaussian(DEVIATIONS)
    found = guided(denoiser, conditions, Guidance(interval=(0.3, 2.0)))(noisy_BCT, sigma_B)
    plain = denoiser(noisy_BCT, sigma_B, conditions)
    pushed = guided(denoiser, conditions, Guidance())(noisy_BCT, sigma_B)
    assert torch.equal(found, torch.stack([plain[0], pushed[1], plain[2]]))
    assert not torch.equal(plain[1], pushed[1])


@pytest.mark.parametrize("kind", GuidanceKind)
@pytest.mark.parametrize("factor", [0.3, 1.0])
def test_rescaling_moves_the_deviation_to_the_conditional_ones(denoiser, noisy_BCT, conditions, sigma_B, kind, factor):
    scales = {"context": 3.0, "clap": 4.0, "kind": kind}
    conditional = denoiser(noisy_BCT, sigma_B, conditions)
    unscaled = guided(denoiser, conditions, Guidance(**scales))(noisy_BCT, sigma_B)
    found = guided(denoiser, conditions, Guidance(**scales, rescale=factor))(noisy_BCT, sigma_B)
    wanted_B = (1 - factor) * unscaled.std((1, 2)) + factor * conditional.std((1, 2))
    torch.testing.assert_close(found.std((1, 2)), wanted_B)
    torch.testing.assert_close(found / wanted_B[:, None, None], unscaled / unscaled.std((1, 2), keepdim=True))


def test_rescaling_costs_an_evaluation_only_where_the_conditional_one_is_not_at_hand(
    gaussian, noisy_BCT, conditions, sigma_B
):
    denoiser, rows = gaussian(DEVIATIONS)
    for guidance in (
        Guidance(context=1.0, clap=1.0, rescale=0.7),
        Guidance(context=1.5, clap=1.5, rescale=0.7),
        Guidance(context=1.5, clap=2.0, rescale=0.7),
        Guidance(context=1.5, clap=2.0, rescale=0.7, kind=GuidanceKind.INDEPENDENT),
    ):
        guided(denoiser, conditions, guidance)(noisy_BCT, sigma_B)
    assert rows == [3 * evaluations for evaluations in (1, 2, 3, 4)]


@pytest.mark.parametrize("has_context", [True, False])
@pytest.mark.parametrize("has_clap", [True, False])
@pytest.mark.parametrize("kind", GuidanceKind)
def test_rescaling_compares_with_the_last_evaluation_which_withholds_nothing(kind, has_context, has_clap):
    guidance = Guidance(context=1.5, clap=0.0, kind=kind, rescale=0.5)
    last = terms(guidance, has_context=has_context, has_clap=has_clap)[-1]
    assert (last.keeps_context, last.keeps_clap) == (has_context, has_clap)


@pytest.mark.parametrize("interval", [(2.0, 0.3), (1.0, 1.0), (-1.0, 2.0)])
def test_an_interval_that_holds_no_levels_is_an_error(interval):
    with pytest.raises(ValueError, match="0 <= low < high, got"):
        Guidance(interval=interval)


@pytest.mark.parametrize("rescale", [-0.1, 1.5])
def test_rescaling_outside_its_range_is_an_error(rescale):
    with pytest.raises(ValueError, match="between 0 and 1, got"):
        Guidance(rescale=rescale)
