"""Short-time spectra with exact lengths: one frame per hop, no edge fade, and the codecs' power law."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Shapes: X any leading axes, B batch, S audio channels, N samples, F frames, W window samples,
# K frequency bins, P real and imaginary parts of every audio channel (P = 2 S).

ALPHA = 0.65  # codecs.md A.0: amplitudes are compressed by this power ...
BETA = 0.34  # ... and scaled by this, which brings them near std 0.5 (sigma_data)


class Framing(nn.Module):
    """Cuts audio into Hann frames and joins frames into audio; N samples are exactly N / hop frames.

    Frame f covers the samples from f hop - margin, where margin = (window - hop) / 2, so that the padding is the
    same at both ends. Joining divides by the sum of squared windows that really overlap, so nothing fades.
    """

    window_W: Tensor

    def __init__(self, *, window_samples: int, hop_samples: int) -> None:
        super().__init__()
        if window_samples % hop_samples or window_samples < 2 * hop_samples:
            raise ValueError(f"window {window_samples} must be a multiple >= 2 of hop {hop_samples}")
        self.hop_samples = hop_samples
        self.overlap = window_samples // hop_samples
        self.margin_samples = (window_samples - hop_samples) // 2
        self.register_buffer("window_W", torch.hann_window(window_samples), persistent=False)

    def cut(self, audio_XN: Tensor, *, padded: bool = True) -> Tensor:
        """Unwindowed frames (..., F, W), a view of the padded audio.

        With `padded` off, the audio already carries its margins: N = F hop + window - hop.
        """
        margin = self.margin_samples * padded
        if (audio_XN.shape[-1] + 2 * margin) % self.hop_samples or audio_XN.shape[-1] == 0:
            raise ValueError(f"{audio_XN.shape[-1]} samples are not whole hops of {self.hop_samples}; pad them first")
        audio_XN = nn.functional.pad(audio_XN, (margin, margin))
        return audio_XN.unfold(-1, self.window_W.shape[0], self.hop_samples)

    def join(self, frames_XFW: Tensor) -> Tensor:
        """Audio (..., F hop) whose windowed frames are nearest, in least squares, to these already windowed frames."""
        summed_XN = self._overlap_add(frames_XFW)
        energy_N = self._overlap_add((self.window_W**2).expand(frames_XFW.shape[-2], -1))
        return summed_XN / energy_N

    def _overlap_add(self, frames_XFW: Tensor) -> Tensor:
        """Sum of the frames at their places (..., F hop), margins removed."""
        count, hop = frames_XFW.shape[-2], self.hop_samples
        pieces = frames_XFW.unflatten(-1, (self.overlap, hop))
        summed = frames_XFW.new_zeros(*frames_XFW.shape[:-2], count + self.overlap - 1, hop)
        for offset in range(self.overlap):
            summed[..., offset : offset + count, :] += pieces[..., offset, :]
        return summed.flatten(-2)[..., self.margin_samples : self.margin_samples + count * hop]


class PowerStft(nn.Module):
    """Audio as power-law spectrograms of real and imaginary parts, without the Nyquist bin (codecs.md A.0).

    With `of_modulus`, the power acts on the modulus and keeps the phase (Music2Latent); otherwise on each part
    (CoDiCodec, and our Music2Latent2).
    """

    def __init__(self, *, window_samples: int, hop_samples: int, of_modulus: bool) -> None:
        super().__init__()
        self.framing = Framing(window_samples=window_samples, hop_samples=hop_samples)
        self.of_modulus = of_modulus

    def represent(self, audio_BSN: Tensor, *, padded: bool = True) -> Tensor:
        """Spectrogram (B, 2 S, W / 2, F): real then imaginary part of each channel."""
        frames = self.framing.cut(audio_BSN, padded=padded)
        spectrum_BSFK = torch.fft.rfft(frames * self.framing.window_W)[..., :-1]
        parts_BSFK2 = torch.view_as_real(self._power(spectrum_BSFK, ALPHA) * BETA)
        return parts_BSFK2.permute(0, 1, 4, 3, 2).flatten(1, 2).contiguous()

    def audio(self, parts_BPKF: Tensor) -> Tensor:
        """Audio (B, S, F hop) of a spectrogram: the inverse of `represent` up to the lost Nyquist bin."""
        parts_BSFK2 = parts_BPKF.unflatten(1, (-1, 2)).permute(0, 1, 4, 3, 2).contiguous()
        spectrum_BSFK = self._power(torch.view_as_complex(parts_BSFK2) / BETA, 1 / ALPHA)
        frames_BSFW = torch.fft.irfft(nn.functional.pad(spectrum_BSFK, (0, 1)), n=self.framing.window_W.shape[0])
        return self.framing.join(frames_BSFW * self.framing.window_W)

    def _power(self, spectrum: Tensor, exponent: float) -> Tensor:
        """The spectrum with its modulus, or each of its parts, raised to a power."""
        if self.of_modulus:
            return torch.sgn(spectrum) * spectrum.abs() ** exponent
        parts = torch.view_as_real(spectrum)
        return torch.view_as_complex(parts.sign() * parts.abs() ** exponent)
