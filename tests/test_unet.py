"""The U-Net: its size, its zero start, and the lengths it takes."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from models import unet
from models.unet import Resample, ResidualBlock, UNet, UNetRecipe, resampled

SMALL = UNetRecipe(base=16, multipliers=(1, 2, 2), blocks=1, attention_levels=(2, 3), embedding=16)
build = partial(UNet, in_channels=8, out_channels=4, clap_width=6)


@pytest.fixture
def network():
    """A small U-Net that has left its zero initialisation."""
    network, generator = build(SMALL), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def inputs(frames):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator) for shape in ((2, 8, frames), (2,), (2, 6)))


@pytest.mark.parametrize(("preset", "parameters"), [(unet.TINY, 113_200), (unet.SMALL, 18_614_336)])
def test_a_smaller_preset_has_its_number_of_parameters(preset, parameters):
    with torch.device("meta"):
        network = UNet(preset, in_channels=128, out_channels=64, clap_width=512)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_paper_preset_has_about_424_million_parameters():
    with torch.device("meta"):
        network = UNet(unet.PAPER, in_channels=128, out_channels=64, clap_width=512)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert sum(count.values()) == 424_325_440
    assert count["down"] / 1e6 == pytest.approx(135.1, abs=0.1)
    assert count["middle"] / 1e6 == pytest.approx(40.9, abs=0.1)


def test_untrained_unet_is_the_zero_map():
    assert build(SMALL)(*inputs(8)).abs().max() == 0


@pytest.mark.parametrize(("attention", "share"), [(False, 0.5**0.5), (True, 0.5)])
def test_an_untrained_block_is_its_input_over_the_root_of_two_for_each_sum(attention, share):
    hidden_BCT, told_BM = torch.randn(2, 16, 8), torch.randn(2, 16)
    block = ResidualBlock(16, 16, 16, attention=attention)
    torch.testing.assert_close(block(hidden_BCT, told_BM), share * hidden_BCT)


@pytest.mark.parametrize("frames", [4, 12, 32, 120])
def test_any_length_that_halves_evenly_is_taken(network, frames):
    assert network(*inputs(frames)).shape == (2, 4, frames)


@pytest.mark.parametrize("frames", [2, 30, 117])
def test_other_lengths_are_an_error_that_says_what_is_needed(network, frames):
    with pytest.raises(ValueError, match=f"multiple of 4 latent frames, got {frames}"):
        network(*inputs(frames))


def test_every_parameter_learns(network):
    network(*inputs(16)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in network.parameters())


def test_noise_level_and_clap_change_the_output(network):
    features, noise, clap = inputs(16)
    out = network(features, noise, clap)
    assert (network(features, noise + 1, clap) - out).abs().max() > 1e-3
    assert (network(features, noise, clap + 1) - out).abs().max() > 1e-3


def test_batch_composition_does_not_change_a_row(network):
    items = inputs(16)
    alone = torch.cat([network(*(item[row : row + 1] for item in items)) for row in range(2)])
    torch.testing.assert_close(network(*items), alone, rtol=1e-4, atol=1e-5)


def test_halving_undoes_doubling():
    signal = torch.randn(2, 3, 8)
    torch.testing.assert_close(resampled(resampled(signal, Resample.DOUBLE), Resample.HALVE), signal)


def test_attention_on_a_level_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="levels 1 to 2"):
        build(UNetRecipe(base=16, multipliers=(1, 2), attention_levels=(3,)))
