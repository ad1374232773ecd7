"""The codec interface: waveforms in, latents out, and back to exactly as many samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Shapes: B batch, S audio channels, N samples, C latent width, T latent frames.

RATE_HZ = 48_000
CHUNK_SAMPLES = 32_768  # 15 of them are the canonical 10.24-s window (design.md section 7)
TOKENS_PER_CHUNK = 8
LATENT_WIDTH = 64


@dataclass(frozen=True, kw_only=True)
class CodecSpec:
    """What identifies a codec in every record and table.

    `audio_channels` is 1 for the mono codecs and 2 for the stereo ones. `ordering` says whether the tokens of a
    chunk follow time or are an unordered set of summaries. `weights_sha256` is the digest of what was fitted.
    """

    name: str
    audio_channels: int
    ordering: str
    licence: str
    noncommercial: bool
    weights_sha256: str
    chunk_samples: int = CHUNK_SAMPLES
    tokens_per_chunk: int = TOKENS_PER_CHUNK
    latent_width: int = LATENT_WIDTH
    rate_hz: int = RATE_HZ

    def latent_frames(self, samples: int) -> int:
        """Latent frames for `samples` samples: whole chunks, the last one padded."""
        return -(-samples // self.chunk_samples) * self.tokens_per_chunk


@dataclass(frozen=True)
class LatentClip:
    """Latents with the length of what they encode: raw codec latents, not standardised."""

    latent_BCT: Tensor
    samples: int


class Codec(Protocol):
    """A frozen autoencoder over 48 kHz audio."""

    spec: CodecSpec

    def encode(self, audio_BSN: Tensor) -> LatentClip:
        """Latents (B, 64, T) of stereo or mono audio; a mono codec averages the channels, a stereo one copies mono."""

    def decode(self, clip: LatentClip, *, generators: list[torch.Generator]) -> Tensor:
        """Audio (B, spec.audio_channels, clip.samples); one generator per item, so that the batch changes nothing."""


def whole_chunks(audio_BSN: Tensor, spec: CodecSpec) -> Tensor:
    """The audio in the codec's channels, zero-padded at its end to whole chunks."""
    audio_BSN = in_codec_channels(audio_BSN, spec)
    return torch.nn.functional.pad(audio_BSN, (0, -audio_BSN.shape[-1] % spec.chunk_samples))


def in_codec_channels(audio_BSN: Tensor, spec: CodecSpec) -> Tensor:
    """The audio in the codec's channels: stereo averaged for a mono codec, mono copied for a stereo one."""
    if audio_BSN.ndim != 3 or audio_BSN.shape[1] not in (1, 2) or audio_BSN.shape[2] == 0:
        raise ValueError(f"audio has shape {tuple(audio_BSN.shape)}; expected (batch, 1 or 2 channels, samples > 0)")
    if not torch.isfinite(audio_BSN).all():
        raise ValueError("audio holds NaN or infinite samples; repair or leave out the window before encoding")
    if spec.audio_channels == 1:
        return audio_BSN.mean(dim=1, keepdim=True)
    return audio_BSN.expand(-1, 2, -1)


def checked_latents(clip: LatentClip, spec: CodecSpec, generators: list[torch.Generator]) -> Tensor:
    """The latents of a clip that fits the codec, its stated length and its generators; otherwise a ValueError."""
    expected = (len(generators), spec.latent_width, spec.latent_frames(clip.samples))
    if tuple(clip.latent_BCT.shape) != expected:
        raise ValueError(
            f"latents have shape {tuple(clip.latent_BCT.shape)}; {len(generators)} generators and "
            f"{clip.samples} samples of {spec.name} need {expected}"
        )
    return clip.latent_BCT


def seeded_noise(shape: tuple[int, ...], generators: list[torch.Generator], like: Tensor) -> Tensor:
    """Gaussian noise (one row of `shape` per generator) on the device of `like`: a row never depends on the batch."""
    rows = [torch.randn(shape, generator=generator, device=generator.device) for generator in generators]
    return torch.stack([row.to(like.device, like.dtype) for row in rows])
