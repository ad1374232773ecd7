"""Better noise levels for few-step sampling: a search on held-out latents, reported on others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from models.batch import LatentBatch
from models.denoiser import Denoiser
from models.guidance import Guidance
from models.sampling import ConsistencySampler, sample_latents

# Shapes: B windows, C latent width, T latent frames.

FACTORS = (4.0, 2.0, math.sqrt(2), 2**0.25)
"""How far a level is moved in turn, ours: the default's neighbours are 3 to 11 times apart."""

Levels = tuple[float, ...]


class FoundLevels(NamedTuple):
    """Levels, and energy scores of the old and of the found ones where they were searched and elsewhere."""

    levels: Levels
    searched_before: float
    searched_after: float
    held_out_before: float
    held_out_after: float


def search_levels(
    denoiser: Denoiser,
    batch: LatentBatch,
    *,
    sampler: ConsistencySampler,
    guidance: Guidance,
    seed: int,
    factors: Sequence[float] = FACTORS,
) -> FoundLevels:
    """Levels with the lowest energy score on the even windows of `batch`, also scored on the odd ones.

    Coordinate descent in log sigma from the sampler's own levels: each but the first, which is pure noise, is
    multiplied and divided by each factor in turn, and what scores lower is kept. All lists get the same noise, so
    that the result is never worse than the start where it was searched; `held_out_after` says what that is worth.
    """
    if len(batch.target_BCT) < 4:
        raise ValueError(f"a search needs two windows to search on and two to report, got {len(batch.target_BCT)}")

    def score_on(rows: slice) -> Callable[[Levels], float]:
        def score(levels: Levels) -> float:
            return _sampled_score(denoiser, _rows(batch, rows), replace(sampler, levels=levels), guidance, seed)

        return score

    searched, held_out = score_on(slice(0, None, 2)), score_on(slice(1, None, 2))
    found = _descend(sampler.levels, searched, factors, lowest=sampler.sigma_min)
    return FoundLevels(found, searched(sampler.levels), searched(found), held_out(sampler.levels), held_out(found))


def energy_score(first_BCT: Tensor, second_BCT: Tensor, real_BCT: Tensor) -> float:
    """Mean of (|x - y| + |x' - y|) / 2 - |x - x'| / 2 over two samples x, x' and the real latent y of each window.

    Unbiased, and lowest exactly for the law of y given its conditions: strictly proper (Gneiting and Raftery 2007).
    """
    to_real = _gap(first_BCT, real_BCT) + _gap(second_BCT, real_BCT)
    return float((to_real - _gap(first_BCT, second_BCT)).mean() / 2)


def _descend(start: Levels, score: Callable[[Levels], float], factors: Sequence[float], *, lowest: float) -> Levels:
    """The best list that moving one level at a time leads to; factors run from the coarsest to the finest."""
    best, reached = start, score(start)
    for factor in factors:
        for place in range(1, len(start)):
            moved = ((*best[:place], best[place] * by, *best[place + 1 :]) for by in (factor, 1 / factor))
            allowed = [tried for tried in moved if tried[place - 1] > tried[place] > (*tried, lowest)[place + 1]]
            value, tried = min(((score(tried), tried) for tried in allowed), default=(math.inf, best))
            if value < reached:
                best, reached = tried, value
    return best


def _sampled_score(
    denoiser: Denoiser, batch: LatentBatch, sampler: ConsistencySampler, guidance: Guidance, seed: int
) -> float:
    """The energy score of two samples a window; the noise is a function of seed and place alone."""
    count = len(batch.target_BCT)
    generators = [torch.Generator().manual_seed(2 * count * seed + place) for place in range(2 * count)]
    twice = batch.conditions.stacked(batch.conditions)
    samples = sample_latents(denoiser, twice, sampler=sampler, guidance=guidance, generators=generators)
    return energy_score(samples[:count], samples[count:], batch.target_BCT)


def _rows(batch: LatentBatch, rows: slice) -> LatentBatch:
    return LatentBatch(
        batch.target_BCT[rows],
        batch.context_BCT[rows],
        batch.clap_BE[rows],
        batch.has_context_B[rows],
        batch.has_clap_B[rows],
    )


def _gap(first_BCT: Tensor, second_BCT: Tensor) -> Tensor:
    """Euclidean distances (B,)."""
    return (first_BCT - second_BCT).flatten(1).norm(dim=1)
