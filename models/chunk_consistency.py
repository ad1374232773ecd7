"""The consistency model over consecutive chunks: a chunk is drawn from its features and from the chunk before it."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from models.codec_consistency import BinGain, NoiseEmbedding, preconditioned, zeroed
from models.patchifier import Patchifier, ScaledGroupNorm, Unpatchifier
from models.summary_embeddings import ChunkGeometry

# Shapes: B batch, G chunks seen together (1 or 2), P real and imaginary parts per channel, K frequency bins,
# F frames of a chunk, L map tokens, Q summaries, C latent width, D token width.


class ChunkConsistencyModel(nn.Module):
    """f(noisy chunks, their noise levels; features): every chunk denoised, the left one blind to the right.

    Patchifier with cross-connections at every level, transformer over [map | summaries | registers] of up to two
    chunks, unpatchifier with skips. Zero-initialised residuals, modulation and head: at first f is c_skip x.

    Drawn: patchifier, cross-connections, causal mask over adjacent chunks, unpatchifier. Borrowed: summaries (which the
    drawing leaves out) and registers in the transformer, skips, gains, scaled norms, sums over sqrt 2, the zero start.
    """

    def __init__(self, geometry: ChunkGeometry, *, condition_width: int) -> None:
        super().__init__()
        shape, width = geometry.patch, geometry.width
        self.map_size = geometry.map_size
        self.noise = NoiseEmbedding(condition_width, layers=3)
        self.gain_in = BinGain(bins=geometry.size[0], condition_width=condition_width)
        self.gain_out = BinGain(bins=geometry.size[0], condition_width=condition_width)
        self.patchifier = Patchifier(shape, condition_width=condition_width, zero_residuals=True)
        self.enter = nn.Linear(geometry.latent_width, width)
        self.registers_RD = nn.Parameter(torch.randn(geometry.registers, width) / math.sqrt(width))
        self.transformer = geometry.transformer(chunks=2, condition_width=condition_width, zero_residuals=True)
        self.unpatchifier = Unpatchifier(shape, condition_width=condition_width, zero_residuals=True)
        self.leave_norm = ScaledGroupNorm(shape.channels[0])
        self.leave = cast(nn.Conv2d, zeroed(nn.Conv2d(shape.channels[0], shape.parts, 3, padding=1)))

    def forward(
        self, noisy_BGPKF: Tensor, sigma_BG: Tensor, *, summaries_BGQC: Tensor, crosses: list[Tensor]
    ) -> Tensor:
        """Denoised chunks; `crosses` are the upsampler's features of the same chunks, chunks folded into the batch."""

        def network(scaled_BGPKF: Tensor, levels_BG: Tensor) -> Tensor:
            return self._network(scaled_BGPKF, levels_BG, summaries_BGQC, crosses)

        return preconditioned(network, noisy_BGPKF, sigma_BG)

    def _network(self, scaled_BGPKF: Tensor, sigma_BG: Tensor, summaries_BGQC: Tensor, crosses: list[Tensor]) -> Tensor:
        """F of the scaled input."""
        chunks = scaled_BGPKF.shape[:2]
        sines = self.noise.sines(sigma_BG.flatten())
        noise = self.noise(sigma_BG.flatten())
        maps, outputs = self.patchifier(
            scaled_BGPKF.flatten(0, 1), self.gain_in(sines), noise_BE=noise, crosses=crosses
        )
        map_tokens = maps.flatten(2).transpose(1, 2).unflatten(0, chunks)
        registers = self.registers_RD.expand(*chunks, -1, -1)
        tokens = torch.cat([map_tokens, self.enter(summaries_BGQC), registers], dim=2)
        tokens = self.transformer(tokens, noise.unflatten(0, chunks))[:, :, : map_tokens.shape[2]]
        maps = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, self.map_size)
        maps = self.unpatchifier(maps, noise_BE=noise, skips=outputs[::-1])[-1]
        maps = nn.functional.silu(self.leave_norm(maps)) * self.gain_out(sines)
        parts: Tensor = self.leave(maps).unflatten(0, chunks)
        return parts
