"""How much of a consistency step is rounding: the figure that decides in which arithmetic such a model is trained.

The trained C-DiT of benchmarks/designed_corpus.py, seed 100, by the level of x_t:

    sigma                     0.05    0.32    2.5     20
    bfloat16, step 0.1        0.003   0.008   0.03    0.2
    bfloat16, step 0.01       0.02    0.08    0.5     2.4
    bfloat16, step 0.001      0.2     0.8     4.4     19
    float16, step 0.01        0.003   0.01    0.06    0.3
    float16, step 0.001       0.03    0.1     0.6     3
    float32, step 0.001       7e-5    4e-5    2e-4    1e-3

So from the middle of the schedule on bfloat16 fits rounding where most of the trajectory is decided, and float16 does
at its end: such a training takes float32.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.batch import LatentBatch
from models.conditioning import Conditions
from models.consistency import ConsistencyObjective
from models.denoiser import Denoiser
from models.edm import per_item

# Shapes: B windows, C latent width, T latent frames.

LEVELS = (0.05, 0.32, 2.5, 20.0)  # ours: the range of levels, with the two of the published table


class RoundingNoise(NamedTuple):
    """`ratio` is rounding over consistency difference at one noise level: from 1 on, a step is fitted to rounding."""

    sigma: float
    step: float
    ratio: float


def rounding_noise(
    denoiser: Denoiser,
    batch: LatentBatch,
    *,
    progress: float,
    dtype: torch.dtype,
    seed: int,
    levels: Sequence[float] = LEVELS,
) -> tuple[RoundingNoise, ...]:
    """Root mean square rounding error of f(x_t) - f(x_r) over that of the difference itself, by the level of x_t.

    `dtype` is that of the matrix products under autocast, float32 for none (TF32 where the process permits it on the
    device). The truth is the same network in float64. The pseudo-Huber loss normalises the difference, so that rounding
    keeps its full weight in the gradient however small both are. Raises ValueError for a denoiser of another objective.
    """
    objective = denoiser.objective
    if not isinstance(objective, ConsistencyObjective):
        raise ValueError(f"only a consistency denoiser compares two nearby outputs, this one has {objective}")
    exact, conditions = copy.deepcopy(denoiser).double(), batch.conditions
    noise_BCT = torch.randn(batch.target_BCT.shape, generator=torch.Generator().manual_seed(seed))
    noise_BCT = noise_BCT.to(batch.target_BCT)

    def at(sigma: float) -> RoundingNoise:
        t_1 = objective.t(torch.tensor([sigma], dtype=torch.float64, device=noise_BCT.device))
        sigma_r1 = objective.sigma((t_1 - objective.step(progress)).clamp(min=0))
        pair_2 = torch.cat([objective.sigma(t_1), sigma_r1])
        true_BCT = _difference(exact, batch.target_BCT.double(), noise_BCT.double(), pair_2, conditions)
        with torch.autocast(noise_BCT.device.type, dtype, enabled=dtype is not torch.float32):
            found_BCT = _difference(denoiser, batch.target_BCT, noise_BCT, pair_2.float(), conditions)
        return RoundingNoise(sigma, objective.step(progress), float((found_BCT - true_BCT).norm() / true_BCT.norm()))

    return tuple(at(sigma) for sigma in levels)


@torch.no_grad()
def _difference(
    denoiser: Denoiser, clean_BCT: Tensor, noise_BCT: Tensor, sigma_2: Tensor, conditions: Conditions
) -> Tensor:
    """f(x_t) - f(x_r) of one trajectory, in the precision of `clean_BCT`."""
    outer, inner = (
        denoiser(clean_BCT + per_item(sigma_B, clean_BCT) * noise_BCT, sigma_B, conditions)
        for sigma_B in sigma_2[:, None].expand(-1, len(clean_BCT))
    )
    return outer - inner
