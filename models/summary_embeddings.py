"""Chunks of audio as a few summary embeddings, and summaries spread out again into features of every level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.codec_transformer import ChunkTransformer, TokenNorm
from models.patchifier import Patchifier, PatchShape, Unpatchifier

# Shapes: B batch (chunks folded in), P real and imaginary parts per channel, K frequency bins, F frames,
# L map tokens, R registers, Q summaries of a chunk, C latent width, D token width, k and f size of the deepest map.

QUERY_SIZE = 0.1  # queries start small beside what they gather, or they would be most of the latents
HEAD_GAIN = 0.5  # small enough that a fresh encoder stays in the linear part of the tanh


@dataclass(frozen=True, kw_only=True)
class ChunkGeometry:
    """What encoder, upsampler and consistency model agree on. `size` is (bins, frames) of one chunk's spectrogram."""

    patch: PatchShape
    size: tuple[int, int]
    layers: int
    heads: int
    summaries: int
    latent_width: int
    registers: int

    @property
    def width(self) -> int:
        """Token width."""
        return self.patch.channels[-1]

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of map tokens of one chunk."""
        return self.patch.tokens(*self.size)

    def transformer(self, *, chunks: int, condition_width: int | None, zero_residuals: bool) -> ChunkTransformer:
        """A transformer over [map tokens | summaries | registers] of each chunk."""
        return ChunkTransformer(
            width=self.width,
            heads=self.heads,
            layers=self.layers,
            chunks=chunks,
            tokens=math.prod(self.map_size) + self.summaries + self.registers,
            condition_width=condition_width,
            zero_residuals=zero_residuals,
        )


class SummaryEncoder(nn.Module):
    """A spectrogram chunk to Q bounded embeddings: learned queries gather what the map tokens hold (codecs.md A.2).

    Drawn: patchifier, learned tokens appended, transformer, map tokens dropped. Reported by a re-implementer: the tanh.
    Borrowed: gain per bin, registers, norm and linear map before the tanh. Ours: every start of the weights; residual
    paths are not zero here, see `ChunkTransformer`.
    """

    def __init__(self, geometry: ChunkGeometry) -> None:
        super().__init__()
        width = geometry.width
        self.summaries = geometry.summaries
        self.gain_K1 = nn.Parameter(torch.ones(geometry.size[0], 1))
        self.patchifier = Patchifier(geometry.patch, condition_width=None, zero_residuals=False)
        queries = torch.randn(geometry.summaries + geometry.registers, width)
        self.queries_QD = nn.Parameter(QUERY_SIZE * queries / math.sqrt(width))
        self.transformer = geometry.transformer(chunks=1, condition_width=None, zero_residuals=False)
        self.norm = TokenNorm(width, None)
        self.head = nn.Linear(width, geometry.latent_width)
        nn.init.xavier_uniform_(self.head.weight, gain=HEAD_GAIN)
        nn.init.zeros_(self.head.bias)

    def forward(self, chunk_BPKF: Tensor) -> Tensor:
        """Summaries (B, Q, C) in (-1, 1)."""
        maps, _ = self.patchifier(chunk_BPKF, self.gain_K1)
        map_tokens = maps.flatten(2).transpose(1, 2)
        tokens = torch.cat([map_tokens, self.queries_QD.expand(len(maps), -1, -1)], dim=1)
        tokens = self.transformer(tokens[:, None])[:, :, map_tokens.shape[1] :][:, :, : self.summaries]
        summaries: Tensor = torch.tanh(self.head(self.norm(tokens, None)[:, 0]))
        return summaries


class Upsampler(nn.Module):
    """Summaries to feature maps of every level: mask tokens ask, summaries answer, convolutions enlarge.

    The consistency model thus knows from its first layer which of all sounds it is to draw. Drawn: all of it. Borrowed:
    a mask token knows only its frequency row; registers.
    """

    def __init__(self, geometry: ChunkGeometry) -> None:
        super().__init__()
        width = geometry.width
        self.map_size = geometry.map_size
        self.masks_kD = nn.Parameter(torch.randn(self.map_size[0], width) / math.sqrt(width))
        self.registers_RD = nn.Parameter(torch.randn(geometry.registers, width) / math.sqrt(width))
        self.enter = nn.Linear(geometry.latent_width, width)
        self.transformer = geometry.transformer(chunks=1, condition_width=None, zero_residuals=False)
        self.unpatchifier = Unpatchifier(geometry.patch, condition_width=None, zero_residuals=False)

    def forward(self, summaries_BQC: Tensor) -> list[Tensor]:
        """Feature maps, shallowest first: one for every block of the consistency model's way down."""
        batch = len(summaries_BQC)
        masks_LD = self.masks_kD[:, None].expand(-1, self.map_size[1], -1).flatten(0, 1)
        tokens = torch.cat(
            [masks_LD.expand(batch, -1, -1), self.enter(summaries_BQC), self.registers_RD.expand(batch, -1, -1)], dim=1
        )
        map_tokens = self.transformer(tokens[:, None])[:, 0, : len(masks_LD)]
        outputs: list[Tensor] = self.unpatchifier(map_tokens.transpose(1, 2).unflatten(2, self.map_size))
        return outputs[::-1]
