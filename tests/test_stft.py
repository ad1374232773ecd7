"""Claims about framing: exact lengths, no edge fade, and a power law that can be undone."""

import pytest
import torch

from models.stft import ALPHA, BETA, Framing, PowerStft

SHAPES = [(2048, 1024, False), (2048, 512, True), (2048, 512, False)]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1


def without_nyquist(audio: torch.Tensor) -> torch.Tensor:
    """Smoothed, so that the dropped Nyquist bin of a frame holds next to nothing."""
    kernel = torch.hann_window(18)[1:] / torch.hann_window(18).sum()
    return torch.nn.functional.conv1d(audio.flatten(0, 1)[:, None], kernel.view(1, 1, -1), padding="same").view_as(
        audio
    )


@pytest.mark.parametrize(("window", "hop", "of_modulus"), SHAPES)
@pytest.mark.parametrize("hops", [1, 2, 7])
def test_power_stft_returns_every_sample_even_at_the_edges(window: int, hop: int, of_modulus: bool, hops: int) -> None:
    stft = PowerStft(window_samples=window, hop_samples=hop, of_modulus=of_modulus)
    audio = without_nyquist(noise(2, 2, hops * hop))
    parts = stft.represent(audio)
    assert parts.shape == (2, 4, window // 2, hops)
    assert torch.allclose(stft.audio(parts), audio, atol=2e-4)


def test_a_crop_with_its_margins_gives_the_frames_of_the_whole() -> None:
    stft = PowerStft(window_samples=2048, hop_samples=1024, of_modulus=False)
    audio, margin = noise(1, 2, 16 * 1024), stft.framing.margin_samples
    crop = audio[..., 4 * 1024 - margin : 8 * 1024 + margin]
    assert torch.allclose(stft.represent(crop, padded=False), stft.represent(audio)[..., 4:8], atol=1e-5)


def test_power_law_acts_on_modulus_or_on_parts() -> None:
    audio = noise(1, 1, 4096)
    framing = Framing(window_samples=2048, hop_samples=1024)
    spectrum = torch.fft.rfft(framing.cut(audio) * framing.window_W)[0, 0, :, :-1].T
    of_modulus = PowerStft(window_samples=2048, hop_samples=1024, of_modulus=True).represent(audio)[0]
    of_parts = PowerStft(window_samples=2048, hop_samples=1024, of_modulus=False).represent(audio)[0]
    assert torch.allclose(of_modulus.square().sum(0).sqrt(), BETA * spectrum.abs() ** ALPHA, rtol=1e-4)
    assert torch.allclose(of_parts[1], BETA * spectrum.imag.sign() * spectrum.imag.abs() ** ALPHA, rtol=1e-4)


def test_power_law_brings_music_level_noise_near_sigma_data() -> None:
    stft = PowerStft(window_samples=2048, hop_samples=1024, of_modulus=False)
    assert 0.2 < stft.represent(noise(1, 2, 32 * 1024)).std() < 1.5


def test_silence_stays_silence() -> None:
    stft = PowerStft(window_samples=2048, hop_samples=512, of_modulus=True)
    assert (stft.audio(stft.represent(torch.zeros(1, 1, 4096))) == 0).all()


def test_partial_hops_are_refused() -> None:
    with pytest.raises(ValueError, match="whole hops"):
        Framing(window_samples=2048, hop_samples=512).cut(torch.zeros(1, 700))
