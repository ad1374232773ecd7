"""How far a codec's round trip lies from its original: distances of spectra, and of waveforms. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

from models.mel import LogMel, MelRecipe

# Shapes: B batch, S audio channels, N samples at 48 kHz, K frequency bins, T frames.

RESOLUTIONS = ((1024, 480, 100), (2048, 1200, 240), (4096, 2400, 480))
"""FFT, window and hop in samples: those of Yamamoto et al. 2020 (table 1, for 24 kHz) doubled for 48 kHz."""

FLOOR = 1e-4
"""Magnitudes are raised to this before a logarithm; a full-scale sine has 1, so it lies at -80 dB."""


def stft_distance(original_BSN: Tensor, copy_BSN: Tensor) -> Tensor:
    """Multi-resolution STFT distance (B,), without unit: 0 for equal magnitudes, whatever the phases.

    Yamamoto et al. 2020 (Parallel WaveGAN), equations 4 to 6: spectral convergence ||X - Y|| / ||X|| plus the mean
    of |ln X - ln Y| over magnitudes X, Y, averaged over three resolutions. A copy at gain a scores |1 - a| + |ln a|.
    Departure: a clip's channels count as one spectrum, and X in ||X|| and under the logarithms is at least -80 dB.
    """
    _check_alike(original_BSN, copy_BSN)
    distances = [_at_resolution(original_BSN, copy_BSN, *resolution) for resolution in RESOLUTIONS]
    return torch.stack(distances).mean(dim=0)


def log_mel_distance_db(original_BSN: Tensor, copy_BSN: Tensor) -> Tensor:
    """Mean absolute difference (B,) in dB of the log-mel pictures of `models.mel`, channel by channel.

    64 bands from 40 Hz to 16 kHz, 40 frames a second, floor -80 dB: not the picture that the spectral codec keeps.
    A copy at gain a scores |20 log10 a| wherever the bands lie above the floor.
    """
    _check_alike(original_BSN, copy_BSN)
    picture = LogMel(MelRecipe()).to(original_BSN.device)
    difference = picture(original_BSN.flatten(0, 1)) - picture(copy_BSN.flatten(0, 1))
    return 10 * difference.abs().unflatten(0, original_BSN.shape[:2]).mean(dim=(1, 2, 3))


def si_sdr_db(original_BSN: Tensor, copy_BSN: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio (B,) in dB: infinite for a copy at any gain, -inf for silence.

    Le Roux et al. 2019, equation 3, on audio without its mean; the channels of a clip count as one long signal.
    It compares waveforms: a codec that invents phases is expected to have a negative one, however it sounds.
    """
    _check_alike(original_BSN, copy_BSN)
    original_BM, copy_BM = (
        (audio_BSN - audio_BSN.mean(dim=-1, keepdim=True)).flatten(1).double() for audio_BSN in (original_BSN, copy_BSN)
    )
    energy_B = original_BM.square().sum(dim=1)
    silent = torch.nonzero(energy_B == 0).flatten().tolist()
    if silent:
        raise ValueError(f"originals {silent} are silent: nothing is a distortion of silence; leave them out")
    share_B1 = ((original_BM * copy_BM).sum(dim=1) / energy_B)[:, None]
    kept_B = (share_B1 * original_BM).square().sum(dim=1)
    lost_B = (copy_BM - share_B1 * original_BM).square().sum(dim=1)
    ratio_B = torch.where(kept_B == 0, 0.0, kept_B / lost_B)  # silence keeps nothing and loses nothing: 0 / 0
    return (10 * torch.log10(ratio_B)).float()


def _at_resolution(original_BSN: Tensor, copy_BSN: Tensor, fft: int, window: int, hop: int) -> Tensor:
    original_BSKT, copy_BSKT = (_magnitudes(audio_BSN, fft, window, hop) for audio_BSN in (original_BSN, copy_BSN))
    length_B = torch.linalg.vector_norm(original_BSKT.clamp(min=FLOOR), dim=(1, 2, 3))
    convergence_B = torch.linalg.vector_norm(original_BSKT - copy_BSKT, dim=(1, 2, 3)) / length_B
    logs_BSKT = original_BSKT.clamp(min=FLOOR).log() - copy_BSKT.clamp(min=FLOOR).log()
    return convergence_B + logs_BSKT.abs().mean(dim=(1, 2, 3))


def _magnitudes(audio_BSN: Tensor, fft: int, window: int, hop: int) -> Tensor:
    """Short-time magnitudes (B, S, K, T), 1 for a full-scale sine."""
    hann_W = torch.hann_window(window, device=audio_BSN.device)
    spectrum = torch.stft(audio_BSN.flatten(0, 1), fft, hop, window, hann_W, pad_mode="constant", return_complex=True)
    return spectrum.abs().unflatten(0, audio_BSN.shape[:2]) * (2 / hann_W.sum())


def _check_alike(original_BSN: Tensor, copy_BSN: Tensor) -> None:
    if original_BSN.shape != copy_BSN.shape or original_BSN.ndim != 3 or 0 in original_BSN.shape:
        raise ValueError(
            f"original {tuple(original_BSN.shape)} and copy {tuple(copy_BSN.shape)}: expected one shape "
            "(batch, channels, samples); average the original's channels for a mono codec"
        )
    for name, audio_BSN in (("original", original_BSN), ("copy", copy_BSN)):
        if not torch.isfinite(audio_BSN).all():
            raise ValueError(f"the {name} holds NaN or infinite samples; it has no distance to anything")
