"""Our two trainable codecs at a size that a test can run, all of their paths open."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from models.music2latent import Music2LatentRecipe
from models.music2latent2 import Music2Latent2Recipe

MONO = Music2LatentRecipe(
    channels=(4, 4, 8, 8, 8),
    attends=(False, False, False, False, True),
    depths=(1, 1, 1, 1, 1),
    strides=((4, 1), (4, 2), (2, 2), (2, 2)),
    inner_width=16,
    inner_layers=1,
    condition_width=8,
    steps=4,
    batch=2,
    learning_rate=1e-3,
)
STEREO = Music2Latent2Recipe(
    channels=(4, 8, 16, 16),
    depths=(1, 1, 1, 1),
    strides=((8, 4), (4, 1), (4, 2)),
    layers=1,
    heads=2,
    registers=2,
    condition_width=8,
    steps=4,
    batch=2,
    learning_rate=1e-3,
)

Codec = TypeVar("Codec", bound=nn.Module)


def woken(codec: Codec) -> Codec:
    """The codec with its zero-initialised weights drawn, so that every path carries something."""
    generator = torch.Generator().manual_seed(0)
    for parameter in codec.eval().requires_grad_(False).parameters():
        if not parameter.any():
            parameter.normal_(std=0.2, generator=generator)
    return codec
