"""Claims about the distances of a codec's round trip, in closed form."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.codec_quality import log_mel_distance_db, si_sdr_db, stft_distance

Measure = Callable[[Tensor, Tensor], Tensor]
DISTANCES: tuple[Measure, ...] = (stft_distance, log_mel_distance_db)


@pytest.fixture(scope="module")
def noise() -> Tensor:
    """Two stereo clips (2, 2, N) of one second, every bin of them far above the floors."""
    return 0.2 * torch.randn(2, 2, 48_000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("distance", DISTANCES)
def test_identical_audio_has_no_distance(distance: Measure, noise: Tensor) -> None:
    assert distance(noise, noise).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("gain", [0.5, 1.25])
def test_a_gain_has_the_distance_that_equations_4_to_6_give_it(noise: Tensor, gain: float) -> None:
    expected = abs(1 - gain) + abs(math.log(gain))
    assert stft_distance(noise, gain * noise).tolist() == pytest.approx([expected] * 2, rel=2e-3)


@pytest.mark.parametrize("gain", [0.5, 1.25])
def test_a_gain_has_its_decibels_as_log_mel_distance(noise: Tensor, gain: float) -> None:
    expected = abs(20 * math.log10(gain))
    assert log_mel_distance_db(noise, gain * noise).tolist() == pytest.approx([expected] * 2, rel=1e-3)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_turned_sign_is_not_heard_by_distances_of_magnitudes(distance: Measure, noise: Tensor) -> None:
    assert distance(noise, -noise).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_what_lies_below_80_db_under_full_scale_counts_for_little(distance: Measure, noise: Tensor) -> None:
    silence = torch.zeros_like(noise)
    assert distance(silence, 1e-6 * noise).max() < 0.01


@pytest.mark.parametrize("snr_db", [-4.0, 0.0, 12.0])
def test_si_sdr_is_the_ratio_at_which_orthogonal_noise_was_added(noise: Tensor, snr_db: float) -> None:
    signal = (noise - noise.mean(dim=-1, keepdim=True)).flatten(1)
    other = torch.randn(signal.shape, generator=torch.Generator().manual_seed(1))
    other = (other.view_as(noise) - other.view_as(noise).mean(dim=-1, keepdim=True)).flatten(1)
    other -= (other * signal).sum(1, keepdim=True) / signal.square().sum(1, keepdim=True) * signal
    other *= 10 ** (-snr_db / 20) * signal.norm(dim=1, keepdim=True) / other.norm(dim=1, keepdim=True)
    mixed = 3.7 * (signal + other)  # the gain must not matter
    assert si_sdr_db(noise, mixed.view_as(noise)).tolist() == pytest.approx([snr_db] * 2, abs=1e-2)


def test_si_sdr_of_silence_is_minus_infinity_and_of_a_louder_copy_near_infinity(noise: Tensor) -> None:
    assert si_sdr_db(noise, torch.zeros_like(noise)).tolist() == [-math.inf] * 2
    assert si_sdr_db(noise, 2.0 * noise).min() > 100


def test_si_sdr_refuses_a_silent_original(noise: Tensor) -> None:
    with pytest.raises(ValueError, match=r"originals \[1\] are silent"):
        si_sdr_db(torch.cat([noise[:1], torch.zeros(1, 2, 48_000)]), noise)


@pytest.mark.parametrize("measure", [*DISTANCES, si_sdr_db])
def test_what_cannot_be_compared_is_refused(measure: Measure, noise: Tensor) -> None:
    with pytest.raises(ValueError, match="average the original's channels"):
        measure(noise, noise[:, :1])
    with pytest.raises(ValueError, match="the copy holds NaN"):
        measure(noise, torch.full_like(noise, math.nan))


@pytest.mark.parametrize("measure", [*DISTANCES, si_sdr_db])
def test_a_clip_is_measured_the_same_alone_and_in_a_batch(measure: Measure, noise: Tensor) -> None:
    copy = noise.roll(7, dims=-1)
    alone = torch.cat([measure(noise[row : row + 1], copy[row : row + 1]) for row in range(2)])
    assert torch.allclose(measure(noise, copy), alone, atol=1e-4)
