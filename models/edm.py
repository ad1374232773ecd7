"""The diffusion framework: noise levels, preconditioning, loss and solvers of EDM (Karras et al. 2022).

Everything here works on tensors (B, ...) of any rank: latents (B, C, T) and CLAP vectors (B, E) alike.
A *raw network* is `raw(noisy, sigma_B) -> F`; a *denoiser* is `denoise(noisy, sigma_B) -> x0`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

# Shapes: B batch, C channels.

RawNetwork = Callable[[Tensor, Tensor], Tensor]
Denoise = Callable[[Tensor, Tensor], Tensor]


class Scales(NamedTuple):
    """Preconditioning at noise levels (B,): D = skip * x + out * F(input * x, noise)."""

    skip: Tensor
    out: Tensor
    input: Tensor
    noise: Tensor


def edm_scales(sigma_B: Tensor, sigma_data: float) -> Scales:
    """EDM's preconditioning (table 1 of EDM)."""
    total = sigma_B.square() + sigma_data**2
    return Scales(
        skip=sigma_data**2 / total,
        out=sigma_B * sigma_data / total.sqrt(),
        input=1 / total.sqrt(),
        noise=sigma_B.log() / 4,
    )


@dataclass(frozen=True, kw_only=True)
class EdmObjective:
    """Denoising score matching with a log-normal noise level.

    Departure: the paper names EDM without its noise distribution or `sigma_data`. The defaults are those of EDM2 for
    latents that are brought to a standard deviation of 0.5, which is ours too; a short training learns the high levels
    only with a wider one (`p_std` 1.4 to 1.6).
    """

    p_mean: float = -0.4
    p_std: float = 1.0
    sigma_data: float = 0.5

    def scales(self, sigma_B: Tensor) -> Scales:
        """The preconditioning that a network trained with this objective needs."""
        return edm_scales(sigma_B, self.sigma_data)

    def draw_t(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` values of t = ln(sigma), on the generator's device."""
        return self.p_mean + self.p_std * torch.randn(count, generator=generator, device=generator.device)

    def sigma(self, t: Tensor) -> Tensor:
        """The noise level at t."""
        return t.exp()

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
        """(F - (y - c_skip x) / c_out)^2 of every element (B, ...), which is lambda(sigma) (D - y)^2 (EDM eq. 8).

        `progress`, the fraction of the training done, is part of every objective's call; this one does not change.
        """
        sigma_B = self.sigma(t_B)
        noisy = clean + per_item(sigma_B, clean) * noise
        scales = self.scales(sigma_B)
        wanted = (clean - per_item(scales.skip, clean) * noisy) / per_item(scales.out, clean)
        return weighted(raw(noisy, sigma_B) - wanted, channel_weight_C).square()


def precondition(raw: RawNetwork, scales: Callable[[Tensor], Scales]) -> Denoise:
    """The denoiser that a raw network becomes under a preconditioning, in float32."""

    def denoise(noisy: Tensor, sigma_B: Tensor) -> Tensor:
        at = scales(sigma_B)
        return per_item(at.skip, noisy) * noisy + per_item(at.out, noisy) * raw(noisy, sigma_B)

    return denoise


def per_item(values_B: Tensor, like: Tensor) -> Tensor:
    """One value per item of the batch, shaped to multiply `like` (B, ...)."""
    return values_B.reshape(-1, *[1] * (like.ndim - 1))


def weighted(error: Tensor, channel_weight_C: Tensor | None) -> Tensor:
    """`error` (B, C, ...) such that its square carries the channel weights; unchanged without weights."""
    if channel_weight_C is None:
        return error
    return error * channel_weight_C.sqrt().reshape(1, -1, *[1] * (error.ndim - 2))


def karras_levels(steps: int, *, sigma_min: float, sigma_max: float, rho: float) -> tuple[float, ...]:
    """`steps` noise levels from sigma_max down to sigma_min, and the closing 0 (EDM eq. 5)."""
    if steps < 1:
        raise ValueError(f"a sampler needs at least one step, got {steps}")
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    fractions = [i / max(steps - 1, 1) for i in range(steps)]
    return (*((high + fraction * (low - high)) ** rho for fraction in fractions), 0.0)


def euler(denoise: Denoise, x: Tensor, levels: Sequence[float]) -> Tensor:
    """The end of the probability-flow ODE from `x` at levels[0], first order: one evaluation per step."""
    for here, after in pairwise(levels):
        x = x + (after - here) * _slope(denoise, x, here)
    return x


def heun(denoise: Denoise, x: Tensor, levels: Sequence[float]) -> Tensor:
    """The same, second order (EDM algorithm 1 without churn): 2 N - 1 evaluations when the last level is 0."""
    for here, after in pairwise(levels):
        slope = _slope(denoise, x, here)
        ahead = x + (after - here) * slope
        if after > 0:
            slope = (slope + _slope(denoise, ahead, after)) / 2
            ahead = x + (after - here) * slope
        x = ahead
    return x


def dpm_multistep(denoise: Denoise, x: Tensor, levels: Sequence[float]) -> Tensor:
    """The same, second order at one evaluation per step (DPM-Solver++(2M): Lu et al. 2022, algorithm 2, alpha = 1).

    A step moves towards the denoised value at its middle in log sigma, on the line through the last two evaluations.
    The first step has only one. A step to level 0 has no middle: it ends at the denoised value itself.
    """
    before: tuple[float, Tensor] | None = None
    for here, after in pairwise(levels):
        denoised = denoise(x, x.new_full((len(x),), here))
        midway = denoised
        if before is not None and after > 0:
            level, value = before
            midway = denoised + math.log(after / here) / math.log(here / level) / 2 * (denoised - value)
        x = midway + after / here * (x - midway)
        before = here, denoised
    return x


def ancestral(
    denoise: Denoise, x: Tensor, levels: Sequence[float], *, noise: Callable[[], Tensor], eta: float = 1.0
) -> Tensor:
    """A sample of the reverse SDE: Euler to a lower level than asked, then fresh noise up to it.

    The posterior of DDPM (Ho et al. 2020) written in noise levels: `eta` 1 is DDPM, 0 is `euler`.
    """
    for here, after in pairwise(levels):
        added = min(after, eta * after * math.sqrt(1 - (after / here) ** 2))
        reached = math.sqrt(after**2 - added**2)
        x = x + (reached - here) * _slope(denoise, x, here)
        if added > 0:
            x = x + added * noise()
    return x


def _slope(denoise: Denoise, x: Tensor, sigma: float) -> Tensor:
    """dx/dsigma of the probability-flow ODE (EDM eq. 3)."""
    return (x - denoise(x, x.new_full((len(x),), sigma))) / sigma
