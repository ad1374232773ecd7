"""What a training costs, counted without computing, against sums by hand."""

from __future__ import annotations

import pytest
import torch

from models.arms import DIFF_A_RIFF, PLUS_DIT
from models.bridge import BridgeRecipe, bridge_cost
from models.consistency import ConsistencyObjective
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.training_cost import denoiser_cost, measured_flop_per_s, peak_flop_per_s

FRAMES, WIDTH, CLAP = 120, 64, 512


def cost(network, objective, batch_size):
    return denoiser_cost(network, objective, batch_size=batch_size, clap_width=CLAP, latent_width=WIDTH, frames=FRAMES)


def transformer_flop(recipe: DiTRecipe) -> float:
    """One item forwards: 2 for every weight of a matrix that a token, or (AdaLN, CLAP) the item, goes through."""
    wide, tokens = recipe.width, FRAMES // recipe.frames_per_token
    entering, leaving = 2 * WIDTH * recipe.frames_per_token * wide, WIDTH * recipe.frames_per_token * wide
    of_a_token = entering + leaving + recipe.layers * (4 + 2 * recipe.mlp_ratio) * wide**2
    of_the_item = recipe.noise_width * (CLAP + (6 * recipe.layers + 2) * wide)
    attention = recipe.layers * 2 * tokens**2 * wide
    return 2 * (tokens * of_a_token + of_the_item + attention)


@pytest.mark.parametrize("recipe", [DiTRecipe(), DiTRecipe(width=64, layers=3, heads=2, frames_per_token=4)])
def test_a_transformers_step_is_three_times_its_forward_pass(recipe):
    """Backwards is twice forwards, but that nothing is asked for the gradient of what enters."""
    entering = 2 * FRAMES // recipe.frames_per_token * 2 * WIDTH * recipe.frames_per_token * recipe.width
    told = 2 * recipe.noise_width * CLAP
    exact = 128 * 3 * transformer_flop(recipe)
    found = cost(recipe, EdmObjective(), 128).flop_per_step
    assert found == pytest.approx(exact, rel=0.01)
    assert exact - 128 * (entering + told) <= found <= exact


def test_consistency_training_costs_a_forward_pass_more():
    recipe = DiTRecipe(width=64, layers=3, heads=2)
    edm, consistency = cost(recipe, EdmObjective(), 1), cost(recipe, ConsistencyObjective(), 1)
    assert consistency.flop_per_step - edm.flop_per_step == pytest.approx(transformer_flop(recipe), rel=1e-6)


def test_the_papers_arms_have_the_sizes_of_the_reference():
    """reference/generative_models.md D.1: 22.9 and 55.6 GFLOP forwards; parameters without the nulls."""
    transformer = cost(PLUS_DIT.denoiser.network, PLUS_DIT.denoiser.objective, 128)
    assert transformer.parameters == 285_124_160 + CLAP + WIDTH
    assert transformer.flop_per_step == pytest.approx(128 * 3 * 55.6e9, rel=0.01)
    assert transformer.state_bytes == 20 * transformer.parameters
    unet = cost(DIFF_A_RIFF.denoiser.network, DIFF_A_RIFF.denoiser.objective, 256)
    assert unet.flop_per_step == pytest.approx(256 * 3 * 22.9e9, rel=0.02)


def test_a_bridges_step_is_three_times_its_matrices():
    recipe = BridgeRecipe()
    found = bridge_cost(recipe, clap_width=CLAP)
    assert found.parameters == 31_764_992
    assert found.flop_per_step == pytest.approx(1024 * 6 * found.parameters, rel=0.02)


def test_the_peak_of_an_unknown_device_is_measured(monkeypatch):
    assert measured_flop_per_s(torch.device("cpu"), torch.float32, width=64) > 1e6
    monkeypatch.setattr("models.training_cost.measured_flop_per_s", lambda device, dtype: 7.0)
    assert peak_flop_per_s(torch.device("cpu"), torch.bfloat16) == 7.0


@pytest.mark.parametrize(("name", "peak"), [("NVIDIA H100 PCIe", 756e12), ("NVIDIA H200", 989e12)])
def test_known_devices_have_their_data_sheets_peak(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flop_per_s(torch.device("cuda"), torch.bfloat16) == peak
