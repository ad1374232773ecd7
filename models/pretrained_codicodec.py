"""The quarantine of the `codicodec` package: its network, our framing, exact lengths and seeds (codecs.md A.3, B)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.codec import CodecSpec, LatentClip, checked_latents, whole_chunks
from models.quarantine import process_unchanged, require_acceptance, seeded_process
from models.stft import PowerStft

# Shapes: B batch, G chunks, S audio channels, N samples, P real and imaginary parts per channel, K frequency bins,
# F frames of a chunk, L latents of a chunk as the network has them, V values of each, Q tokens, C latent width,
# T = G Q latent frames.

LATENT_SCALE = 0.8  # the released codec hands out atanh(z) / 0.8, which is near unit variance
TOKENS, VALUES = 128, 4  # a chunk inside the network; outside it is 8 × 64 of the same numbers
CHUNKS_PER_PASS = 16  # even, and at least the canonical window's 15: memory does not grow with the clip


@dataclass(frozen=True, kw_only=True)
class PretrainedCoDiCodecRecipe:
    """The released stereo codec; it is not fitted. Weights come from `models.quarantine.read_checkpoint`."""

    accept_noncommercial: bool = False
    denoising_steps: int = 5  # the package's own default for parallel decoding


class PretrainedCoDiCodec(nn.Module):
    """Sony CSL's CoDiCodec, package 0.1.2: stereo, 8 vectors of 64 per 32,768 samples, decoded in parallel.

    The package's wrapper is passed by: it calls its hub even for a local file, fades the edges, autocasts to
    float16 on the CPU and takes no seed.
    """

    def __init__(self, recipe: PretrainedCoDiCodecRecipe, state: dict[str, Tensor], weights_sha256: str = "") -> None:
        super().__init__()
        require_acceptance("codicodec", recipe.accept_noncommercial)
        self.recipe = recipe
        with process_unchanged():
            # Untyped on purpose: the network's two methods below belong to a package without types.
            self.network: Any = importlib.import_module("codicodec.models").UNet()
        self.network.load_state_dict(state)
        self.network.eval()
        self.stft = PowerStft(window_samples=2048, hop_samples=1024, of_modulus=False)
        self.spec = CodecSpec(
            name="codicodec-0.1.2",
            audio_channels=2,
            ordering="set",
            licence="CC-BY-NC-4.0",
            noncommercial=True,
            weights_sha256=weights_sha256,
        )

    @torch.no_grad()
    def encode(self, audio_BSN: Tensor) -> LatentClip:
        """Continuous latents (B, 64, 8 per chunk), scaled as released."""
        parts_BPKF = self.stft.represent(whole_chunks(audio_BSN, self.spec))
        frames = self.spec.chunk_samples // self.stft.framing.hop_samples
        chunks = parts_BPKF.unflatten(-1, (-1, frames)).permute(0, 3, 1, 2, 4)
        passes = chunks.flatten(0, 1).split(CHUNKS_PER_PASS)
        bounded = torch.cat([self.network.encoder_forward(part, dont_quantize=True) for part in passes])
        latent_BTC = (torch.atanh(bounded) / LATENT_SCALE).reshape(len(audio_BSN), -1, self.spec.latent_width)
        return LatentClip(latent_BTC.transpose(1, 2).contiguous(), audio_BSN.shape[-1])

    @torch.no_grad()
    def decode(self, clip: LatentClip, *, generators: list[torch.Generator]) -> Tensor:
        """Stereo audio (B, 2, samples) in [-1, 1]; one item at a time, because the network draws its own noise."""
        latent_BCT = checked_latents(clip, self.spec, generators)
        bounded = torch.tanh(latent_BCT.transpose(1, 2) * LATENT_SCALE).reshape(len(latent_BCT), -1, VALUES)
        parts = [self._draw(*item) for item in zip(bounded, generators, strict=True)]
        return self.stft.audio(torch.stack(parts))[..., : clip.samples].clamp(-1, 1)

    def _draw(self, bounded_LV: Tensor, generator: torch.Generator) -> Tensor:
        """Spectrogram (P, K, G F) of one item, at most `CHUNKS_PER_PASS` chunks in the network at once.

        Departure: the package denoises all pairs of a clip together; here a stretch does not see the one before it.
        """
        with seeded_process(generator, bounded_LV.device):
            stretches = [self._draw_stretch(part) for part in bounded_LV.split(CHUNKS_PER_PASS * TOKENS)]
        return torch.cat(stretches, dim=-1)

    def _draw_stretch(self, bounded_LV: Tensor) -> Tensor:
        """Spectrogram of some chunks; the network denoises pairs of chunks, so an odd one gets a dummy."""
        even = functional.pad(bounded_LV, (0, 0, 0, -len(bounded_LV) % (2 * TOKENS)))
        frames = len(bounded_LV) // TOKENS * self.spec.chunk_samples // self.stft.framing.hop_samples
        parts: Tensor = self.network.decode_single_parallel(even[None], self.recipe.denoising_steps)
        return parts[0, ..., :frames]
