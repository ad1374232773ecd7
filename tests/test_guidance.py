"""Guidance: what the scales mean, how many evaluations they cost, and what withholding a condition does."""

from __future__ import annotations

import pytest
import torch

from models.conditioning import ClapSource, Conditioning, Conditions
from models.denoiser import build_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.guidance import Guidance, GuidanceKind, guided, terms

NONE, CONTEXT, CLAP, BOTH = (False, False), (True, False), (False, True), (True, True)


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
