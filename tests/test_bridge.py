"""The bridge from text to audio embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.bridge import (
    Bridge,
    BridgeRecipe,
    BridgeStatistics,
    bridge_statistics,
    build_bridge,
    load_bridge,
    train_bridge,
)
from models.sampling import HeunSampler
from models.training import TrainingRecipe
from models.weights import WeightsError

E = 8
RECIPE = BridgeRecipe(
    width=64,
    blocks=2,
    conditioning_width=32,
    training=TrainingRecipe(steps=400, batch_size=128, learning_rate=3e-3, warmup_steps=10, ema_decay=0.98),
)
BRIEF = BridgeRecipe(
    width=16, blocks=1, conditioning_width=16, training=TrainingRecipe(steps=6, batch_size=8, warmup_steps=2)
)
SAMPLER = HeunSampler(steps=10)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def gap():
    """Texts and audio in two narrow cones: audio is a rotation of the text, elsewhere, with a spread of its own."""
    random = np.random.default_rng(0)
    tags = random.standard_normal((512, E))
    turn = np.linalg.qr(random.standard_normal((E, E)))[0]
    text = unit(3 * np.eye(E)[0] + tags)
    audio = unit(3 * np.eye(E)[1] + tags @ turn + 0.2 * random.standard_normal((2, 512, E)))
    return torch.from_numpy(text).float(), torch.from_numpy(audio).float().transpose(0, 1)


@pytest.fixture(scope="module")
def bridge(gap):
    """A bridge trained on the first 448 stems."""
    text, audio = gap
    weights = train_bridge(RECIPE, text[:448], audio[:448])
    return load_bridge(RECIPE, clap_width=E, weights=weights)


def generators(count, first=0):
    return [torch.Generator().manual_seed(first + number) for number in range(count)]


def test_paper_preset_has_about_32_million_parameters():
    with torch.device("meta"):
        names = ("audio_mean_E", "audio_std_E", "text_mean_E", "text_std_E")
        bridge = Bridge(BridgeRecipe(), BridgeStatistics(**{name: torch.empty(512) for name in names}))
    assert sum(parameter.numel() for parameter in bridge.parameters()) == 31_764_992


def test_learns_a_known_gap_better_than_identity_and_than_the_mean(gap, bridge):
    text, audio = gap[0][448:], gap[1][448:, 0]
    found = bridge.sample(text, generators(64), sampler=SAMPLER)
    mean = torch.nn.functional.normalize(gap[1][:448].mean((0, 1)), dim=0)

    def agreement(guess):
        return (guess * audio).sum(1).mean().item()

    assert agreement(found) > agreement(text) + 0.3
    assert agreement(found) > agreement(mean.expand_as(audio)) + 0.03


def test_unconditional_samples_have_the_moments_of_the_audio(gap, bridge):
    audio = gap[1][:448].flatten(0, 1)
    found = bridge.sample(None, generators(256), sampler=SAMPLER)
    torch.testing.assert_close(found.mean(0), audio.mean(0), atol=0.06, rtol=0)
    assert found.std(0).mean().item() == pytest.approx(audio.std(0).mean().item(), rel=0.2)


def test_samples_are_unit_vectors_that_follow_their_seed_and_text(gap, bridge):
    text = gap[0][:3]
    found = bridge.sample(text, generators(3), sampler=SAMPLER)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(bridge.sample(text[1:], generators(2, first=1), sampler=SAMPLER), found[1:])
    assert (bridge.sample(text, generators(3, first=9), sampler=SAMPLER) - found).abs().max() > 1e-3
    assert (bridge.sample(text.flip(0), generators(3), sampler=SAMPLER) - found).abs().max() > 1e-2


def test_text_guidance_of_one_is_none_and_zero_is_unconditional(gap, bridge):
    text = gap[0][:4]

    def sample(scale):
        return bridge.sample(text, generators(4), sampler=SAMPLER, text_guidance=scale)

    torch.testing.assert_close(sample(1.0), bridge.sample(text, generators(4), sampler=SAMPLER))
    torch.testing.assert_close(sample(0.0), bridge.sample(None, generators(4), sampler=SAMPLER), atol=1e-4, rtol=1e-3)
    assert (sample(2.0) - sample(1.0)).abs().max() > 1e-3


def test_untrained_bridge_is_the_zero_map(gap):
    bridge = build_bridge(RECIPE, bridge_statistics(*gap), seed=0)
    has_text = torch.ones(3, dtype=torch.bool)
    assert bridge.raw(torch.randn(3, E), torch.ones(3), torch.randn(3, E), has_text).abs().max() == 0


def test_standardised_audio_has_std_one_half_and_comes_back(gap):
    bridge, audio = build_bridge(RECIPE, bridge_statistics(*gap), seed=0), gap[1].flatten(0, 1)
    standard = bridge.standardise(audio)
    torch.testing.assert_close(standard.std(0), torch.full((E,), 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(bridge.restore(standard), audio)


def test_interrupted_bridge_training_equals_uninterrupted(gap):
    saved = []
    whole = train_bridge(BRIEF, *gap, save=saved.append, save_every=4)
    resumed = train_bridge(BRIEF, *gap, resume=saved[0])
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.parametrize("segment", [0, 1])
def test_every_segment_of_a_stem_is_learned_from(gap, segment):
    text, audio = gap
    swapped = audio.clone()
    swapped[:, segment] = audio[:, segment].roll(1, 0)  # the same statistics, but for rounding
    ours, others = train_bridge(BRIEF, text, audio), train_bridge(BRIEF, text, swapped)
    assert (ours["leave.weight"] - others["leave.weight"]).abs().max() > 1e-3 * ours["leave.weight"].abs().max() > 0


def test_arrays_of_different_stems_are_an_error(gap):
    with pytest.raises(ValueError, match="not of the same stems"):
        train_bridge(RECIPE, gap[0][:5], gap[1])


def test_weights_of_another_bridge_are_named():
    with pytest.raises(WeightsError, match="missing: audio_mean_E"):
        load_bridge(RECIPE, clap_width=E, weights={})
