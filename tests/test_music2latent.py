"""Claims about the trainable mono codec: size, lengths, boundary condition, seeds, content."""

from collections.abc import Callable

import pytest
import torch
from micro_codecs import MONO, woken

from models.codec import LatentClip
from models.codec_consistency import SIGMA_MIN
from models.codecs import untrained
from models.music2latent import PRESETS, TINY, Music2Latent

Seeds = Callable[..., list[torch.Generator]]


@pytest.fixture(scope="module")
def codec() -> Music2Latent:
    return woken(untrained(MONO, seed=0))


@pytest.mark.parametrize(("size", "millions"), [("tiny", 0.675), ("small", 14.7), ("base", 58.2)])
def test_presets_have_the_sizes_they_are_named_for(size: str, millions: float) -> None:
    with torch.device("meta"):
        codec = Music2Latent(PRESETS[size])
    count = sum(parameter.numel() for parameter in codec.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=2e-3)  # the released network has 58,185,026 (codecs.md A.1)


@pytest.mark.parametrize("samples", [2048, 32_767, 32_768, 131_072])
def test_round_trip_returns_exactly_the_samples_it_was_given(codec: Music2Latent, seeds: Seeds, samples: int) -> None:
    clip = codec.encode(torch.zeros(1, 2, samples))
    assert clip.latent_BCT.shape == (1, 64, codec.spec.latent_frames(samples))
    assert codec.decode(clip, generators=seeds(0)).shape == (1, 1, samples)


def test_the_canonical_window_has_120_frames(codec: Music2Latent) -> None:
    assert codec.encode(torch.zeros(1, 1, 491_520)).latent_BCT.shape == (1, 64, 120)


def test_consistency_map_is_the_identity_at_sigma_min(codec: Music2Latent) -> None:
    chunks = codec.chunks(0.1 * torch.randn(2, 1, 32_768, generator=torch.Generator().manual_seed(0)), padded=True)
    features = codec.features(codec.latents(chunks))
    assert torch.allclose(codec.denoise(chunks, torch.full((2, 1), SIGMA_MIN), features), chunks, atol=1e-6)
    assert not torch.allclose(codec.denoise(chunks, torch.full((2, 1), 3.0), features), chunks, atol=1e-2)


def test_decoding_a_batch_equals_decoding_one_by_one(codec: Music2Latent, seeds: Seeds) -> None:
    clip = codec.encode(0.1 * torch.randn(3, 1, 32_768, generator=seeds(0)[0]))
    together = codec.decode(clip, generators=seeds(7, 8, 9))
    last = codec.decode(LatentClip(clip.latent_BCT[2:], clip.samples), generators=seeds(9))
    assert torch.allclose(together[2:], last, atol=1e-4)
    assert not torch.allclose(together[1:2], last, atol=1e-2)


@pytest.mark.parametrize("level", [0.0, 1.0, 100.0])
def test_silence_and_loudness_stay_finite(codec: Music2Latent, seeds: Seeds, level: float) -> None:
    clip = codec.encode(level * torch.ones(1, 1, 32_768))
    assert clip.latent_BCT.abs().max() <= 1
    assert torch.isfinite(codec.decode(clip, generators=seeds(0))).all()


def test_a_fresh_encoder_tells_items_apart() -> None:
    torch.manual_seed(0)
    time = torch.arange(32_768) / 48_000
    tones = torch.stack([torch.sin(6.2832 * pitch * time) for pitch in (80, 300, 1000, 4000)])[:, None]
    latents = Music2Latent(TINY).encode(0.3 * tones).latent_BCT
    assert latents.std(dim=0).mean() / latents.abs().mean() > 0.067  # codecs.md E.3: what a good start reached


def test_the_loss_reaches_every_weight_once_the_decoder_is_awake(codec: Music2Latent) -> None:
    codec.requires_grad_(True)
    crop = 0.1 * torch.randn(1, 1, codec.crop_samples, generator=torch.Generator().manual_seed(0))
    codec.loss(crop, 0.0, torch.Generator().manual_seed(0)).backward()
    unreached = [name for name, weight in codec.named_parameters() if weight.grad is None or not weight.grad.any()]
    codec.requires_grad_(False)
    assert unreached == []
