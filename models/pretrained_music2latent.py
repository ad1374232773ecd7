"""The quarantine of the `music2latent` package: its network, our framing, exact lengths and seeds (codecs.md B)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.codec import CodecSpec, LatentClip, checked_latents, seeded_noise, whole_chunks
from models.codec_consistency import SIGMA_MAX
from models.quarantine import process_unchanged, require_acceptance
from models.stft import PowerStft

# Shapes: B batch, S audio channels, N samples, P real and imaginary parts, K frequency bins, F frames,
# C latent width, T latent frames.

LATENT_SCALE = 0.06  # the released codec divides its latents by this, which brings them near unit variance
FRAMES_PER_LATENT = 8
CHUNKS_PER_PASS = 16  # at least the canonical window's 15: memory does not grow with the clip


@dataclass(frozen=True, kw_only=True)
class PretrainedMusic2LatentRecipe:
    """The released mono codec; it is not fitted. Weights come from `models.quarantine.read_checkpoint`."""

    accept_noncommercial: bool = False


class PretrainedMusic2Latent(nn.Module):
    """Sony CSL's Music2Latent, package 0.1.8: mono, one vector of 64 per 4,096 samples, decoded in one step.

    The package's own wrapper is passed by: it calls its hub even for a local file, crops the tail, fades the edges
    and takes neither batches nor seeds. Like it, clips longer than one pass are cut into stretches that do not see
    each other (the package's are of 60 s).
    """

    def __init__(
        self, recipe: PretrainedMusic2LatentRecipe, state: dict[str, Tensor], weights_sha256: str = ""
    ) -> None:
        super().__init__()
        require_acceptance("music2latent", recipe.accept_noncommercial)
        with process_unchanged():
            self.network: nn.Module = importlib.import_module("music2latent.models").UNet()
        self.network.load_state_dict(state)
        self.network.eval()
        self.stft = PowerStft(window_samples=2048, hop_samples=512, of_modulus=True)
        self.spec = CodecSpec(
            name="music2latent-0.1.8",
            audio_channels=1,
            ordering="time",
            licence="CC-BY-NC-4.0",
            noncommercial=True,
            weights_sha256=weights_sha256,
        )

    @torch.no_grad()
    def encode(self, audio_BSN: Tensor) -> LatentClip:
        """Latents (B, 64, T), scaled as released, of the channels' mean padded to whole chunks."""
        parts_BPKF = self.stft.represent(whole_chunks(audio_BSN, self.spec))
        encoder = self.network.get_submodule("encoder")
        stretches = parts_BPKF.split(CHUNKS_PER_PASS * self.spec.tokens_per_chunk * FRAMES_PER_LATENT, dim=-1)
        latent_BCT = torch.cat([encoder(part_BPKF) for part_BPKF in stretches], dim=-1) / LATENT_SCALE
        return LatentClip(latent_BCT, audio_BSN.shape[-1])

    @torch.no_grad()
    def decode(self, clip: LatentClip, *, generators: list[torch.Generator]) -> Tensor:
        """Mono audio (B, 1, samples) in [-1, 1]."""
        latent_BCT = checked_latents(clip, self.spec, generators) * LATENT_SCALE
        bins = self.stft.framing.window_W.shape[0] // 2
        shape = (2, bins, latent_BCT.shape[-1] * FRAMES_PER_LATENT)
        noise_BPKF = SIGMA_MAX * seeded_noise(shape, generators, latent_BCT)
        latents = CHUNKS_PER_PASS * self.spec.tokens_per_chunk
        stretches = zip(
            latent_BCT.split(latents, dim=-1), noise_BPKF.split(latents * FRAMES_PER_LATENT, dim=-1), strict=True
        )
        parts_BPKF = torch.cat([self.network(told, noise, SIGMA_MAX) for told, noise in stretches], dim=-1)
        return self.stft.audio(parts_BPKF)[..., : clip.samples].clamp(-1, 1)
