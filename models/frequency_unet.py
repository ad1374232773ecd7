"""The networks of the mono codec: convolutions over the spectrogram, attention along frequency (codecs.md A.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.codec_consistency import BinGain, NoiseEmbedding, zeroed

# Shapes: B batch, P real and imaginary parts, C channels, K frequency bins, F frames, T latent frames,
# H heads, E noise embedding width.


@dataclass(frozen=True, kw_only=True)
class PyramidShape:
    """Levels from the full spectrogram down; `attends` along frequency or not, `strides` as (frequency, time)."""

    parts: int
    bins: int
    channels: tuple[int, ...]
    attends: tuple[bool, ...]
    strides: tuple[tuple[int, int], ...]

    @property
    def deepest_bins(self) -> int:
        """Frequency rows of the deepest level."""
        return self.bins // math.prod(stride[0] for stride in self.strides)


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with the codec's number of groups."""
    return nn.GroupNorm(max(1, min(channels // 4, 32)), channels)


class FrequencyAttention(nn.Module):
    """Attention among the frequency rows of one frame, added to its input."""

    def __init__(self, channels: int, *, zero_residuals: bool, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)
        if zero_residuals:
            zeroed(self.to_out)

    def forward(self, maps_BCKF: Tensor) -> Tensor:
        """Maps of the same shape."""
        rows = self.norm(maps_BCKF).permute(0, 3, 2, 1)
        qkv = self.to_qkv(rows).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
        seen = functional.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2)
        return maps_BCKF + self.to_out(seen).unflatten(0, rows.shape[:2]).permute(0, 3, 2, 1)


class ResBlock(nn.Module):
    """Two 3 × 3 convolutions around the noise level, and attention along frequency where the level has it."""

    def __init__(
        self, channels: int, *, attends: bool, condition_width: int | None = None, zero_residuals: bool = False
    ) -> None:
        super().__init__()
        self.first = nn.Sequential(group_norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        self.second = nn.Sequential(group_norm(channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        if zero_residuals:
            zeroed(cast(nn.Conv2d, self.second[-1]))
        self.from_noise = None if condition_width is None else zeroed(nn.Linear(condition_width, channels))
        self.attention = FrequencyAttention(channels, zero_residuals=zero_residuals) if attends else None

    def forward(self, maps_BCKF: Tensor, noise_BE: Tensor | None = None) -> Tensor:
        """Maps of the same shape."""
        inner = self.first(maps_BCKF)
        if self.from_noise is not None:
            inner = inner + self.from_noise(noise_BE)[:, :, None, None]
        maps_BCKF = maps_BCKF + self.second(inner)
        return maps_BCKF if self.attention is None else self.attention(maps_BCKF)


class ResBlock1d(nn.Module):
    """Two convolutions over latent frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            group_norm(channels),
            nn.SiLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
            group_norm(channels),
            nn.SiLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
        )

    def forward(self, frames_BCT: Tensor) -> Tensor:
        """Frames of the same shape."""
        out: Tensor = frames_BCT + self.body(frames_BCT)
        return out


def down(channels: int, out_channels: int, stride: tuple[int, int], *, normed: bool) -> nn.Sequential:
    """A strided convolution to the next deeper level."""
    convolution = nn.Conv2d(channels, out_channels, _kernel(stride), stride, padding=_padding(stride))
    return nn.Sequential(group_norm(channels) if normed else nn.Identity(), convolution)


def up(channels: int, out_channels: int, stride: tuple[int, int]) -> nn.Sequential:
    """Repetition and a convolution to the next shallower level."""
    scale = (float(stride[0]), float(stride[1]))
    convolution = nn.Conv2d(channels, out_channels, _kernel(stride), padding=_padding(stride))
    return nn.Sequential(nn.Upsample(scale_factor=scale, mode="nearest"), convolution)


def _kernel(stride: tuple[int, int]) -> tuple[int, int]:
    """One more than the stride where there is one: 5 × 1 for 4 × 1 and 3 × 3 for 2 × 2."""
    return stride[0] + (stride[0] > 1), stride[1] + (stride[1] > 1)


def _padding(stride: tuple[int, int]) -> tuple[int, int]:
    return _kernel(stride)[0] // 2, _kernel(stride)[1] // 2


class SpectrogramEncoder(nn.Module):
    """A spectrogram of any length to bounded latents, one per 8 frames; its residual paths start non-zero."""

    def __init__(self, shape: PyramidShape, *, latent_width: int, inner_width: int, inner_layers: int) -> None:
        super().__init__()
        channels = shape.channels
        self.enter = nn.Conv2d(shape.parts, channels[0], 3, padding=1)
        self.gain_K1 = nn.Parameter(torch.ones(shape.bins, 1))
        steps: list[nn.Module] = []
        for level, width in enumerate(channels):
            steps.append(ResBlock(width, attends=shape.attends[level]))
            if level < len(shape.strides):
                steps.append(down(width, channels[level + 1], shape.strides[level], normed=True))
        self.levels = nn.Sequential(*steps, group_norm(channels[-1]), nn.Flatten(1, 2))
        self.inner = nn.Sequential(
            nn.Conv1d(channels[-1] * shape.deepest_bins, inner_width, 1),
            *(ResBlock1d(inner_width) for _ in range(inner_layers)),
            group_norm(inner_width),
            nn.SiLU(),
            nn.Conv1d(inner_width, latent_width, 1),
        )

    def forward(self, parts_BPKF: Tensor) -> Tensor:
        """Latents (B, C, T) in (-1, 1)."""
        return torch.tanh(self.inner(self.levels(self.enter(parts_BPKF) * self.gain_K1)))


class LatentPyramid(nn.Module):
    """Latents to feature maps of every level: the encoder mirrored."""

    def __init__(self, shape: PyramidShape, *, latent_width: int, inner_width: int, inner_layers: int) -> None:
        super().__init__()
        self.deepest = (shape.channels[-1], shape.deepest_bins)
        self.inner = nn.Sequential(
            nn.Conv1d(latent_width, inner_width, 1),
            *(ResBlock1d(inner_width) for _ in range(inner_layers)),
            nn.Conv1d(inner_width, math.prod(self.deepest), 1),
        )
        blocks = (
            ResBlock(width, attends=attends) for width, attends in zip(shape.channels, shape.attends, strict=True)
        )
        self.blocks = nn.ModuleList(list(blocks)[::-1])
        pairs = list(zip(shape.channels[1:], shape.channels[:-1], shape.strides, strict=True))[::-1]
        self.ups = nn.ModuleList(up(*pair) for pair in pairs)

    def forward(self, latent_BCT: Tensor) -> list[Tensor]:
        """Feature maps (B, C, K, F) of every level, shallowest first."""
        maps = self.inner(latent_BCT).unflatten(1, self.deepest)
        levels = [self.blocks[0](maps)]
        for enlarge, block in zip(self.ups, self.blocks[1:], strict=False):
            levels.append(block(enlarge(levels[-1])))
        return levels[::-1]


class ConsistencyUNet(nn.Module):
    """F of the consistency model: a U-Net told the noise level and, before every block, the pyramid's level."""

    def __init__(self, shape: PyramidShape, *, depths: tuple[int, ...], condition_width: int) -> None:
        super().__init__()
        self.noise = NoiseEmbedding(condition_width, layers=2)
        self.gain_in = BinGain(bins=shape.bins, condition_width=condition_width)
        self.gain_out = BinGain(bins=shape.bins, condition_width=condition_width)
        self.enter = nn.Conv2d(shape.parts, shape.channels[0], 3, padding=1)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                nn.ModuleList(
                    _InformedBlock(width, attends=attends, condition_width=condition_width) for _ in range(depth)
                )
                for width, attends, depth in zip(shape.channels, shape.attends, depths, strict=True)
            )

        self.down_blocks, self.up_blocks = blocks(), blocks()
        pairs = list(zip(shape.channels[:-1], shape.channels[1:], shape.strides, strict=True))
        self.downs = nn.ModuleList(down(*pair, normed=False) for pair in pairs)
        self.ups = nn.ModuleList(up(deep, shallow, stride) for shallow, deep, stride in pairs)
        self.leave_feature = nn.Conv2d(shape.channels[0], shape.channels[0], 1)
        self.leave_norm = group_norm(shape.channels[0])
        self.leave = zeroed(nn.Conv2d(shape.channels[0], shape.parts, 3, padding=1))

    def forward(self, scaled_BPKF: Tensor, sigma_B: Tensor, pyramid: list[Tensor]) -> Tensor:
        """F (B, P, K, F) of the scaled spectrogram."""
        sines, noise = self.noise.sines(sigma_B), self.noise(sigma_B)
        maps = self.enter(scaled_BPKF) * self.gain_in(sines)
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.down_blocks):
            for block in cast(nn.ModuleList, blocks):
                maps = block(maps, noise, [pyramid[level]])
                skips.append(maps)
            if level < len(self.downs):
                maps = self.downs[level](maps)
        for level in reversed(range(len(pyramid))):
            for block in cast(nn.ModuleList, self.up_blocks[level]):
                maps = block(maps, noise, [pyramid[level], skips.pop()])
            if level:
                maps = self.ups[level - 1](maps)
        maps = (maps + self.leave_feature(pyramid[0])) / math.sqrt(2)
        out: Tensor = self.leave(functional.silu(self.leave_norm(maps)) * self.gain_out(sines))
        return out


class _InformedBlock(nn.Module):
    """A residual block of the U-Net that first takes in the pyramid's map, and on the way up a skip."""

    def __init__(self, channels: int, *, attends: bool, condition_width: int) -> None:
        super().__init__()
        self.from_feature = nn.Conv2d(channels, channels, 1)
        self.block = ResBlock(channels, attends=attends, condition_width=condition_width, zero_residuals=True)

    def forward(self, maps_BCKF: Tensor, noise_BE: Tensor, others: list[Tensor]) -> Tensor:
        """Maps of the same shape; sums keep unit variance."""
        feature, *skips = others
        total = maps_BCKF + self.from_feature(feature) + sum(skips)
        out: Tensor = self.block(total / math.sqrt(1 + len(others)), noise_BE)
        return out
