"""The one-dimensional multi-scale U-Net of the Diff-A-Riff and +M2L2 arms, in the manner of DDPM++."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.noise_embedding import noise_embedding

# Shapes: B batch, C channels, T latent frames, M embedding width, E CLAP width.


@dataclass(frozen=True, kw_only=True)
class UNetRecipe:
    """The U-Net's sizes; `attention_levels` counts from 1, the full rate. Every level but the first halves T.

    Departure: the paper only says that it has 150 million parameters more than the transformer, about 430 million, and
    Diff-A-Riff's companion page that it follows DDPM++. The default is our design of about 424 million that divides the
    canonical 120 frames; its encoder and middle have 176 million, where the same authors report 165 elsewhere.
    """

    base: int = 384
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (2, 3, 4)
    embedding: int = 512


TINY = UNetRecipe(base=16, multipliers=(1, 2), blocks=1, attention_levels=(2,), embedding=32)
SMALL = UNetRecipe(base=128, multipliers=(1, 2, 2, 2), embedding=256)
PAPER = UNetRecipe()


class Resample(Enum):
    """What a residual block does to the time axis."""

    KEEP = "keep"
    HALVE = "halve"
    DOUBLE = "double"


class UNet(nn.Module):
    """F(features, c_noise, clap): residual blocks down, a middle with attention, and up with skips; zero untrained."""

    def __init__(self, recipe: UNetRecipe, *, in_channels: int, out_channels: int, clap_width: int) -> None:
        super().__init__()
        levels = len(recipe.multipliers)
        if not set(recipe.attention_levels) <= set(range(1, levels + 1)):
            raise ValueError(f"attention levels {recipe.attention_levels} are not all among the levels 1 to {levels}")
        self.recipe = recipe
        self.noise = nn.Linear(recipe.embedding, recipe.embedding)
        self.clap = nn.Linear(clap_width, recipe.embedding)
        self.mix = nn.Linear(recipe.embedding, recipe.embedding)
        self.enter = nn.Conv1d(in_channels, recipe.base, 3, padding=1)
        self.down, skips = _encoder(recipe)
        self.middle = _middle(recipe)
        self.up, width = _decoder(recipe, skips)
        self.norm = _norm(width)
        self.leave = nn.Conv1d(width, out_channels, 3, padding=1)
        _silence(self.leave)

    def forward(self, features_BCT: Tensor, noise_B: Tensor, clap_BE: Tensor) -> Tensor:
        """F (B, out_channels, T). T must be divisible by 2 ** (levels - 1)."""
        multiple = 2 ** (len(self.recipe.multipliers) - 1)
        if features_BCT.shape[2] % multiple:
            raise ValueError(f"this U-Net needs a multiple of {multiple} latent frames, got {features_BCT.shape[2]}")
        told_BM = self._embed(noise_B, clap_BE)
        hidden = self.enter(features_BCT)
        skips = [hidden]
        for block in self.down:
            hidden = block(hidden, told_BM)
            skips.append(hidden)
        for block in self.middle:
            hidden = block(hidden, told_BM)
        for block in self.up:
            if block.takes_skip:
                hidden = torch.cat([hidden, skips.pop()], dim=1)
            hidden = block(hidden, told_BM)
        return self.leave(functional.silu(self.norm(hidden)))

    def _embed(self, noise_B: Tensor, clap_BE: Tensor) -> Tensor:
        told_BM = functional.silu(self.noise(noise_embedding(noise_B, self.recipe.embedding)) + self.clap(clap_BE))
        return functional.silu(self.mix(told_BM))


class ResidualBlock(nn.Module):
    """Two convolutions with a scale and shift from the embedding between them, then perhaps self-attention.

    Sums are divided by sqrt(2) as in DDPM++, so that the variance does not grow with depth.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        embedding: int,
        *,
        attention: bool = False,
        resample: Resample = Resample.KEEP,
        takes_skip: bool = False,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.takes_skip = takes_skip
        self.norm1 = _norm(width_in)
        self.conv1 = nn.Conv1d(width_in, width_out, 3, padding=1)
        self.told = nn.Linear(embedding, 2 * width_out)
        self.norm2 = _norm(width_out)
        self.conv2 = nn.Conv1d(width_out, width_out, 3, padding=1)
        self.bypass = None if width_in == width_out else nn.Conv1d(width_in, width_out, 1)
        self.attention = SelfAttention(width_out) if attention else None
        _silence(self.conv2)

    def forward(self, hidden_BCT: Tensor, told_BM: Tensor) -> Tensor:
        inner = self.conv1(resampled(functional.silu(self.norm1(hidden_BCT)), self.resample))
        scale, shift = self.told(told_BM)[:, :, None].chunk(2, dim=1)
        inner = self.conv2(functional.silu(torch.addcmul(shift, self.norm2(inner), 1 + scale)))
        kept = resampled(hidden_BCT, self.resample)
        kept = kept if self.bypass is None else self.bypass(kept)
        out = (kept + inner) * sqrt(0.5)
        return out if self.attention is None else self.attention(out)


class SelfAttention(nn.Module):
    """Single-head attention over time with its residual, as in DDPM++; the identity (times sqrt 1/2) untrained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.project = nn.Conv1d(width, 3 * width, 1)
        self.leave = nn.Conv1d(width, width, 1)
        _silence(self.leave)

    def forward(self, hidden_BCT: Tensor) -> Tensor:
        query, key, value = self.project(self.norm(hidden_BCT)).transpose(1, 2).chunk(3, dim=2)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
        return (hidden_BCT + self.leave(mixed)) * sqrt(0.5)


def resampled(hidden_BCT: Tensor, resample: Resample) -> Tensor:
    """The same signal at the same, half (pairs averaged) or double (repeated) rate."""
    match resample:
        case Resample.HALVE:
            return functional.avg_pool1d(hidden_BCT, 2)
        case Resample.DOUBLE:
            return hidden_BCT.repeat_interleave(2, dim=2)
    return hidden_BCT


def _encoder(recipe: UNetRecipe) -> tuple[nn.ModuleList, list[int]]:
    """The blocks from full to lowest rate, and the width of the skip that each leaves (the entry's first)."""
    blocks, skips = nn.ModuleList(), [recipe.base]
    for level, multiplier in enumerate(recipe.multipliers, start=1):
        if level > 1:
            blocks.append(ResidualBlock(skips[-1], skips[-1], recipe.embedding, resample=Resample.HALVE))
            skips.append(skips[-1])
        for _ in range(recipe.blocks):
            width, attention = multiplier * recipe.base, level in recipe.attention_levels
            blocks.append(ResidualBlock(skips[-1], width, recipe.embedding, attention=attention))
            skips.append(width)
    return blocks, skips


def _middle(recipe: UNetRecipe) -> nn.ModuleList:
    width = recipe.multipliers[-1] * recipe.base
    return nn.ModuleList(
        ResidualBlock(width, width, recipe.embedding, attention=attention) for attention in (True, False)
    )


def _decoder(recipe: UNetRecipe, skips: list[int]) -> tuple[nn.ModuleList, int]:
    """The blocks from lowest to full rate, one more a level than the encoder's, and the width they end with."""
    blocks, left = nn.ModuleList(), list(skips)
    width = skips[-1]
    for level in range(len(recipe.multipliers), 0, -1):
        if level < len(recipe.multipliers):
            blocks.append(ResidualBlock(width, width, recipe.embedding, resample=Resample.DOUBLE))
        for index in range(recipe.blocks + 1):
            wider, width = width + left.pop(), recipe.multipliers[level - 1] * recipe.base
            attention = level in recipe.attention_levels and index == recipe.blocks
            blocks.append(ResidualBlock(wider, width, recipe.embedding, attention=attention, takes_skip=True))
    return blocks, width


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, channels // 4), channels, eps=1e-6)


def _silence(layer: nn.Conv1d) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None  # every convolution here is built with one
    nn.init.zeros_(layer.bias)
