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


@dataclass(frozen=True, kw_only=True)
class PretrainedMusic2LatentRecipe:
    """The released mono codec; it is not fitted. Weights come from `models.quarantine.read_checkpoint`."""

    accept_noncommercial: bool = False


class PretrainedMusic2Latent(nn.Module):
    """Sony CSL's Music2Latent, package 0.1.8: mono, one vector of 64 per 4,096 samples, decoded in one step.

    The package's own wrapper is passed by: it calls its hub even for a local file, crops the tail, fades the edges
    and takes neither batches nor seeds.
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
        latent_BCT = self.network.get_submodule("encoder")(parts_BPKF) / LATENT_SCALE
        return LatentClip(latent_BCT, audio_BSN.shape[-1])

    @torch.no_grad()
    def decode(self, clip: LatentClip, *, generators: list[torch.Generator]) -> Tensor:
        """Mono audio (B, 1, samples) in [-1, 1]."""
        latent_BCT = checked_latents(clip, self.spec, generators) * LATENT_SCALE
        bins = self.stft.framing.window_W.shape[0] // 2
        shape = (2, bins, latent_BCT.shape[-1] * FRAMES_PER_LATENT)
        noise_BPKF = SIGMA_MAX * seeded_noise(shape, generators, latent_BCT)
        parts_BPKF = self.network(latent_BCT, noise_BPKF, SIGMA_MAX)
        return self.stft.audio(parts_BPKF)[..., : clip.samples].clamp(-1, 1)
