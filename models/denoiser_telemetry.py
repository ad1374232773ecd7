"""What the log of a denoiser's training is told beside the loop's own figures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.batch import LatentBatch, LatentSet, StyleSource
from models.consistency import ConsistencyObjective
from models.data_parallel import processes
from models.denoiser import Denoiser
from models.rounding import rounding_noise
from models.telemetry import HELDOUT_WINDOWS, LossByNoiseLevel, heldout_errors
from models.training_cost import denoiser_cost, peak_flop_per_s

# Shapes: B batch, C latent width, T latent frames.

ROUNDING_WINDOWS = 2  # in two arithmetics and in float64 they cost about as much as two steps, once a report


class DenoiserTelemetry:
    """Losses by noise level, the held-out error, samples per second and, on a CUDA device, its utilisation.

    Of a consistency training also the share of rounding in a step, in its own arithmetic and in the one that is
    refused for it: the measurement that this choice rests on, on the very model (`models.rounding`).
    """

    def __init__(
        self, denoiser: Denoiser, heldout: LatentBatch | None, *, batch_size: int, frames: int, dtype: torch.dtype
    ) -> None:
        device = denoiser.null_clap.device
        self._denoiser, self._batch_size = denoiser, batch_size
        self._heldout = heldout and heldout.to(device)
        self._dtypes = sorted({dtype, torch.bfloat16}, key=str)
        self._by_level = LossByNoiseLevel(device)
        self._share_of_peak = _share_of_peak(denoiser, batch_size, frames, dtype) if device.type == "cuda" else None

    def hear(self, losses: Tensor, sigma_B: Tensor) -> None:
        """The losses (B, ...) of one step of this process, and their noise levels."""
        self._by_level.hear(losses, sigma_B)

    def added_to(self, values: dict[str, float], *, progress: float, seed: int) -> dict[str, float]:
        """The loop's figures and these."""
        pace = values["steps_per_second"]
        told = values | self._by_level.report() | {"samples_per_second": self._batch_size * pace}
        if self._share_of_peak is not None:
            told["model_flop_utilisation"] = self._share_of_peak * pace
        if self._heldout is not None:
            denoise = partial(self._denoiser, conditions=self._heldout.conditions)
            sigma_data = self._denoiser.objective.sigma_data
            told |= heldout_errors(denoise, self._heldout.target_BCT, sigma_data=sigma_data, seed=seed)
            if isinstance(self._denoiser.objective, ConsistencyObjective):
                told |= self._rounding(self._heldout.first(ROUNDING_WINDOWS), progress, seed)
        return told

    def _rounding(self, batch: LatentBatch, progress: float, seed: int) -> dict[str, float]:
        """`rounding/float32/sigma_2.5` and so on: from 1 on, a step at that level is fitted to rounding."""
        with torch.compiler.set_stance("force_eager"):
            return {
                f"rounding/{str(dtype).removeprefix('torch.')}/sigma_{noise.sigma:g}": noise.ratio
                for dtype in self._dtypes
                for noise in rounding_noise(self._denoiser, batch, progress=progress, dtype=dtype, seed=seed)
            }


def watched_windows(
    heldout: LatentSet, data: LatentSet, style: StyleSource, *, count: int = HELDOUT_WINDOWS
) -> LatentBatch:
    """The first held-out windows in the units of the training set, all their conditions given.

    Raises ValueError where their latents or embeddings are of other sizes.
    """
    watched, trained = ((*some.target_NCT.shape[1:], some.clap_width) for some in (heldout, data))
    if watched != trained:
        raise ValueError(
            "held-out windows of {} channels, {} frames and embeddings of {} cannot be listened to by a denoiser of "
            "{}, {} and {}; cut, encode and embed both sets alike".format(*watched, *trained)
        )
    rows = np.arange(min(count, len(heldout)))
    return replace(heldout, mean_C=data.mean_C, std_C=data.std_C).batch(rows, np.zeros_like(rows), style)


def _share_of_peak(denoiser: Denoiser, batch_size: int, frames: int, dtype: torch.dtype) -> float:
    """The share of the processes' peak that one step per second would use."""
    cost = denoiser_cost(
        denoiser.network.recipe,
        denoiser.objective,
        batch_size=batch_size,
        clap_width=denoiser.clap_width,
        latent_width=denoiser.latent_width,
        frames=frames,
    )
    return cost.flop_per_step / (peak_flop_per_s(denoiser.null_clap.device, dtype) * processes().size)
