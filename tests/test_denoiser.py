"""What a network is handed: latents, context and CLAP at one scale, and a learned null for what is withheld."""

from __future__ import annotations

import pytest
import torch

from models.arms import BRIDGE_ROWS, SIX_ROWS
from models.consistency import ConsistencyObjective
from models.denoiser import build_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective

B, C, T, E = 200, 4, 8, 64
ALL, NONE = SIX_ROWS[0], SIX_ROWS[-1]


@pytest.fixture(params=[EdmObjective(), ConsistencyObjective()], ids=lambda objective: type(objective).__name__)
def handed(request):
    """A function from a row of Table 1 and a noise level to what the network is given, and the denoiser's nulls."""
    recipe = DiTRecipe(width=8, layers=1, heads=2, noise_width=8)
    denoiser = build_denoiser(recipe, request.param, clap_width=E, seed=0, latent_width=C)
    generator = torch.Generator().manual_seed(1)
    latent_BCT, context_BCT = 0.5 * torch.randn(2, B, C, T, generator=generator)
    clap_BE = torch.nn.functional.normalize(torch.randn(B, E, generator=generator), dim=1)
    noise_BCT, seen = torch.randn(B, C, T, generator=generator), []
    denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(given))

    def run(row, sigma):
        with torch.no_grad():
            noisy_BCT = latent_BCT + sigma * noise_BCT
            denoiser(noisy_BCT, torch.full((B,), sigma), row.conditions(context_BCT, clap_BE))
        features_BCT, _, clap = seen.pop()
        return features_BCT[:, :C], features_BCT[:, C:], clap

    return run, denoiser


@pytest.mark.parametrize("sigma", [0.05, 0.5, 20.0])
def test_all_that_a_network_is_given_has_unit_variance_at_every_noise_level(handed, sigma):
    for given in handed[0](ALL, sigma):
        assert given.std().item() == pytest.approx(1, abs=0.03)


def test_context_and_clap_are_the_same_at_every_noise_level(handed):
    run, _ = handed
    for clean, noisier in zip(run(ALL, 0.05)[1:], run(ALL, 20.0)[1:], strict=True):
        assert torch.equal(clean, noisier)


def test_what_a_row_withholds_is_its_null(handed):
    run, denoiser = handed
    _, context_BCT, clap_BE = run(NONE, 0.5)
    assert torch.equal(context_BCT, denoiser.null_context[None, :, None].expand(B, C, T))
    assert torch.equal(clap_BE, denoiser.null_clap.expand(B, E))


@pytest.mark.parametrize("row", SIX_ROWS + BRIDGE_ROWS, ids=lambda row: row.label)
def test_a_row_gives_the_conditions_that_its_label_names(row):
    conditions = row.conditions(torch.zeros(3, C, T), torch.zeros(3, E))
    assert conditions.has_context_B.tolist() == ["ctx" in row.label] * 3
    assert conditions.has_clap_B.tolist() == ["CLAP" in row.label] * 3
