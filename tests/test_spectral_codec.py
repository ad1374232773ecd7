"""Claims about the closed-form codec: geometry, exact lengths, independence of the batch, and fidelity."""

import math
from collections.abc import Callable

import pytest
import torch

from models.codec import LatentClip, whole_chunks
from models.spectral import SpectralCodec, SpectralRecipe, fit_spectral, griffin_lim

STEREO = SpectralRecipe(audio_channels=2)
Seeds = Callable[..., list[torch.Generator]]


def plucks(seed: int, *, seconds_samples: int = 131_072) -> torch.Tensor:
    """A window (2, N) of decaying tones and noise bursts, each with its own place in stereo."""
    generator = torch.Generator().manual_seed(seed)
    time, audio = torch.arange(seconds_samples) / 48_000, torch.zeros(2, seconds_samples)
    for start, pitch, pan, noisy in torch.rand(14, 4, generator=generator):
        since = (time - start * time[-1]).clamp(min=0)
        tone = torch.sin(2 * math.pi * 60 * 2 ** (6 * pitch) * since) * (since > 0)
        burst = torch.randn(seconds_samples, generator=generator) * (since > 0)
        audio += torch.stack([pan, 1 - pan])[:, None] * 0.3 * (burst if noisy > 0.7 else tone) * torch.exp(-9 * since)
    return audio.clamp(-1, 1)


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    return torch.stack([plucks(seed) for seed in range(10)])


@pytest.fixture(scope="module")
def state(windows: torch.Tensor) -> dict[str, torch.Tensor]:
    return fit_spectral(STEREO, windows[:8].split(4))


@pytest.fixture(scope="module")
def codec(state: dict[str, torch.Tensor]) -> SpectralCodec:
    return SpectralCodec(STEREO, state)


@pytest.mark.parametrize("samples", [2048, 32_767, 32_768, 131_072])
def test_round_trip_returns_exactly_the_samples_it_was_given(codec: SpectralCodec, seeds: Seeds, samples: int) -> None:
    clip = codec.encode(plucks(3, seconds_samples=samples)[None])
    assert clip.latent_BCT.shape == (1, 64, codec.spec.latent_frames(samples))
    assert codec.decode(clip, generators=seeds(0)).shape == (1, 2, samples)


def test_canonical_windows_have_120_and_32_frames(codec: SpectralCodec) -> None:
    assert codec.encode(torch.zeros(1, 2, 491_520)).latent_BCT.shape == (1, 64, 120)
    assert codec.encode(torch.zeros(1, 1, 131_072)).latent_BCT.shape == (1, 64, 32)


def test_latents_are_unwhitened_principal_components(
    codec: SpectralCodec, state: dict[str, torch.Tensor], windows: torch.Tensor
) -> None:
    latents = codec.encode(windows[:8]).latent_BCT.transpose(1, 2).flatten(0, 1)
    covariance = latents.double().T @ latents.double() / len(latents)
    assert torch.allclose(covariance, torch.diag(state["variances"].double()), atol=2e-3 * float(state["variances"][0]))
    assert (state["variances"].diff() <= 0).all()
    assert torch.allclose(state["components"] @ state["components"].T, torch.eye(64), atol=1e-4)


def test_fit_does_not_depend_on_the_batches_and_its_signs_are_fixed(
    state: dict[str, torch.Tensor], windows: torch.Tensor
) -> None:
    again = fit_spectral(STEREO, windows[:8].split(1))
    assert torch.allclose(state["mean"], again["mean"], atol=1e-5)
    assert torch.allclose(state["components"][:16], again["components"][:16], atol=1e-3)
    largest = state["components"].abs().argmax(dim=1, keepdim=True)
    assert (state["components"].gather(1, largest) > 0).all()


def test_decoding_a_batch_equals_decoding_one_by_one(codec: SpectralCodec, seeds: Seeds, windows: torch.Tensor) -> None:
    clip = codec.encode(windows[:3])
    together = codec.decode(clip, generators=seeds(7, 8, 9))
    last = codec.decode(LatentClip(clip.latent_BCT[2:], clip.samples), generators=seeds(9))
    assert torch.allclose(together[2:], last, atol=1e-5)


def test_decoding_depends_on_the_seed_and_on_nothing_else(codec: SpectralCodec, seeds: Seeds) -> None:
    clip = codec.encode(plucks(1)[None])
    first = codec.decode(clip, generators=seeds(5))
    torch.manual_seed(99)
    assert torch.equal(first, codec.decode(clip, generators=seeds(5)))
    assert not torch.allclose(first, codec.decode(clip, generators=seeds(6)), atol=1e-3)


def test_held_out_round_trip_is_much_nearer_than_noise_of_equal_level(
    codec: SpectralCodec, seeds: Seeds, windows: torch.Tensor
) -> None:
    audio = windows[8:]
    decoded = codec.decode(codec.encode(audio), generators=seeds(0, 1))
    noise = torch.randn(audio.shape, generator=seeds(2)[0]) * audio.square().mean().sqrt()
    logs = [codec.analysis.patches(sound) for sound in (audio, decoded, noise)]
    assert (logs[0] - logs[1]).abs().mean() < 0.35 * (logs[0] - logs[2]).abs().mean()
    assert 0.4 < decoded.square().mean() / audio.square().mean() < 1.5


def test_a_steady_tone_keeps_its_pitch_and_level(codec: SpectralCodec, seeds: Seeds) -> None:
    audio = (0.3 * torch.sin(2 * math.pi * 437.5 * torch.arange(32_768) / 48_000)).expand(1, 2, -1)
    patches = codec.analysis.patches(audio)
    magnitude = codec.analysis.magnitudes(patches[0])
    assert abs(int(magnitude[0, 32].argmax()) - 437.5 * 2048 / 48_000) <= 1
    start = torch.rand(2, 32_768, generator=seeds(0)[0]) - 0.5
    again = griffin_lim(magnitude, start, framing=codec.analysis.framing, iterations=4)
    assert 0.25 < again[0].square().mean() / audio[0, 0].square().mean() < 1.5


def test_griffin_lim_comes_nearer_with_every_iteration(codec: SpectralCodec, seeds: Seeds) -> None:
    magnitude = codec.analysis.magnitudes(codec.analysis.patches(plucks(2)[None])[0])
    start, framing = torch.rand(2, 131_072, generator=seeds(0)[0]) - 0.5, codec.analysis.framing

    def misfit(iterations: int) -> float:
        audio = griffin_lim(magnitude, start, framing=framing, iterations=iterations)
        return float((torch.fft.rfft(framing.cut(audio) * framing.window_W).abs() - magnitude).norm())

    assert misfit(4) < misfit(2) < misfit(1) < misfit(0)


def test_equal_channels_come_back_nearly_equal(codec: SpectralCodec, seeds: Seeds) -> None:
    mono = plucks(4)[:1].expand(2, -1)
    decoded = codec.decode(codec.encode(mono[None]), generators=seeds(0))[0]
    assert (decoded[0] - decoded[1]).square().mean() < 0.05 * decoded.square().mean()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silence_and_full_scale_stay_finite_and_bounded(codec: SpectralCodec, seeds: Seeds, level: float) -> None:
    audio = level * torch.randn(1, 2, 32_768, generator=seeds(0)[0]).sign()
    decoded = codec.decode(codec.encode(audio), generators=seeds(0))
    assert torch.isfinite(decoded).all()
    assert decoded.abs().max() <= 1
    assert (decoded.square().mean().sqrt() < 1e-2) == (level == 0.0)


def test_wild_latents_decode_to_bounded_audio(codec: SpectralCodec, seeds: Seeds) -> None:
    decoded = codec.decode(LatentClip(1e4 * torch.ones(1, 64, 8), 32_768), generators=seeds(0))
    assert torch.isfinite(decoded).all()


def test_mono_version_halves_the_patch_and_averages_stereo(windows: torch.Tensor, seeds: Seeds) -> None:
    recipe = SpectralRecipe(audio_channels=1)
    codec = SpectralCodec(recipe, fit_spectral(recipe, windows[:4].split(2)))
    assert codec.components.shape == (64, 768)
    clip = codec.encode(windows[:1])
    assert torch.allclose(clip.latent_BCT, codec.encode(windows[:1].mean(1, keepdim=True)).latent_BCT, atol=1e-3)
    assert codec.decode(clip, generators=seeds(0)).shape == (1, 1, 131_072)


def test_damaged_or_misfitting_input_is_refused_by_name(codec: SpectralCodec, seeds: Seeds) -> None:
    with pytest.raises(ValueError, match="NaN"):
        codec.encode(torch.full((1, 2, 2048), float("nan")))
    with pytest.raises(ValueError, match="channels"):
        codec.encode(torch.zeros(1, 5, 2048))
    with pytest.raises(ValueError, match="2 generators"):
        codec.decode(codec.encode(torch.zeros(1, 2, 2048)), generators=seeds(0, 1))
    with pytest.raises(ValueError, match="more windows"):
        fit_spectral(STEREO, [torch.zeros(1, 2, 131_072)])
    with pytest.raises(ValueError, match="components"):
        SpectralCodec(SpectralRecipe(audio_channels=1), {"mean": codec.mean, "components": codec.components})


def test_audio_is_padded_to_whole_chunks(codec: SpectralCodec) -> None:
    assert whole_chunks(torch.ones(1, 1, 32_769), codec.spec).shape == (1, 2, 65_536)
