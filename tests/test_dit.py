"""The diffusion transformer: its size, its zero start, its tokens and positions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from models import dit
from models.conditioning import Conditions
from models.denoiser import build_denoiser
from models.dit import Attention, DepthwiseConvolution, DiT, DiTRecipe, Mlp, rotary_table, rotated
from models.edm import EdmObjective, edm_scales
from models.noise_embedding import noise_embedding
from tasks.recipes import dump_recipe, load_recipe

SMALL = DiTRecipe(width=32, layers=2, heads=2, noise_width=16)
build = partial(DiT, in_channels=8, out_channels=4, clap_width=6)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 8, 16), (3,), (3, 6))
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def awake(module):
    """The module with all its zeros replaced, so that everything has an effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.mark.parametrize(
    ("preset", "parameters"), [(dit.TINY, 81_984), (dit.SMALL, 57_675_840), (dit.PAPER, 285_124_160)]
)
def test_a_preset_has_its_number_of_parameters(preset, parameters):
    with torch.device("meta"):
        network = DiT(preset, in_channels=128, out_channels=64, clap_width=512)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("width", [256, 512, 1024])
def test_swiglu_has_the_parameters_of_gelu_within_a_hundredth(width):
    with torch.device("meta"):
        gelu, swiglu = (build(DiTRecipe(width=width, layers=2, mlp=mlp)) for mlp in Mlp)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (gelu, swiglu)]
    assert counts[1] == pytest.approx(counts[0], rel=0.01)
    assert swiglu.blocks[0].down.in_features % 8 == 0


def test_swiglu_is_the_gated_product(inputs):
    block = awake(build(replace(SMALL, mlp=Mlp.SWIGLU))).blocks[0]
    first, second = torch.randn(2, 3, 8)
    torch.testing.assert_close(
        block._activated(torch.cat([first, second], dim=1)), first * torch.sigmoid(first) * second
    )


@pytest.mark.parametrize("recipe", [SMALL, replace(SMALL, mlp=Mlp.SWIGLU), replace(SMALL, learned_positions=16)])
def test_untrained_dit_is_the_zero_map(recipe, inputs):
    assert build(recipe)(*inputs).abs().max() == 0


@pytest.mark.parametrize("positions", [None, 20])
def test_tokens_know_their_places(positions, inputs):
    """Without places a block would treat tokens that are far apart as it treats any: swapping them would commute."""
    network, features = awake(build(replace(SMALL, learned_positions=positions))), inputs[0]
    swapped = [*range(16)]
    swapped[4], swapped[12] = 12, 4
    with torch.no_grad():  # only attention and the places are left to tell tokens apart
        for block in network.blocks:
            block.attention.convolve.taps[[0, 2]] = 0
    found = network(features[..., swapped], *inputs[1:])
    assert (found - network(*inputs)[..., swapped]).abs().max() > 1e-3


def test_more_tokens_than_learned_positions_are_an_error(inputs):
    with pytest.raises(ValueError, match="16 tokens, but positions were learned for 12"):
        build(replace(SMALL, learned_positions=12))(*inputs)


def test_a_recipe_without_the_newer_options_is_read_as_the_papers():
    stored = """{"type": "DiTRecipe", "width": 64, "layers": 3}"""
    assert load_recipe(stored) == DiTRecipe(width=64, layers=3, mlp=Mlp.GELU, learned_positions=None)
    changed = DiTRecipe(mlp=Mlp.SWIGLU, learned_positions=128)
    assert load_recipe(dump_recipe(changed)) == changed


def test_untrained_denoiser_returns_the_scaled_input():
    denoiser = build_denoiser(SMALL, EdmObjective(), clap_width=6, seed=0, latent_width=4)
    noisy, sigma = torch.randn(2, 4, 16), torch.tensor([0.3, 5.0])
    given = torch.ones(2, dtype=torch.bool)
    found = denoiser(noisy, sigma, Conditions(torch.randn(2, 4, 16), torch.randn(2, 6), given, given))
    torch.testing.assert_close(found, edm_scales(sigma, 0.5).skip[:, None, None] * noisy)


@pytest.mark.parametrize(("mlp", "positions"), [(Mlp.GELU, None), (Mlp.SWIGLU, 16)])
def test_every_parameter_learns_after_the_first_step(mlp, positions, inputs):
    network = awake(build(replace(SMALL, slots=8, mlp=mlp, learned_positions=positions)))
    network(*inputs).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in network.parameters())


@pytest.mark.parametrize("stacked", [1, 2, 4])
def test_stacked_frames_come_back_in_their_places(stacked, inputs):
    network = build(DiTRecipe(width=32, layers=1, heads=2, noise_width=16, frames_per_token=stacked))
    features = inputs[0]
    tokens = network._tokens(features)
    assert tokens.shape == (3, 16 // stacked, 8 * stacked)
    torch.testing.assert_close(network._frames(tokens), features, rtol=0, atol=0)
    assert network(*inputs).shape == (3, 4, 16)


def test_frames_that_do_not_fill_a_token_are_an_error(inputs):
    network = build(DiTRecipe(width=32, layers=1, heads=2, noise_width=16, frames_per_token=3))
    with pytest.raises(ValueError, match="16 latent frames do not divide into tokens of 3"):
        network(*inputs)


def test_depthwise_convolution_starts_as_the_identity_and_equals_a_grouped_one():
    convolution, hidden = DepthwiseConvolution(6), torch.randn(2, 9, 6)
    torch.testing.assert_close(convolution(hidden), hidden)
    awake(convolution)
    reference = torch.nn.functional.conv1d(
        hidden.transpose(1, 2), convolution.taps.T[:, None], convolution.bias, padding=1, groups=6
    )
    torch.testing.assert_close(convolution(hidden), reference.transpose(1, 2))


def test_gradients_of_the_depthwise_convolution_are_those_of_finite_differences():
    convolution = awake(DepthwiseConvolution(3)).double()
    hidden = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *_: convolution(hidden), (hidden, convolution.taps, convolution.bias))


def test_depthwise_convolution_runs_and_learns_in_bfloat16():
    convolution, hidden = awake(DepthwiseConvolution(6)), torch.randn(2, 9, 6)
    halved = hidden.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = convolution(halved)
    rounded.sum().backward()
    torch.testing.assert_close(rounded.float(), convolution(hidden), rtol=0.02, atol=0.02)
    assert halved.grad is not None
    assert halved.grad.dtype == torch.bfloat16


def test_rotation_tells_only_the_distance_between_positions():
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    rotation = rotary_table(12, 8, torch.device("cpu"))
    queries, keys = (rotated(vector.expand(1, 12, 1, 8), rotation)[0, :, 0] for vector in (query, key))
    scores = queries @ keys.T
    for distance in range(-5, 6):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)
    assert (scores[0] - scores[0, 0]).abs().max() > 0.1


def test_attention_ignores_the_scale_of_queries_and_keys():
    attention, hidden = Attention(16, 2), torch.randn(2, 7, 16)
    rotation = rotary_table(7, 8, torch.device("cpu"))
    before = attention(hidden, rotation)
    with torch.no_grad():
        attention.project.weight[:32] *= 50
    torch.testing.assert_close(attention(hidden, rotation), before, rtol=1e-3, atol=1e-4)


def test_batch_composition_does_not_change_a_row(inputs):
    network = awake(build(SMALL))
    together = network(*inputs)
    alone = torch.cat([network(*(item[row : row + 1] for item in inputs)) for row in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_frequencies_of_the_noise_embedding_fall_evenly_from_one_towards_a_ten_thousandth():
    near_zero = noise_embedding(torch.tensor([1e-3], dtype=torch.float64), 512)[0]
    frequency = near_zero[256:] / 1e-3  # of the sines
    torch.testing.assert_close(frequency, 10.0 ** (-4 * torch.arange(256) / 256), rtol=1e-5, atol=0, check_dtype=False)
    torch.testing.assert_close(near_zero[:256], torch.ones(256), rtol=1e-5, atol=0, check_dtype=False)  # the cosines


def test_noise_embedding_is_slow_and_in_float32():
    noise = torch.tensor([-1.5, 0.0, 1.1], dtype=torch.bfloat16)
    embedding = noise_embedding(noise, 512)
    assert embedding.dtype == torch.float32
    assert embedding.shape == (3, 512)
    step = noise_embedding(torch.tensor([0.5, 0.501]), 512)
    assert (step[1] - step[0]).abs().max() <= 0.001 + 1e-6


def test_width_that_does_not_divide_into_heads_is_an_error():
    with pytest.raises(ValueError, match="does not divide into 5 heads"):
        build(DiTRecipe(width=32, layers=1, heads=5))
