"""Convolutional patchifiers: spectrogram chunks to feature maps of token width and back, level by level.

Music2Latent2's figures draw them and name nothing of their inside. Borrowed from CoDiCodec: blocks, levels, strides,
the fixed path beside each learned one. Ours: how weights start where they are not zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

# Shapes: B batch (chunks folded in), P real and imaginary parts per channel, C channels of a level,
# K frequency bins of a level, F frames of a level, E noise embedding width.


@dataclass(frozen=True, kw_only=True)
class PatchShape:
    """The levels of a patchifier, from the full spectrogram down to tokens.

    `strides` holds (frequency, time) between consecutive levels; `depths` counts the blocks of each level.
    """

    parts: int
    channels: tuple[int, ...]
    depths: tuple[int, ...]
    strides: tuple[tuple[int, int], ...]

    def tokens(self, bins: int, frames: int) -> tuple[int, int]:
        """Size (frequency, time) of the deepest map for a spectrogram of this size."""
        return bins // math.prod(s[0] for s in self.strides), frames // math.prod(s[1] for s in self.strides)


def start(convolution: nn.Conv2d | nn.ConvTranspose2d, *, zero: bool) -> None:
    """Zero weights, or weights that keep the variance of what comes in.

    torch's own start shrinks it by three per layer, and the latents of different sounds start three times nearer.
    """
    if zero:
        nn.init.zeros_(convolution.weight)
    else:
        terms = convolution.in_channels  # one place of a transposed kernel meets each input
        if isinstance(convolution, nn.Conv2d):
            terms *= math.prod(convolution.kernel_size)
        nn.init.normal_(convolution.weight, std=terms**-0.5)


class ScaledGroupNorm(nn.Module):
    """Group norm without bias; its scale is learned, or 1 + a zero-initialised map of the noise embedding."""

    def __init__(self, channels: int, condition_width: int | None = None) -> None:
        super().__init__()
        self.groups = max(1, min(channels // 4, 32))
        if condition_width is None:
            self.scale: nn.Parameter | None = nn.Parameter(torch.ones(channels))
        else:
            self.scale = None
            self.from_noise = nn.Linear(condition_width, channels)
            nn.init.zeros_(self.from_noise.weight)
            nn.init.zeros_(self.from_noise.bias)

    def forward(self, maps_BCKF: Tensor, noise_BE: Tensor | None = None) -> Tensor:
        """Normalised maps."""
        normal = functional.group_norm(maps_BCKF, self.groups)
        if self.scale is not None:
            return normal * self.scale[:, None, None]
        return normal * (1 + self.from_noise(noise_BE)[:, :, None, None])


class ConvBlock(nn.Module):
    """x + conv(SiLU(conv(norm(x)))): 3 × 3, no bias."""

    def __init__(self, channels: int, condition_width: int | None, *, zero_residuals: bool) -> None:
        super().__init__()
        self.norm = ScaledGroupNorm(channels, condition_width)
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        start(self.first, zero=False)
        start(self.second, zero=zero_residuals)

    def forward(self, maps_BCKF: Tensor, noise_BE: Tensor | None = None) -> Tensor:
        """Maps of the same shape."""
        inner = functional.silu(self.first(self.norm(maps_BCKF, noise_BE)))
        out: Tensor = maps_BCKF + self.second(inner)
        return out


class Down(nn.Module):
    """Averages over the stride with channels repeated, plus a learned strided convolution."""

    def __init__(self, channels: int, out_channels: int, stride: tuple[int, int], *, zero_residuals: bool) -> None:
        super().__init__()
        self.stride, self.repeat = stride, out_channels // channels
        self.norm = ScaledGroupNorm(channels)
        self.convolution = nn.Conv2d(channels, out_channels, stride, stride, bias=False)
        start(self.convolution, zero=zero_residuals)

    def forward(self, maps_BCKF: Tensor) -> Tensor:
        """Maps of the next deeper level."""
        mean = functional.avg_pool2d(maps_BCKF, self.stride).repeat_interleave(self.repeat, dim=1)
        out: Tensor = mean + self.convolution(self.norm(maps_BCKF))
        return out


class Up(nn.Module):
    """Repeats over the stride with groups of channels averaged, plus a learned transposed convolution."""

    def __init__(self, channels: int, out_channels: int, stride: tuple[int, int], *, zero_residuals: bool) -> None:
        super().__init__()
        self.stride, self.group = stride, channels // out_channels
        self.norm = ScaledGroupNorm(channels)
        self.convolution = nn.ConvTranspose2d(channels, out_channels, stride, stride, bias=False)
        start(self.convolution, zero=zero_residuals)

    def forward(self, maps_BCKF: Tensor) -> Tensor:
        """Maps of the next shallower level."""
        mean = maps_BCKF.unflatten(1, (-1, self.group)).mean(dim=2)
        repeated = functional.interpolate(mean, scale_factor=[float(s) for s in self.stride], mode="nearest")
        out: Tensor = repeated + self.convolution(self.norm(maps_BCKF))
        return out


class Patchifier(nn.Module):
    """Spectrogram chunks to the deepest maps, with the output of every block for those who want it."""

    def __init__(self, shape: PatchShape, *, condition_width: int | None, zero_residuals: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(shape.parts, shape.channels[0], 3, padding=1)
        start(self.enter, zero=False)
        self.levels = nn.ModuleList(
            nn.ModuleList(ConvBlock(channels, condition_width, zero_residuals=zero_residuals) for _ in range(depth))
            for channels, depth in zip(shape.channels, shape.depths, strict=True)
        )
        self.downs = nn.ModuleList(
            Down(*pair, stride, zero_residuals=zero_residuals)
            for pair, stride in zip(zip(shape.channels, shape.channels[1:], strict=False), shape.strides, strict=True)
        )

    def forward(
        self,
        chunk_BPKF: Tensor,
        gain_BPK1: Tensor,
        *,
        noise_BE: Tensor | None = None,
        crosses: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The deepest maps and each block's output; `crosses` holds what enters before each block."""
        maps = self.enter(chunk_BPKF) * gain_BPK1
        outputs: list[Tensor] = []
        for level, blocks in enumerate(self.levels):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                if crosses is not None:
                    maps = (maps + crosses[len(outputs)]) / math.sqrt(2)
                maps = block(maps, noise_BE)
                outputs.append(maps)
            if level < len(self.downs):
                maps = self.downs[level](maps)
        return maps, outputs


class Unpatchifier(nn.Module):
    """The deepest maps back up to full resolution; with a head, to a spectrogram chunk."""

    def __init__(self, shape: PatchShape, *, condition_width: int | None, zero_residuals: bool) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.ModuleList(ConvBlock(channels, condition_width, zero_residuals=zero_residuals) for _ in range(depth))
            for channels, depth in zip(shape.channels[::-1], shape.depths[::-1], strict=True)
        )
        self.ups = nn.ModuleList(
            Up(*pair, stride, zero_residuals=zero_residuals)
            for pair, stride in zip(
                zip(shape.channels[::-1], shape.channels[-2::-1], strict=False), shape.strides[::-1], strict=True
            )
        )

    def forward(
        self, maps: Tensor, *, noise_BE: Tensor | None = None, skips: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Each block's output, deepest first; `skips` holds what enters before each block, in the same order."""
        outputs: list[Tensor] = []
        for level, blocks in enumerate(self.levels):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                if skips is not None:
                    maps = (maps + skips[len(outputs)]) / math.sqrt(2)
                maps = block(maps, noise_BE)
                outputs.append(maps)
            if level < len(self.ups):
                maps = self.ups[level](maps)
        return outputs
