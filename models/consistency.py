"""Few-step generation: the consistency map, its training loss and its sampler (Music2Latent's recipe).

The map f(x, sigma) sends every point of a probability-flow trajectory to that trajectory's end at sigma_min.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

import torch
from torch import Tensor

from models.edm import Denoise, RawNetwork, Scales, per_item, precondition, weighted

# Shapes: B batch, C channels, G grid cells.

GRID_CELLS = 10_000  # Music2Latent's discretisation of t
FIVE_LEVELS = (80.0, 24.41, 5.839, 0.965, 0.0851)
"""The first five of six levels of the rho = 7 grid from 80 to 0.002: as many as the paper's steps (§4.2)."""


class NoiseDraw(Enum):
    """How training picks a noise level; both aim at ln(sigma) ~ N(p_mean, p_std^2)."""

    T_GRID = "t-grid"
    """Music2Latent: the Gaussian weighs cells of equal width in t, which lifts the mean of ln(sigma) by about 0.5."""
    LOG_NORMAL = "log-normal"
    """Improved consistency training: ln(sigma) itself is Gaussian, cut to the range of levels."""


@dataclass(frozen=True, kw_only=True)
class ConsistencyObjective:
    """Consistency training with continuous noise levels and an exponentially shrinking step (paper §4.2, its ref. 9).

    The same objective serves both ways to a consistency model: from scratch, as published, or *tuned*, starting from
    the weights of a trained EDM denoiser. The paper states the continuous levels and the exponential schedule; the
    numbers are those of Music2Latent's training code, the cut log-normal draw and tuning are ours to choose.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    sigma_data: float = 0.5
    p_mean: float = -1.1
    p_std: float = 2.0
    draw: NoiseDraw = NoiseDraw.T_GRID
    first_step: float = 0.1
    last_exponent: float = 3.0
    huber: float = 0.00054

    def scales(self, sigma_B: Tensor) -> Scales:
        """The preconditioning: at sigma_min it is exactly the identity (paper §3.3)."""
        total = sigma_B.square() + self.sigma_data**2
        above = sigma_B - self.sigma_min
        return Scales(
            skip=self.sigma_data**2 / (above.square() + self.sigma_data**2),
            out=self.sigma_data * above / total.sqrt(),
            input=1 / total.sqrt(),
            noise=sigma_B.log() / 4,
        )

    def step(self, progress: float) -> float:
        """The step in t at this fraction of the training: 0.1^(1 + 2 k/K), from 0.1 down to 0.001."""
        return self.first_step ** (1 + (self.last_exponent - 1) * progress)

    def sigma(self, t: Tensor) -> Tensor:
        """The noise level at t in [0, 1]: sigma_min at 0, sigma_max at 1."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (low + t * (high - low)) ** self.rho

    def t(self, sigma: Tensor) -> Tensor:
        """The inverse of `sigma`."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (sigma ** (1 / self.rho) - low) / (high - low)

    def draw_t(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` values of t in [0, 1], on the generator's device."""
        device = generator.device
        if self.draw is NoiseDraw.LOG_NORMAL:
            log_sigma = self.p_mean + self.p_std * torch.randn(count, generator=generator, device=device)
            return self.t(log_sigma.exp().clamp(self.sigma_min, self.sigma_max)).clamp(0, 1)
        cumulative_G = _cumulative(self).to(device)
        cell = torch.searchsorted(cumulative_G, torch.rand(count, generator=generator, device=device))
        return (cell.clamp(max=GRID_CELLS - 1) + torch.rand(count, generator=generator, device=device)) / GRID_CELLS

    def losses(
        self,
        raw: RawNetwork,
        clean: Tensor,
        t_B: Tensor,
        noise: Tensor,
        *,
        progress: float,
        channel_weight_C: Tensor | None = None,
    ) -> Tensor:
        """pseudo-Huber(f(x_t), stopgrad f(x_r)) / (sigma_t - sigma_r) of every item (B,).

        Both points share their noise, so they lie on one trajectory towards `clean`; the teacher is the student
        itself. The step schedule runs over the planned training: one that is cut short is a different training.
        """
        r_B = (t_B - self.step(progress)).clamp(min=0)
        sigma_t, sigma_r = self.sigma(t_B), self.sigma(r_B)
        f = precondition(raw, self.scales)
        with torch.no_grad():
            teacher = f(clean + per_item(sigma_r, clean) * noise, sigma_r)
        student = f(clean + per_item(sigma_t, clean) * noise, sigma_t)
        distance_B = pseudo_huber(weighted(student - teacher, channel_weight_C), self.huber)
        return distance_B / (sigma_t - sigma_r)


def pseudo_huber(error: Tensor, factor: float) -> Tensor:
    """sqrt(|e|^2 + c^2) - c per item (B,), summed over all its dimensions, c = factor * sqrt(dimensions)."""
    flat = error.flatten(1)
    c = factor * math.sqrt(flat.shape[1])
    return (flat.square().sum(1) + c**2).sqrt() - c


def consistency_chain(
    f: Denoise, x: Tensor, levels: Sequence[float], *, sigma_min: float, noise: Callable[[], Tensor]
) -> Tensor:
    """The last of the clean estimates along `levels`, each re-noised to the next level; one evaluation per level."""
    for here, after in zip(levels, (*levels[1:], None), strict=True):
        x0 = f(x, x.new_full((len(x),), here))
        if after is None:
            break
        x = x0 + math.sqrt(after**2 - sigma_min**2) * noise()
    return x0


@lru_cache(maxsize=8)
def _cumulative(objective: ConsistencyObjective) -> Tensor:
    """Cumulative probability (G,) of the cells of the t grid."""
    centres = (torch.arange(GRID_CELLS, dtype=torch.float64) + 0.5) / GRID_CELLS
    away = objective.sigma(centres).log() - objective.p_mean
    weight_G = (-away.square() / (2 * objective.p_std**2)).exp()
    return (weight_G.cumsum(0) / weight_G.sum()).float()
