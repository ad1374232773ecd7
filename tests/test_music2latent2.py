"""Claims about the trainable stereo codec: structure, causality, boundary condition, lengths, seeds, content."""

from collections.abc import Callable

import pytest
import torch
from micro_codecs import STEREO, woken

from models.codec import LatentClip, seeded_noise
from models.codec_consistency import LEVELS, PROMPT_TIME, SIGMA_MAX, SIGMA_MIN, renoised
from models.codecs import untrained
from models.consistency_codec import joined
from models.music2latent2 import PRESETS, TINY, Music2Latent2

Seeds = Callable[..., list[torch.Generator]]


@pytest.fixture(scope="module")
def codec() -> Music2Latent2:
    return woken(untrained(STEREO, seed=0))


@pytest.fixture(scope="module")
def audio() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(3, 2, 98_304, generator=generator)


@pytest.mark.parametrize(("size", "millions"), [("tiny", 0.965), ("small", 23.07), ("base", 146.95)])
def test_presets_have_the_sizes_they_are_named_for(size: str, millions: float) -> None:
    recipe = PRESETS[size]
    with torch.device("meta"):
        codec = Music2Latent2(recipe)
    count = sum(parameter.numel() for parameter in codec.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize("samples", [2048, 32_767, 32_768, 131_072])
def test_round_trip_returns_exactly_the_samples_it_was_given(codec: Music2Latent2, seeds: Seeds, samples: int) -> None:
    clip = codec.encode(torch.zeros(1, 2, samples))
    assert clip.latent_BCT.shape == (1, 64, codec.spec.latent_frames(samples))
    assert codec.decode(clip, generators=seeds(0)).shape == (1, 2, samples)


def test_consistency_map_is_the_identity_at_sigma_min(codec: Music2Latent2, audio: torch.Tensor) -> None:
    chunks = codec.chunks(audio[:1, :, :65_536], padded=True)
    features = codec.features(codec.latents(chunks))
    denoised = codec.denoise(chunks, torch.full((1, 2), SIGMA_MIN), features)
    assert torch.allclose(denoised, chunks, atol=1e-6)
    mixed = codec.denoise(chunks, torch.tensor([[SIGMA_MIN, 3.0]]), features)
    assert torch.allclose(mixed[:, 0], chunks[:, 0], atol=1e-6)
    assert not torch.allclose(mixed[:, 1], chunks[:, 1], atol=1e-2)


def test_an_untrained_decoder_is_the_skip_alone(audio: torch.Tensor) -> None:
    fresh = Music2Latent2(STEREO)
    chunks = fresh.chunks(audio[:1, :, :65_536], padded=True)
    sigma = torch.tensor([[0.4, 7.0]])
    denoised = fresh.denoise(chunks, sigma, fresh.features(fresh.latents(chunks)))
    assert torch.allclose(denoised, LEVELS.scales(sigma).skip[..., None, None, None] * chunks, atol=1e-5)


def test_the_left_chunk_never_sees_the_right_one(codec: Music2Latent2, audio: torch.Tensor) -> None:
    chunks = codec.chunks(audio[:, :, :65_536], padded=True)
    latents, sigma = codec.latents(chunks), torch.tensor([[1.0, 9.0]]).expand(3, -1)
    both = codec.denoise(chunks, sigma, codec.features(latents))
    other_right = torch.cat([latents[..., :8], latents[..., 8:].roll(1, 0)], dim=2)
    noisy_right = torch.cat([chunks[:, :1], chunks[:, 1:] + 1], dim=1)
    changed = codec.denoise(noisy_right, sigma * torch.tensor([1.0, 0.5]), codec.features(other_right))
    assert torch.allclose(both[:, 0], changed[:, 0], atol=1e-5)
    assert not torch.allclose(both[:, 1], changed[:, 1], atol=1e-2)
    alone = codec.denoise(chunks[:, :1], sigma[:, :1], codec.features(latents[..., :8]))
    assert torch.allclose(both[:, :1], alone, atol=1e-5)


def test_the_right_chunk_sees_the_left_one(codec: Music2Latent2, audio: torch.Tensor) -> None:
    chunks = codec.chunks(audio[:1, :, :65_536], padded=True)
    features, sigma = codec.features(codec.latents(chunks)), torch.ones(1, 2)
    moved = torch.cat([chunks[:, :1] + 1, chunks[:, 1:]], dim=1)
    there, here = codec.denoise(moved, sigma, features), codec.denoise(chunks, sigma, features)
    assert (there[:, 1] - here[:, 1]).abs().max() > 1e-5


def test_encoding_chunk_by_chunk_equals_encoding_the_whole(codec: Music2Latent2, audio: torch.Tensor) -> None:
    chunks = codec.chunks(audio, padded=True)
    whole = codec.encode(audio).latent_BCT
    apart = torch.cat([codec.latents(chunks[:, [index]]) for index in range(3)], dim=2)
    assert torch.allclose(whole, apart, atol=1e-5)
    far_away_changed = torch.cat([audio[..., :32_000] * 0, audio[..., 32_000:]], dim=2)
    assert torch.allclose(whole[..., 8:], codec.encode(far_away_changed).latent_BCT[..., 8:], atol=1e-5)


def test_decoding_is_the_two_step_algorithm_with_a_dummy_on_the_right(codec: Music2Latent2, seeds: Seeds) -> None:
    latents = 0.5 * torch.randn(1, 64, 16, generator=seeds(3)[0])
    left, right = (codec.features(half) for half in latents.split(8, dim=2))
    pair = [torch.cat(level, dim=1) for level in zip(left, right, strict=True)]
    source = seeds(4)
    noise = torch.cat([seeded_noise((2, 1, 4, 1024, 32), source, latents) for _ in range(2)], dim=2)
    first, second = noise.unbind(1)
    prompt, dummy = float(LEVELS.sigma(torch.tensor(PROMPT_TIME))), torch.ones(1, 1, 4, 1024, 32)
    drawn = codec.denoise(torch.cat([80 * first[:, :1], dummy], 1), torch.tensor([[SIGMA_MAX, 1.0]]), pair)[:, :1]
    start = torch.cat([renoised(drawn, prompt, second[:, :1]), 80 * first[:, 1:]], 1)
    both = codec.denoise(start, torch.tensor([[prompt, SIGMA_MAX]]), pair)
    flushed = [torch.cat([level, level], dim=1) for level in right]
    last = torch.cat([renoised(both[:, 1:], prompt, second[:, 1:]), dummy], 1)
    end = codec.denoise(last, torch.tensor([[prompt, 1.0]]), flushed)[:, :1]
    expected = codec.stft.audio(joined(torch.cat([both[:, :1], end], dim=1))).clamp(-1, 1)
    assert torch.allclose(codec.decode(LatentClip(latents, 65_536), generators=seeds(4)), expected, atol=1e-4)


def test_decoding_a_batch_equals_decoding_one_by_one(codec: Music2Latent2, seeds: Seeds, audio: torch.Tensor) -> None:
    clip = codec.encode(audio[..., :65_536])
    together = codec.decode(clip, generators=seeds(7, 8, 9))
    last = codec.decode(LatentClip(clip.latent_BCT[2:], clip.samples), generators=seeds(9))
    assert torch.allclose(together[2:], last, atol=1e-4)
    assert torch.equal(last, codec.decode(LatentClip(clip.latent_BCT[2:], clip.samples), generators=seeds(9)))
    assert not torch.allclose(together[1:2], last, atol=1e-2)


@pytest.mark.parametrize("level", [0.0, 1.0, 100.0])
def test_silence_and_loudness_stay_finite(codec: Music2Latent2, seeds: Seeds, level: float) -> None:
    clip = codec.encode(level * torch.ones(1, 1, 32_768))
    assert torch.isfinite(clip.latent_BCT).all()
    assert clip.latent_BCT.abs().max() <= 1
    assert torch.isfinite(codec.decode(clip, generators=seeds(0))).all()


def test_a_fresh_encoder_tells_items_apart_and_does_not_saturate() -> None:
    torch.manual_seed(0)
    time = torch.arange(32_768) / 48_000
    tones = torch.stack([torch.sin(6.2832 * pitch * time) for pitch in (80, 300, 1000, 4000)])[:, None].expand(
        -1, 2, -1
    )
    latents = Music2Latent2(TINY).encode(0.3 * tones).latent_BCT
    assert latents.std(dim=0).mean() / latents.abs().mean() > 0.067  # codecs.md E.3: what a good start reached
    assert (latents.abs() > 0.99).float().mean() < 0.01


def test_the_loss_reaches_every_weight_once_the_decoder_is_awake(codec: Music2Latent2) -> None:
    codec.requires_grad_(True)
    crop = 0.1 * torch.randn(1, 2, codec.crop_samples, generator=torch.Generator().manual_seed(0))
    codec.loss(crop, 0.0, torch.Generator().manual_seed(0)).backward()
    unreached = [name for name, weight in codec.named_parameters() if weight.grad is None or not weight.grad.any()]
    codec.requires_grad_(False)
    assert unreached == []
