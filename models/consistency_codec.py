"""What the two trainable codecs share: spectrogram, bottleneck, features, and a denoiser trained for consistency."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.codec import CHUNK_SAMPLES, CodecSpec
from models.codec_consistency import ConsistencySchedule, consistency_loss
from models.stft import PowerStft

# Shapes: B batch, G chunks seen together, S audio channels, N samples, P real and imaginary parts per channel,
# K frequency bins, F frames of a chunk, C latent width, T latent frames.


class ConsistencyCodec(nn.Module, ABC):
    """An autoencoder whose decoder is a consistency model over power-law spectrograms."""

    spec: CodecSpec

    def __init__(self, stft: PowerStft, schedule: ConsistencySchedule, *, crop_chunks: int) -> None:
        super().__init__()
        self.stft = stft
        self.schedule = schedule
        self.crop_chunks = crop_chunks

    @property
    def crop_samples(self) -> int:
        """Samples of one training crop: its chunks and the margins that their outer frames reach into."""
        return self.crop_chunks * CHUNK_SAMPLES + 2 * self.stft.framing.margin_samples

    @abstractmethod
    def latents(self, clean_BGPKF: Tensor) -> Tensor:
        """Latents (B, C, T) in (-1, 1) of spectrogram chunks."""

    @abstractmethod
    def features(self, latent_BCT: Tensor) -> list[Tensor]:
        """All that the denoiser is told of the latents."""

    @abstractmethod
    def denoise(self, noisy_BGPKF: Tensor, sigma_BG: Tensor, features: list[Tensor]) -> Tensor:
        """f(x, sigma): denoised chunks, and x itself at sigma_min."""

    def chunks(self, audio_BSN: Tensor, *, padded: bool) -> Tensor:
        """Spectrogram chunks (B, G, P, K, F) of whole chunks of audio, or of a crop that carries its margins."""
        parts_BPKF = self.stft.represent(audio_BSN, padded=padded)
        return parts_BPKF.unflatten(-1, (-1, CHUNK_SAMPLES // self.stft.framing.hop_samples)).permute(0, 3, 1, 2, 4)

    def loss(self, audio_BSN: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        """The consistency loss of training crops (B, S, crop_samples) at this share of the run, 0 to 1."""
        expected = (self.spec.audio_channels, self.crop_samples)
        if tuple(audio_BSN.shape[1:]) != expected:
            raise ValueError(f"training crops have shape {tuple(audio_BSN.shape)}; expected (batch, *{expected})")
        clean_BGPKF = self.chunks(audio_BSN, padded=False)
        features = self.features(self.latents(clean_BGPKF))
        return consistency_loss(
            lambda noisy, sigma: self.denoise(noisy, sigma, features),
            clean_BGPKF,
            schedule=self.schedule,
            progress=progress,
            generator=generator,
        )


def joined(chunks_BGPKF: Tensor) -> Tensor:
    """The chunks one after the other in time: (B, P, K, G F)."""
    return chunks_BGPKF.permute(0, 2, 3, 1, 4).flatten(3)
