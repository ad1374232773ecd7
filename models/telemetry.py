"""What a training tells of itself beside its loss; none of it changes a weight."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from models.data_parallel import sum_of_processes
from models.edm import Denoise, per_item

# Shapes: B batch, L noise-level ranges.

SIGMA_EDGES = (0.1, 0.3, 1.0, 3.0)
"""Bounds of the ranges of noise levels, the same for every arm: with the objectives' defaults each holds 3 to 45 %."""

FIXED_SIGMAS = (0.1, 0.5, 2.0, 10.0)
"""Levels of the held-out error: fine detail, sigma_data, the outlines, and what the conditions alone can tell."""

HELDOUT_WINDOWS = 16  # four levels of so many windows cost about as much as one step, once a report
GIB = 2**30


class LossByNoiseLevel:
    """The mean loss of the items since the last report, by the range of their noise level, over all processes."""

    def __init__(self, device: torch.device) -> None:
        self._edges = torch.tensor(SIGMA_EDGES, device=device)
        self._totals_2L = torch.zeros(2, len(SIGMA_EDGES) + 1, device=device)

    def hear(self, losses: Tensor, sigma_B: Tensor) -> None:
        """Take the losses (B, ...) of one step; no synchronisation with the device."""
        loss_B = losses.detach().reshape(len(sigma_B), -1).mean(1)
        self._totals_2L.index_add_(
            1, torch.bucketize(sigma_B, self._edges), torch.stack([loss_B, torch.ones_like(loss_B)])
        )

    def report(self) -> dict[str, float]:
        """`loss/sigma_0.1_to_0.3` and so on, without the ranges that no item fell into; then begin anew."""
        sums, counts = sum_of_processes(self._totals_2L).tolist()
        self._totals_2L.zero_()
        return {
            name: total / count for name, total, count in zip(_range_names(), sums, counts, strict=True) if count > 0
        }


def _range_names() -> list[str]:
    bounds = [f"{edge:g}" for edge in (0.0, *SIGMA_EDGES)]
    return [f"loss/sigma_{low}_to_{high}" for low, high in pairwise(bounds)] + [f"loss/sigma_above_{bounds[-1]}"]


@torch.no_grad()
def heldout_errors(denoise: Denoise, clean: Tensor, *, sigma_data: float, seed: int) -> dict[str, float]:
    """`heldout/sigma_2` and so on: mean |D(y + sigma n) - y|^2 / sigma_data^2, about 1 for who knows only the mean.

    The noise is a function of the seed, so that the figure moves with the weights alone. It means the same for every
    objective, whose own losses do not compare: a consistency loss changes with its schedule.
    """
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).to(clean.device)
    errors = {}
    for sigma in FIXED_SIGMAS:
        sigma_B = clean.new_full((len(clean),), sigma)
        with torch.compiler.set_stance("force_eager"):  # a batch of another size must not be compiled for
            found = denoise(clean + per_item(sigma_B, clean) * noise, sigma_B)
        errors[f"heldout/sigma_{sigma:g}"] = ((found - clean).square().mean() / sigma_data**2).item()
    return errors


class Pace:
    """Steps per second since the last report, all that happened between counted."""

    def __init__(self, step: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._step, self._clock = step, clock
        self._since_s = clock()

    def report(self, step: int) -> float:
        """The mean up to `step`; then begin anew."""
        now_s = self._clock()
        rate = (step - self._step) / max(now_s - self._since_s, 1e-9)
        self._step, self._since_s = step, now_s
        return rate


def relative_distance(averages: Sequence[Tensor], weights: Sequence[Tensor]) -> float:
    """|average - weights| / |weights| over all of them: how far the moving average lags behind."""
    with torch.no_grad():
        apart = torch.stack([torch.dist(average, weight) for average, weight in zip(averages, weights, strict=True)])
        whole = torch.stack([weight.norm() for weight in weights])
        return float(apart.norm() / whole.norm())


def device_memory(device: torch.device) -> dict[str, float]:
    """`peak_memory_gib`, torch's own count since the process began; nothing for a device that does not count."""
    if device.type != "cuda":
        return {}
    return {"peak_memory_gib": torch.cuda.max_memory_allocated(device) / GIB}
