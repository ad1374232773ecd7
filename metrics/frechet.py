"""The Fréchet audio distance between two sets of embeddings, exact also for fewer rows than dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from metrics.embeddings import Space, Vectors, checked, require_one_space

# Shapes: N set size, D width of the space, R rows of a covariance root.


def frechet_distance(reference: GaussianLike, candidate: GaussianLike) -> float:
    """||m1 − m2||² + tr S1 + tr S2 − 2 tr (S1 S2)^½ of the Gaussians fitted to both sets: a squared distance.

    With roots S = LᵀL the last trace is the nuclear norm of L1 L2ᵀ: real and non-negative, with no matrix square
    root and no regularisation. Covariances have ddof 1. Source: Kilgour et al. 2019; metrics.md A3, E.
    """
    a, b = _as_gaussian(reference, "reference"), _as_gaussian(candidate, "candidate")
    require_one_space(a, b)
    shift_D = a.mean_D - b.mean_D
    overlap = np.linalg.svd(a.root_RD @ b.root_RD.T, compute_uv=False).sum()
    distance = shift_D @ shift_D + a.trace + b.trace - 2.0 * overlap
    return max(0.0, float(distance))  # a squared distance: what lies below zero is rounding, about 1e-15 of the traces


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance root of a set in float64: covariance = root_RDᵀ root_RD, with R = min(N, D) rows."""

    mean_D: NDArray[np.float64]
    root_RD: NDArray[np.float64]
    count: int
    space: Space | None

    @property
    def width(self) -> int:
        return len(self.mean_D)

    @property
    def trace(self) -> float:
        """The trace of the covariance."""
        return float(np.square(self.root_RD).sum())


GaussianLike: TypeAlias = Vectors | Gaussian
"""A set, or the Gaussian fitted to it once and used again."""


def gaussian(vectors: Vectors, what: str = "the set") -> Gaussian:
    """The Gaussian of a set of at least two rows."""
    rows = checked(vectors, what=f"{what} of the Fréchet distance", at_least=2)
    # Both means are taken of differences to a row, so that a large common offset costs no digits.
    origin_D = rows.vectors_ND[0].astype(np.float64)
    shifted_ND = rows.vectors_ND - origin_D
    mean_D = shifted_ND.mean(axis=0)
    shifted_ND -= mean_D
    count, width = shifted_ND.shape
    root_RD = np.linalg.qr(shifted_ND, mode="r") if count > width else shifted_ND
    return Gaussian(origin_D + mean_D, root_RD / np.sqrt(count - 1), count, rows.space)


def _as_gaussian(vectors: GaussianLike, what: str) -> Gaussian:
    return vectors if isinstance(vectors, Gaussian) else gaussian(vectors, what)
