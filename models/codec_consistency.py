"""Consistency models over spectrogram chunks: noise levels, schedule, loss (codecs.md A.0, A.1, E.2).

Everything is Music2Latent's, read in its code, but for the noise level of each chunk: CoDiCodec's, and needed where two
chunks of unequal noise are decoded together. What latents need as well stands in `models.consistency`. Log-normal
levels as a choice are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor, nn

from models.consistency import GRID_CELLS, ConsistencyObjective, NoiseDraw

# Shapes: B batch, G chunks seen together, P real and imaginary parts per channel, K frequency bins, F frames,
# X any axes, D embedding width.

LEVELS = ConsistencyObjective()  # its noise levels and scalings: power-law spectrograms have a std of 0.5 too
SIGMA_MIN, SIGMA_MAX = LEVELS.sigma_min, LEVELS.sigma_max
PROMPT_TIME = 0.4  # CoDiCodec's noise on the previous chunk, sigma 0.965; Music2Latent2's own is not known

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(noisy_BGPKF, sigma_BG) -> denoised_BGPKF."""


class NoiseLevels(Enum):
    """How training draws noise levels. Both weigh ln sigma by a Gaussian; only the second makes it Gaussian."""

    TIME_GRID = "time-grid"  # Music2Latent's training code: medium and high levels come more often
    LOGNORMAL = "lognormal"  # Karras et al. 2022, table 1


@dataclass(frozen=True, kw_only=True)
class ConsistencySchedule:
    """How times are drawn, and how the step between teacher and student shrinks over the planned run.

    The step is 0.1 ** (1 + (final_exponent - 1) progress): from 0.1 to 0.001 in Music2Latent's training code
    (exponent 3) and to 0.01 in CoDiCodec (exponent 2). A run that stops early has seen another schedule.
    """

    final_exponent: float
    noise_levels: NoiseLevels = NoiseLevels.TIME_GRID

    def step(self, progress: float) -> float:
        """Distance in time between student and teacher at this share (0 to 1) of the run."""
        return replace(LEVELS, last_exponent=self.final_exponent).step(progress)


def renoised(clean: Tensor, sigma: float, noise: Tensor) -> Tensor:
    """A denoised sample, which carries sigma_min, brought back to noise level sigma."""
    return clean + math.sqrt(sigma**2 - SIGMA_MIN**2) * noise


def draw_times(shape: tuple[int, ...], schedule: ConsistencySchedule, generator: torch.Generator) -> Tensor:
    """Times in [0, 1], on the generator's device."""
    count = math.prod(shape)
    match schedule.noise_levels:
        case NoiseLevels.TIME_GRID:
            times = _from_time_grid(count, generator)
        case NoiseLevels.LOGNORMAL:
            times = replace(LEVELS, draw=NoiseDraw.LOG_NORMAL).draw_t(count, generator)
    return times.reshape(shape)


def _from_time_grid(count: int, generator: torch.Generator) -> Tensor:
    """Uniform bins of time weighted by a Gaussian over ln sigma, jittered inside each bin.

    The weight has no Jacobian, so ln sigma is not Gaussian: its median is ln 0.58 (codecs.md A.1). The distribution is
    that of `ConsistencyObjective.draw_t`, the numbers drawn from one generator are others.
    """
    centres = (torch.arange(GRID_CELLS, device=generator.device) + 0.5) / GRID_CELLS
    deviation = (LEVELS.sigma(centres).log() - LEVELS.p_mean) / LEVELS.p_std
    bins = torch.multinomial((-0.5 * deviation**2).exp(), count, replacement=True, generator=generator)
    return (bins + torch.rand(count, generator=generator, device=generator.device)) / GRID_CELLS


def consistency_loss(
    denoise: Denoise,
    clean_BGPKF: Tensor,
    *,
    schedule: ConsistencySchedule,
    progress: float,
    generator: torch.Generator,
) -> Tensor:
    """The mean over items and chunks of the weighted distance between student and teacher (codecs.md E.2).

    Every chunk has its own time, because decoding mixes noise levels; both see the same noise; the teacher is the
    same network without gradient, one step below. Distance: pseudo-Huber on the norm of the whole chunk.
    """
    device = clean_BGPKF.device
    high_BG = draw_times(tuple(clean_BGPKF.shape[:2]), schedule, generator)
    low_BG = (high_BG - schedule.step(progress)).clamp(min=0)
    sigma_high_BG, sigma_low_BG = LEVELS.sigma(high_BG).to(device), LEVELS.sigma(low_BG).to(device)
    noise = torch.randn(clean_BGPKF.shape, generator=generator, device=generator.device).to(device)
    with torch.no_grad():
        teacher = denoise(clean_BGPKF + _wide(sigma_low_BG) * noise, sigma_low_BG)
    student = denoise(clean_BGPKF + _wide(sigma_high_BG) * noise, sigma_high_BG)
    distance_BG = pseudo_huber((student - teacher).float())
    return (distance_BG / (sigma_high_BG - sigma_low_BG)).mean()


def pseudo_huber(difference_BGPKF: Tensor) -> Tensor:
    """sqrt(|d|^2 + c^2) - c of each chunk (B, G), with c = 0.00054 sqrt(numbers in a chunk)."""
    squared_BG = difference_BGPKF.square().sum(dim=(2, 3, 4))
    c = 0.00054 * math.sqrt(difference_BGPKF[0, 0].numel())
    return squared_BG / ((squared_BG + c**2).sqrt() + c)  # the same number without cancellation


def _wide(value_BG: Tensor) -> Tensor:
    return value_BG[..., None, None, None]


def preconditioned(network: Denoise, noisy_BGPKF: Tensor, sigma_BG: Tensor) -> Tensor:
    """f(x, s) of a raw network, in float32 around whatever the network runs in: exactly x where s is sigma_min."""
    skip, out, into, _ = (_wide(value) for value in LEVELS.scales(sigma_BG))
    return skip * noisy_BGPKF + out * network(into * noisy_BGPKF, sigma_BG).float()


class NoiseEmbedding(nn.Module):
    """Sines of ln(sigma) / 4, and what an MLP makes of them."""

    frequencies: Tensor

    def __init__(self, width: int, *, layers: int) -> None:
        super().__init__()
        exponents = torch.arange(width // 2) / max(1, width // 2 - 1)
        self.register_buffer("frequencies", 1e4**-exponents, persistent=False)
        self.mlp = nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(width, width), nn.SiLU())))

    def sines(self, sigma_X: Tensor) -> Tensor:
        """Sines and cosines (X, D) of each noise level."""
        angles = (sigma_X.log() / 4)[..., None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(self, sigma_X: Tensor) -> Tensor:
        """Embeddings (X, D), in float32: bfloat16 would round away what tells teacher from student."""
        with torch.autocast(sigma_X.device.type, enabled=False):
            embedded: Tensor = self.mlp(self.sines(sigma_X))
        return embedded


def zeroed(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> nn.Linear | nn.Conv2d | nn.ConvTranspose2d:
    """The layer with all its weights zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class BinGain(nn.Module):
    """A gain per frequency bin that depends on the noise level: 1 at first (codecs.md A.0: the bins differ tenfold)."""

    def __init__(self, *, bins: int, condition_width: int) -> None:
        super().__init__()
        width = condition_width
        self.mlp = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), zeroed(nn.Linear(width, bins))
        )

    def forward(self, sines_BD: Tensor) -> Tensor:
        """Gains (B, 1, K, 1), in float32."""
        with torch.autocast(sines_BD.device.type, enabled=False):
            gain: Tensor = 1 + self.mlp(sines_BD)[:, None, :, None]
        return gain
