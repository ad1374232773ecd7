"""From noise to latents: the samplers as recipes, and candidates that do not depend on their batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor

import torch
from torch import Tensor

from models.conditioning import Conditions
from models.consistency import FIVE_LEVELS, consistency_chain
from models.denoiser import Denoiser
from models.edm import Denoise, ancestral, dpm_multistep, euler, heun, karras_levels
from models.guidance import Guidance, GuidanceKind, guided

__all__ = [
    "PSEUDO_STEREO_STRENGTH",
    "AncestralSampler",
    "ConsistencySampler",
    "DpmSampler",
    "EulerSampler",
    "Guidance",
    "GuidanceKind",
    "HeunSampler",
    "Sampler",
    "check_count",
    "noise_of",
    "pseudo_stereo",
    "run_sampler",
    "sample_latents",
    "variation_levels",
    "vary",
]

# Shapes: B batch, C latent width, T latent frames.

PSEUDO_STEREO_STRENGTH = 0.4  # Diff-A-Riff's companion page, default s_Stereo
ROUNDING = 1e-9  # of a step: 1 - 0.8 falls short of a fifth, and 30 of it of six steps


@dataclass(frozen=True, kw_only=True)
class _OdeSampler:
    """A solver over a grid of noise levels. The range and rho are EDM's, the 30 steps Diff-A-Riff's."""

    steps: int = 30
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    @property
    def levels(self) -> tuple[float, ...]:
        """The noise levels from sigma_max to 0."""
        return karras_levels(self.steps, sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=self.rho)


@dataclass(frozen=True, kw_only=True)
class HeunSampler(_OdeSampler):
    """EDM's deterministic second-order solver: 2 steps - 1 evaluations. The default for EDM denoisers.

    Departure: the paper names no solver; this one is ours.
    """


@dataclass(frozen=True, kw_only=True)
class EulerSampler(_OdeSampler):
    """The deterministic first-order solver: `steps` evaluations."""


@dataclass(frozen=True, kw_only=True)
class DpmSampler(_OdeSampler):
    """DPM-Solver++(2M), the deterministic multistep solver of second order: `steps` evaluations."""


@dataclass(frozen=True, kw_only=True)
class AncestralSampler(_OdeSampler):
    """Stochastic steps of first order; steadier for a briefly trained denoiser that the ODE inflates."""

    eta: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ConsistencySampler:
    """Multi-step consistency sampling: one evaluation per level, fresh noise between them (paper §4.2: five steps).

    The paper gives the number of steps, Music2Latent the rule for their levels.
    """

    levels: tuple[float, ...] = FIVE_LEVELS
    sigma_min: float = 0.002

    def __post_init__(self) -> None:
        falling = list(self.levels) == sorted(self.levels, reverse=True)
        if not self.levels or not falling or self.levels[-1] < self.sigma_min:
            raise ValueError(f"consistency levels must fall and stay at or above {self.sigma_min}, got {self.levels}")


Sampler = HeunSampler | EulerSampler | DpmSampler | AncestralSampler | ConsistencySampler


@torch.no_grad()
def sample_latents(
    denoiser: Denoiser,
    conditions: Conditions,
    *,
    sampler: Sampler,
    guidance: Guidance,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Standardised latents (B, C, T), one candidate per generator, shaped like the conditions' context.

    The generators live on the CPU and each belongs to one candidate: its noise is the same in any batch, on any device.
    `LatentSet.restore` (or `restore`) turns the result into what a codec decodes.
    """
    check_count(conditions, generators)
    noise = noise_of(conditions.context_BCT, generators)
    levels = sampler.levels
    return run_sampler(sampler, guided(denoiser, conditions, guidance), levels[0] * noise(), levels, noise=noise)


@torch.no_grad()
def vary(
    denoiser: Denoiser,
    latent_BCT: Tensor,
    conditions: Conditions,
    *,
    strength: float,
    sampler: Sampler,
    guidance: Guidance,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Variations (B, C, T) of standardised latents: noised part of the way, then denoised (Diff-A-Riff's s_Var).

    `strength` 0 gives the latents back, 1 keeps nothing of them but what drowns in noise of sigma_max.
    """
    levels = variation_levels(sampler, strength)
    check_count(conditions, generators)
    if not levels:
        return latent_BCT
    noise = noise_of(latent_BCT, generators)
    noisy = latent_BCT + levels[0] * noise()
    return run_sampler(sampler, guided(denoiser, conditions, guidance), noisy, levels, noise=noise)


def variation_levels(sampler: Sampler, strength: float) -> tuple[float, ...]:
    """The noise levels from step floor((1 - strength) N) of the sampler's N on; none where nothing is varied."""
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength of a variation lies between 0 and 1, got {strength}")
    steps = len(sampler.levels) - (sampler.levels[-1] == 0)
    skipped = floor((1 - strength) * steps + ROUNDING)
    return sampler.levels[skipped:] if skipped < steps else ()


def pseudo_stereo(
    denoiser: Denoiser,
    latent_BCT: Tensor,
    conditions: Conditions,
    *,
    sampler: Sampler,
    guidance: Guidance,
    generators: Sequence[torch.Generator],
    strength: float = PSEUDO_STEREO_STRENGTH,
) -> tuple[Tensor, Tensor]:
    """Left and right latents of a mono candidate: itself and a slight variation of it (Diff-A-Riff).

    `strength` is the stereo width, their s_Stereo: 0 is mono, bit for bit, and at 1 the channels have nothing in common
    but the conditions. Between them it counts in whole steps of the sampler, as in `vary`.
    """
    right_BCT = vary(
        denoiser,
        latent_BCT,
        conditions,
        strength=strength,
        sampler=sampler,
        guidance=guidance,
        generators=generators,
    )
    return latent_BCT, right_BCT


def run_sampler(
    sampler: Sampler, denoise: Denoise, x: Tensor, levels: Sequence[float], *, noise: Callable[[], Tensor]
) -> Tensor:
    """`x` at levels[0], brought down to the data by the sampler."""
    match sampler:
        case HeunSampler():
            return heun(denoise, x, levels)
        case EulerSampler():
            return euler(denoise, x, levels)
        case DpmSampler():
            return dpm_multistep(denoise, x, levels)
        case AncestralSampler():
            return ancestral(denoise, x, levels, noise=noise, eta=sampler.eta)
        case ConsistencySampler():
            return consistency_chain(denoise, x, levels, sigma_min=sampler.sigma_min, noise=noise)


def noise_of(like: Tensor, generators: Sequence[torch.Generator]) -> Callable[[], Tensor]:
    """A source of unit noise shaped like `like` (B, ...), item b drawn from generators[b] alone."""

    def draw() -> Tensor:
        items = [torch.randn(like.shape[1:], generator=generator) for generator in generators]
        return torch.stack(items).to(like.device)

    return draw


def check_count(conditions: Conditions, generators: Sequence[torch.Generator]) -> None:
    """An error unless there is a generator for every candidate."""
    if len(generators) != len(conditions.context_BCT):
        raise ValueError(f"{len(conditions.context_BCT)} candidates need as many generators, got {len(generators)}")
