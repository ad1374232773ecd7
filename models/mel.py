"""Log-mel pictures of audio, scaled so that the bands of a frame add up to its mean-square level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# Shapes: B batch, N samples, M mel bands, F frequency bins, T frames.


@dataclass(frozen=True, kw_only=True)
class MelRecipe:
    """How audio at 48 kHz becomes a picture: 64 bands at 40 frames per second.

    `floor` is the power that silence is given before the logarithm: -80 dB re full scale.
    """

    bands: int = 64
    fft_samples: int = 2048
    hop_samples: int = 1200
    low_hz: float = 40.0
    high_hz: float = 16_000.0
    floor: float = 1e-8
    rate_hz: int = 48_000


class LogMel(nn.Module):
    """Mono audio to log10 mel power; holds the window and the filters, learns nothing."""

    window_N: Tensor
    filters_MF: Tensor

    def __init__(self, recipe: MelRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.register_buffer("window_N", torch.hann_window(recipe.fft_samples), persistent=False)
        self.register_buffer("filters_MF", torch.from_numpy(mel_filters(recipe)), persistent=False)

    def forward(self, mono_BN: Tensor) -> Tensor:
        """mel_BMT, T = 1 + N // hop: log10 of the floor plus the mean-square level in each band."""
        recipe = self.recipe
        spectrum_BFT = torch.stft(
            mono_BN,
            recipe.fft_samples,
            recipe.hop_samples,
            window=self.window_N,
            pad_mode="constant",
            return_complex=True,
        )
        # Parseval: a frame's two-sided energy is fft_samples times that of the windowed samples.
        scale = 2.0 / (recipe.fft_samples * self.window_N.square().sum())
        power_BFT = (spectrum_BFT.real.square() + spectrum_BFT.imag.square()) * scale
        return torch.log10(self.filters_MF @ power_BFT + recipe.floor)


def mel_filters(recipe: MelRecipe) -> NDArray[np.float32]:
    """Triangles filters_MF (float32) with peak 1 on O'Shaughnessy's mel scale; inside the range they sum to one."""
    edges_hz = _hz(np.linspace(_mel(recipe.low_hz), _mel(recipe.high_hz), recipe.bands + 2))
    bins_hz = np.arange(recipe.fft_samples // 2 + 1) * recipe.rate_hz / recipe.fft_samples
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising_MF = (bins_hz - low) / (centre - low)
    falling_MF = (high - bins_hz) / (high - centre)
    filters_MF = np.clip(np.minimum(rising_MF, falling_MF), 0.0, None)
    deaf = np.flatnonzero(filters_MF.sum(axis=1) == 0.0)
    if deaf.size:
        raise ValueError(f"mel bands {deaf.tolist()} hold no frequency bin; ask for fewer bands or a longer FFT")
    return filters_MF.astype(np.float32)


def mix_mels(stem_BMT: Tensor, context_BMT: Tensor, *, balance_B: Tensor, level_db: float, floor: float) -> Tensor:
    """The picture of stem plus context: powers add, both first brought to one level.

    `balance_B` is how much louder the stem is, in log10 power; `level_db` is the mixture's mean square re full
    scale. Adding powers forgets the phases of the two signals, which is what a mel picture forgets anyway.
    """
    stem_BMT = _levelled(stem_BMT, floor) * torch.pow(10.0, balance_B / 2)[:, None, None]
    context_BMT = _levelled(context_BMT, floor) * torch.pow(10.0, -balance_B / 2)[:, None, None]
    mixture_BMT = stem_BMT + context_BMT
    mean_square_B11 = mixture_BMT.sum(dim=1, keepdim=True).mean(dim=2, keepdim=True)
    gain_B11 = 10.0 ** (level_db / 10) / mean_square_B11.clamp(min=floor)
    return torch.log10(mixture_BMT * gain_B11 + floor)


def _levelled(log_mel_BMT: Tensor, floor: float) -> Tensor:
    """Powers of a picture scaled to a mean square of one; silence stays silence."""
    power_BMT = (torch.pow(10.0, log_mel_BMT) - floor).clamp(min=0.0)
    mean_square_B11 = power_BMT.sum(dim=1, keepdim=True).mean(dim=2, keepdim=True)
    return torch.where(mean_square_B11 > floor, power_BMT / mean_square_B11.clamp(min=floor), power_BMT)


def _mel(hz: float) -> float:
    """O'Shaughnessy 1987: 2595 log10(1 + f / 700)."""
    return float(2595.0 * np.log10(1.0 + hz / 700.0))


def _hz(mel_M: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(700.0 * (10.0 ** (mel_M / 2595.0) - 1.0))
