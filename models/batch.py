"""Latents and embeddings as a training set: arrays in, standardised batches out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.conditioning import Conditions

# Shapes: N windows, B batch, C latent width, T latent frames, K style segments, E CLAP width.

SIGMA_DATA = 0.5  # EDM's sigma_data: the standard deviation that networks see


class StyleSource(Enum):
    """Which audio of the target stem the CLAP condition is the embedding of."""

    TARGET_WINDOW = "target window"
    """The very window to be generated: the leak of the original Diff-A-Riff (paper §4.3)."""
    OTHER_SEGMENT = "other segment"
    """A random other segment of the same stem: the paper's correction."""


@dataclass(frozen=True)
class LatentBatch:
    """Standardised targets and their conditions."""

    target_BCT: Tensor
    context_BCT: Tensor
    clap_BE: Tensor
    has_context_B: Tensor
    has_clap_B: Tensor

    @property
    def conditions(self) -> Conditions:
        """All of the batch but the targets."""
        return Conditions(self.context_BCT, self.clap_BE, self.has_context_B, self.has_clap_B)

    def to(self, device: torch.device) -> LatentBatch:
        """The same batch on another device."""
        return LatentBatch(
            self.target_BCT.to(device),
            self.context_BCT.to(device),
            self.clap_BE.to(device),
            self.has_context_B.to(device),
            self.has_clap_B.to(device),
        )

    def first(self, count: int) -> LatentBatch:
        """Its first windows."""
        return LatentBatch(
            self.target_BCT[:count],
            self.context_BCT[:count],
            self.clap_BE[:count],
            self.has_context_B[:count],
            self.has_clap_B[:count],
        )

    def with_conditions_dropped(self, *, context: Tensor, clap: Tensor) -> LatentBatch:
        """The same batch without the conditions where the masks (B,) are true."""
        return LatentBatch(
            self.target_BCT, self.context_BCT, self.clap_BE, self.has_context_B & ~context, self.has_clap_B & ~clap
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentSet:
    """N windows: raw codec latents (float32 or float16, perhaps memory-mapped) and their CLAP embeddings.

    `clap_audio_NKE` holds K other segments of the target stem, `clap_leak_NE` the target window itself. `mean_C` and
    `std_C` are pooled over targets and contexts, so that both are told in the same units; targets alone then have a
    standard deviation near 0.47 and contexts near 0.52 (a mixture is louder), not 0.5 each.
    """

    target_NCT: NDArray[Any]
    context_NCT: NDArray[Any]
    clap_audio_NKE: NDArray[Any]
    clap_leak_NE: NDArray[Any]
    mean_C: NDArray[Any]
    std_C: NDArray[Any]

    def __post_init__(self) -> None:
        windows, channels, frames = _shape("target_NCT", self.target_NCT, 3)
        width = _shape("clap_leak_NE", self.clap_leak_NE, 2)[1]
        _expect("context_NCT", self.context_NCT, (windows, channels, frames))
        _expect("clap_leak_NE", self.clap_leak_NE, (windows, width))
        segments = _shape("clap_audio_NKE", self.clap_audio_NKE, 3)[1]
        _expect("clap_audio_NKE", self.clap_audio_NKE, (windows, segments, width))
        _expect("mean_C", self.mean_C, (channels,))
        _expect("std_C", self.std_C, (channels,))
        if not np.all(self.std_C > 0) or not np.all(np.isfinite(self.mean_C)):
            raise ValueError("latents are standardised by a finite mean and a positive std_C; a channel is constant")

    def __len__(self) -> int:
        return len(self.target_NCT)

    @property
    def clap_width(self) -> int:
        """E."""
        return int(self.clap_leak_NE.shape[1])

    @property
    def segments(self) -> int:
        """K, the style segments that each window has to choose from."""
        return int(self.clap_audio_NKE.shape[1])

    @property
    def channel_weights(self) -> Tensor:
        """Loss weights (C,) in proportion to what each channel weighs in the raw latent, of mean 1.

        Standardisation makes the many faint channels of a PCA-like codec count as much as the audible ones.
        """
        weight_C = torch.from_numpy(np.asarray(self.std_C, dtype=np.float32))
        return weight_C / weight_C.mean()

    def batch(self, indices: NDArray[Any], style_choice: NDArray[Any], style: StyleSource) -> LatentBatch:
        """The windows `indices` (B,) on the CPU; `style_choice` (B,) picks one of the K other segments of each."""
        match style:
            case StyleSource.TARGET_WINDOW:
                clap = self.clap_leak_NE[indices]
            case StyleSource.OTHER_SEGMENT:
                clap = self.clap_audio_NKE[indices, style_choice]
        given = torch.ones(len(indices), dtype=torch.bool)
        return LatentBatch(
            self._standard_rows(self.target_NCT, indices),
            self._standard_rows(self.context_NCT, indices),
            torch.from_numpy(clap).float(),
            given,
            given,
        )

    def _standard_rows(self, raw_NCT: NDArray[Any], indices: NDArray[Any]) -> Tensor:
        """What `standardise` makes of these rows, in the place that they were gathered into.

        NumPy gathers the rows as they are stored and torch widens them: each does its part several times faster.
        """
        rows_BCT = torch.from_numpy(raw_NCT[indices]).float()
        return rows_BCT.sub_(_column(self.mean_C, rows_BCT)).mul_(SIGMA_DATA / _column(self.std_C, rows_BCT))

    def standardise(self, latent_BCT: Tensor) -> Tensor:
        """Raw latents to what networks see: mean 0, standard deviation 0.5 per channel."""
        return standardise(latent_BCT, self.mean_C, self.std_C)

    def restore(self, latent_BCT: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return restore(latent_BCT, self.mean_C, self.std_C)


def standardise(latent_BCT: Tensor, mean_C: NDArray[Any], std_C: NDArray[Any]) -> Tensor:
    """Raw codec latents (B, C, T) scaled to mean 0 and standard deviation 0.5 per channel (EDM2's latent recipe)."""
    return (latent_BCT - _column(mean_C, latent_BCT)) * (SIGMA_DATA / _column(std_C, latent_BCT))


def restore(latent_BCT: Tensor, mean_C: NDArray[Any], std_C: NDArray[Any]) -> Tensor:
    """The raw codec latents that `standardise` would have turned into these."""
    return latent_BCT * (_column(std_C, latent_BCT) / SIGMA_DATA) + _column(mean_C, latent_BCT)


def require_finite(windows: NDArray[Any], **values: Tensor) -> None:
    """Raise ValueError naming the windows (B,) of which a value (B, ...) is NaN or infinite."""
    for name, value in values.items():
        finite_B = value.flatten(1).sum(1).isfinite()
        if not finite_B.all():
            raise ValueError(
                f"{name} of the windows in rows {windows[~finite_B.numpy()].tolist()} of the training set are NaN or "
                "infinite, expected finite numbers; encode and embed those windows again, or leave them out"
            )


def _column(values_C: NDArray[Any], like: Tensor) -> Tensor:
    return torch.from_numpy(np.array(values_C, dtype=np.float32))[:, None].to(like.device)


def _shape(name: str, array: NDArray[Any], rank: int) -> tuple[int, ...]:
    if array.ndim != rank or 0 in array.shape:
        raise ValueError(f"{name} must be a non-empty array of rank {rank}, got shape {array.shape}")
    return tuple(array.shape)


def _expect(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if tuple(array.shape) != shape:
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}, but the other arrays call for {shape}; "
            "pack latents and embeddings of the same windows, encoded with one codec"
        )
