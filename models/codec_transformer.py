"""The transformer of the summary-embedding codec: block-causal over chunks, scaled by the noise level.

Drawn in Music2Latent2's figures: a transformer, causal over chunks. Borrowed from CoDiCodec: norms and their scale by
the noise level, normalised queries and keys, the gated MLP, learned positions. Ours: one attention call per chunk
instead of a mask, and how weights start where they are not zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

# Shapes: B batch, G chunks seen together, L tokens of a chunk, D width, H heads, E noise embedding width.


class TokenNorm(nn.Module):
    """Layer norm without bias; its scale is learned, or 1 + a zero-initialised map of the noise embedding."""

    def __init__(self, width: int, condition_width: int | None) -> None:
        super().__init__()
        self.width = width
        if condition_width is None:
            self.scale: nn.Parameter | None = nn.Parameter(torch.ones(width))
        else:
            self.scale = None
            self.from_noise = nn.Linear(condition_width, width)
            nn.init.zeros_(self.from_noise.weight)
            nn.init.zeros_(self.from_noise.bias)

    def forward(self, tokens_BGLD: Tensor, noise_BGE: Tensor | None) -> Tensor:
        """Normalised tokens, scaled per chunk."""
        normal = functional.layer_norm(tokens_BGLD, (self.width,))
        if self.scale is not None:
            return normal * self.scale
        assert noise_BGE is not None  # a conditioned norm belongs to the consistency model, which always has noise
        return normal * (1 + self.from_noise(noise_BGE)[:, :, None])


class ChunkAttention(nn.Module):
    """Attention in which every chunk sees itself and the chunks before it, without a mask tensor."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = nn.RMSNorm(width // heads)
        self.key_norm = nn.RMSNorm(width // heads)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, tokens_BGLD: Tensor) -> Tensor:
        """Tokens (B, G, L, D): one attention call per chunk, over its own keys and all earlier ones."""
        chunks = tokens_BGLD.shape[1]
        qkv = self.to_qkv(tokens_BGLD).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(3, 0, 4, 1, 2, 5)  # each B, H, G, L, D / H
        query, key = self.query_norm(query), self.key_norm(key)
        seen = [
            functional.scaled_dot_product_attention(
                query[:, :, chunk], key[:, :, : chunk + 1].flatten(2, 3), value[:, :, : chunk + 1].flatten(2, 3)
            )
            for chunk in range(chunks)
        ]
        out: Tensor = self.to_out(torch.stack(seen, dim=1).transpose(2, 3).flatten(-2))
        return out


class GatedMlp(nn.Module):
    """SiLU-gated MLP with twice the width inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_inner = nn.Linear(width, 4 * width, bias=False)
        self.to_out = nn.Linear(2 * width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of the same shape."""
        gate, inner = self.to_inner(tokens).chunk(2, dim=-1)
        out: Tensor = self.to_out(functional.silu(gate) * inner)
        return out


class TransformerLayer(nn.Module):
    """Pre-norm attention and gated MLP."""

    def __init__(self, *, width: int, heads: int, condition_width: int | None, residual_gain: float) -> None:
        super().__init__()
        self.attention_norm = TokenNorm(width, condition_width)
        self.attention = ChunkAttention(width, heads)
        self.mlp_norm = TokenNorm(width, condition_width)
        self.mlp = GatedMlp(width)
        for layer in (self.attention.to_qkv, self.mlp.to_inner):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.attention.to_out, self.mlp.to_out):
            nn.init.xavier_uniform_(layer.weight, gain=residual_gain) if residual_gain else nn.init.zeros_(layer.weight)

    def forward(self, tokens_BGLD: Tensor, noise_BGE: Tensor | None) -> Tensor:
        """Tokens of the same shape."""
        tokens_BGLD = tokens_BGLD + self.attention(self.attention_norm(tokens_BGLD, noise_BGE))
        out: Tensor = tokens_BGLD + self.mlp(self.mlp_norm(tokens_BGLD, noise_BGE))
        return out


class ChunkTransformer(nn.Module):
    """Layers over the tokens of one or more consecutive chunks, with learned absolute positions.

    With `zero_residuals` (only in the consistency model) every layer is the identity at first; elsewhere residual
    branches start at 1 / sqrt(2 layers), because a path that starts at zero carries no content to the latents and
    the tanh then saturates on a constant (codecs.md E.3).
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        layers: int,
        chunks: int,
        tokens: int,
        condition_width: int | None,
        zero_residuals: bool,
    ) -> None:
        super().__init__()
        self.positions_GLD = nn.Parameter(torch.randn(chunks, tokens, width) / math.sqrt(width))
        gain = 0.0 if zero_residuals else 1 / math.sqrt(2 * layers)
        self.layers = nn.ModuleList(
            TransformerLayer(width=width, heads=heads, condition_width=condition_width, residual_gain=gain)
            for _ in range(layers)
        )

    def forward(self, tokens_BGLD: Tensor, noise_BGE: Tensor | None = None) -> Tensor:
        """Tokens of the same shape; fewer chunks than the positions cover are the first ones."""
        tokens_BGLD = tokens_BGLD + self.positions_GLD[: tokens_BGLD.shape[1]]
        for layer in self.layers:
            tokens_BGLD = layer(tokens_BGLD, noise_BGE)
        return tokens_BGLD
