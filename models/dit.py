"""The diffusion transformer of the +DiT, +CLAP_beta and C-DiT arms (paper §4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.noise_embedding import noise_embedding

# Shapes: B batch, C channels, T latent frames, N tokens, D model width, H heads, R width of one head, M noise width,
# E CLAP width.

ROTARY_PERIOD = 10_000.0  # RoPE (Su et al. 2021)

Rotation = tuple[Tensor, Tensor]


class Mlp(Enum):
    """The feed-forward half of a block; both have the same number of parameters, within a few in a thousand."""

    GELU = "gelu"
    """down(GELU(up h)), `mlp_ratio` times as wide inside: the paper states the ratio, the tanh form of GELU is ours."""
    SWIGLU = "swiglu"
    """down(SiLU(a) b) with a, b = up h (Shazeer 2020), two thirds as wide inside."""


@dataclass(frozen=True, kw_only=True)
class DiTRecipe:
    """The transformer's sizes; the defaults are the paper's, 285,124,160 parameters with a 512-wide CLAP.

    `frames_per_token` latent frames are stacked into one token: 1 in the paper, more on a small machine. `slots`
    adds a learned embedding of the token's place in a codec chunk of that many tokens, for codecs whose tokens are
    an unordered set; None, the paper's, adds none. `learned_positions` is a table of so many tokens, added at the
    entrance, in place of rotary positions; None, our default, has those.
    """

    width: int = 1024
    layers: int = 18
    heads: int = 4
    mlp_ratio: int = 4
    noise_width: int = 512
    frames_per_token: int = 1
    slots: int | None = None
    mlp: Mlp = Mlp.GELU
    learned_positions: int | None = None


TINY = DiTRecipe(width=32, layers=2, heads=2, noise_width=32, frames_per_token=4)
SMALL = DiTRecipe(width=512, layers=12, heads=4, noise_width=512)
PAPER = DiTRecipe()


class DiT(nn.Module):
    """F(features, c_noise, clap): AdaLN-Zero transformer over time, zero before training.

    Departure: the paper does not say how CLAP enters nor how positions are told. Of the usual forms of AdaLN only six
    values a block straight from the 512-wide noise embedding give its "around 280 million" parameters; that a
    projected CLAP embedding is added to it, and not a token of its own, is ours. Positions are rotary by default,
    queries and keys are RMS-normalised: neither has parameters.
    """

    def __init__(self, recipe: DiTRecipe, *, in_channels: int, out_channels: int, clap_width: int) -> None:
        super().__init__()
        if recipe.width % (2 * recipe.heads):
            raise ValueError(f"width {recipe.width} does not divide into {recipe.heads} heads of even width")
        self.recipe = recipe
        width, stacked = recipe.width, recipe.frames_per_token
        self.enter = nn.Linear(in_channels * stacked, width)
        self.clap = nn.Linear(clap_width, recipe.noise_width)
        self.slots = _learned_table(recipe.slots, width)
        self.positions = _learned_table(recipe.learned_positions, width)
        self.blocks = nn.ModuleList(Block(recipe) for _ in range(recipe.layers))
        self.final_modulation = nn.Linear(recipe.noise_width, 2 * width)
        self.leave = nn.Linear(width, out_channels * stacked)
        for layer in (self.enter, self.clap):
            _xavier(layer)
        for layer in (self.final_modulation, self.leave):
            _zero(layer)

    def forward(self, features_BCT: Tensor, noise_B: Tensor, clap_BE: Tensor) -> Tensor:
        """F (B, out_channels, T). T must be a whole number of tokens."""
        told_BM = functional.silu(noise_embedding(noise_B, self.recipe.noise_width) + self.clap(clap_BE))
        hidden_BND, rotation = self._placed(self.enter(self._tokens(features_BCT)))
        for block in self.blocks:
            hidden_BND = block(hidden_BND, told_BM, rotation)
        shift, scale = self.final_modulation(told_BM)[:, None].chunk(2, dim=-1)
        return self._frames(self.leave(modulated_norm(hidden_BND, shift, scale)))

    def _placed(self, hidden_BND: Tensor) -> tuple[Tensor, Rotation | None]:
        """The tokens told their learned places, and the rotation that tells those of attention, if any."""
        tokens = hidden_BND.shape[1]
        if self.slots is not None:
            place_N = torch.arange(tokens, device=hidden_BND.device) % len(self.slots)
            hidden_BND = hidden_BND + self.slots[place_N]
        if self.positions is None:
            return hidden_BND, rotary_table(tokens, self.recipe.width // self.recipe.heads, hidden_BND.device)
        if tokens > len(self.positions):
            raise ValueError(
                f"{tokens} tokens, but positions were learned for {len(self.positions)}; "
                "choose a shorter window, or a larger learned_positions and train again"
            )
        return hidden_BND + self.positions[:tokens], None

    def _tokens(self, features_BCT: Tensor) -> Tensor:
        """Tokens (B, T / f, C f) of f stacked frames."""
        batch, channels, frames = features_BCT.shape
        stacked = self.recipe.frames_per_token
        if frames % stacked:
            raise ValueError(f"{frames} latent frames do not divide into tokens of {stacked}; choose another window")
        split = features_BCT.reshape(batch, channels, frames // stacked, stacked)
        return split.permute(0, 2, 1, 3).reshape(batch, frames // stacked, channels * stacked)

    def _frames(self, tokens_BND: Tensor) -> Tensor:
        """The inverse of `_tokens`: (B, C, T)."""
        batch, tokens, width = tokens_BND.shape
        stacked = self.recipe.frames_per_token
        return tokens_BND.reshape(batch, tokens, -1, stacked).permute(0, 2, 1, 3).reshape(batch, width // stacked, -1)


class Block(nn.Module):
    """Attention and MLP, each normalised, shifted, scaled and gated by the noise level and CLAP (AdaLN-Zero)."""

    def __init__(self, recipe: DiTRecipe) -> None:
        super().__init__()
        width = recipe.width
        self.modulation = nn.Linear(recipe.noise_width, 6 * width)
        self.attention = Attention(width, recipe.heads)
        self.mlp = recipe.mlp
        up, inside = _mlp_widths(recipe)
        self.up = nn.Linear(width, up)
        self.down = nn.Linear(inside, width)
        _zero(self.modulation)
        for layer in (self.up, self.down):
            _xavier(layer)

    def forward(self, hidden_BND: Tensor, told_BM: Tensor, rotation: Rotation | None) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(told_BM)[:, None].chunk(6, dim=-1)
        mixed_BND = self.attention(modulated_norm(hidden_BND, shift1, scale1), rotation)
        hidden_BND = torch.addcmul(hidden_BND, gate1, mixed_BND)
        inner = self._activated(self.up(modulated_norm(hidden_BND, shift2, scale2)))
        return torch.addcmul(hidden_BND, gate2, self.down(inner))

    def _activated(self, inner: Tensor) -> Tensor:
        match self.mlp:
            case Mlp.GELU:
                return functional.gelu(inner, approximate="tanh")
            case Mlp.SWIGLU:
                gate, value = inner.chunk(2, dim=-1)
                return functional.silu(gate) * value


class Attention(nn.Module):
    """Self-attention with a depth-wise convolution after each of Q, K and V (paper §4.2; Primer, So et al. 2021).

    Departure: the convolution looks both ways, where Primer's language model looks back; its three taps are Primer's,
    the paper gives no width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.convolve = DepthwiseConvolution(3 * width)
        self.leave = nn.Linear(width, width)
        # Xavier over Q, K and V each, not over their stack, which would shrink them by sqrt(2).
        for third in self.project.weight.chunk(3):
            nn.init.xavier_uniform_(third)
        nn.init.zeros_(self.project.bias)
        _xavier(self.leave)

    def forward(self, hidden_BND: Tensor, rotation: Rotation | None) -> Tensor:
        batch, tokens, width = hidden_BND.shape
        qkv = self.convolve(self.project(hidden_BND)).view(batch, tokens, 3 * self.heads, -1)
        query_key, value_BNHR = qkv.split([2 * self.heads, self.heads], dim=2)
        query_key = functional.rms_norm(query_key, query_key.shape[-1:])
        if rotation is not None:
            query_key = rotated(query_key, rotation)
        query, key = query_key.to(value_BNHR.dtype).transpose(1, 2).chunk(2, dim=1)
        mixed_BHNR = functional.scaled_dot_product_attention(query, key, value_BNHR.transpose(1, 2))
        return self.leave(mixed_BHNR.transpose(1, 2).reshape(batch, tokens, width))


class DepthwiseConvolution(nn.Module):
    """A kernel of three taps per channel along the tokens, the identity before training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.zeros(3, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        with torch.no_grad():
            self.taps[1] = 1.0

    def forward(self, hidden_BND: Tensor) -> Tensor:
        mixed_BND: Tensor = _ThreeTaps.apply(hidden_BND, self.taps, self.bias)
        return mixed_BND


class _ThreeTaps(torch.autograd.Function):
    """bias + taps[0] h[n - 1] + taps[1] h[n] + taps[2] h[n + 1], without the neighbours that an end lacks.

    Shifted multiply-adds on (B, N, D), in place: a grouped Conv1d would need two transposes and a slow kernel, and
    autograd would pad the gradient of every shifted slice with zeros, which doubles the time of the backward pass.
    """

    @staticmethod
    def forward(context: Any, hidden_BND: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        context.save_for_backward(hidden_BND, taps)
        before, here, after = taps
        mixed_BND = torch.addcmul(bias, hidden_BND, here)
        mixed_BND[:, 1:].addcmul_(hidden_BND[:, :-1], before)
        mixed_BND[:, :-1].addcmul_(hidden_BND[:, 1:], after)
        return mixed_BND

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (gradient_BND,) = gradients
        hidden_BND, taps = context.saved_tensors
        before, here, after = taps
        of_hidden = gradient_BND * here
        of_hidden[:, :-1].addcmul_(gradient_BND[:, 1:], before)
        of_hidden[:, 1:].addcmul_(gradient_BND[:, :-1], after)
        pairs = (
            (gradient_BND[:, 1:], hidden_BND[:, :-1]),
            (gradient_BND, hidden_BND),
            (gradient_BND[:, :-1], hidden_BND[:, 1:]),
        )
        of_taps = torch.stack([(gradient * hidden).sum((0, 1)) for gradient, hidden in pairs])
        return of_hidden, of_taps, gradient_BND.sum((0, 1))


def modulated_norm(hidden_XD: Tensor, shift_XD: Tensor, scale_XD: Tensor) -> Tensor:
    """Adaptive layer norm: zero mean, unit variance over D, then scaled by 1 + scale and shifted."""
    return torch.addcmul(shift_XD, functional.layer_norm(hidden_XD, hidden_XD.shape[-1:]), 1 + scale_XD)


def rotary_table(tokens: int, width: int, device: torch.device) -> Rotation:
    """Cosines and sines (N, 1, R/2) of the rotary positions, in float32."""
    frequency = ROTARY_PERIOD ** (-torch.arange(width // 2, device=device) / (width // 2))
    angle = torch.arange(tokens, device=device)[:, None, None] * frequency
    return angle.cos(), angle.sin()


def rotated(vectors_BNHR: Tensor, rotation: Rotation) -> Tensor:
    """Every pair (i, i + R/2) turned by its position's angle."""
    cosine, sine = rotation
    first, second = vectors_BNHR.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def _learned_table(rows: int | None, width: int) -> nn.Parameter | None:
    return None if rows is None else nn.Parameter(0.02 * torch.randn(rows, width))


def _mlp_widths(recipe: DiTRecipe) -> tuple[int, int]:
    """Widths of the MLP's first output and second input; SwiGLU's are multiples of 8, which matrix units need."""
    inside = recipe.mlp_ratio * recipe.width
    match recipe.mlp:
        case Mlp.GELU:
            return inside, inside
        case Mlp.SWIGLU:
            third = max(8, 8 * round(inside / 12))
            return 2 * third, third


def _xavier(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
