"""How a noise level is told to a network: sinusoids of c_noise = ln(sigma) / 4."""

from __future__ import annotations

import torch
from torch import Tensor

# Shapes: B batch, D embedding width.

LOWEST_FREQUENCY = 1e-4  # EDM (Karras et al. 2022): `max_positions` 10,000


def noise_embedding(noise_B: Tensor, width: int) -> Tensor:
    """Sinusoidal features (B, `width`) of c_noise, at least float32 whatever the network's precision.

    Paper §4.2 (512-dimensional sinusoidal embeddings); frequencies 1 ... 1e-4 rad per unit of c_noise as in EDM.
    Higher frequencies make the network change 8 to 80 times more per consistency step, which unsettles its targets.
    """
    half = width // 2
    noise_B = noise_B.to(torch.promote_types(noise_B.dtype, torch.float32))
    exponents = torch.arange(half, dtype=noise_B.dtype, device=noise_B.device) / half
    angles_BD = noise_B[:, None] * LOWEST_FREQUENCY**exponents
    return torch.cat([angles_BD.cos(), angles_BD.sin()], dim=1)
