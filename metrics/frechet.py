"""The Fréchet audio distance between two sets of embeddings, exact also for fewer rows than dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from metrics.embeddings import Floats, Space, Vectors, checked, require_one_space

# Shapes: N set size, D width of the space, R rows of a covariance root, B rows of a block.

BLOCK_ROWS = 4096  # rows in float64 at once: 16 MB at D = 512
LEAST_RECIPROCAL_CONDITION = 1e-5  # of a Cholesky root; a worse one may cost the distance more than 1e-10 of the traces
EIGENVALUE_ROUNDINGS = 8.0  # of the largest eigenvalue: the error that LAPACK's symmetric solver leaves in each
OVERLAP_TOLERANCE = 2e-10  # error allowed by that, relative to the geometric mean of the traces


def frechet_distance(reference: GaussianLike, candidate: GaussianLike) -> float:
    """||m1 − m2||² + tr S1 + tr S2 − 2 tr (S1 S2)^½ of the Gaussians fitted to both sets: a squared distance.

    With roots S = LᵀL the last trace is the nuclear norm of L1 L2ᵀ: real and non-negative, with no matrix square
    root and no regularisation. Covariances have ddof 1. Source: Kilgour et al. 2019; metrics.md A3, E.
    """
    a, b = as_gaussian(reference, "reference"), as_gaussian(candidate, "candidate")
    require_one_space(a, b)
    shift_D = a.mean_D - b.mean_D
    distance = shift_D @ shift_D + a.trace + b.trace - 2.0 * _overlap(a, b)
    return max(0.0, float(distance))  # a squared distance: what lies below zero is rounding, about 1e-15 of the traces


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance root of a set in float64: covariance = root_RDᵀ root_RD, with R = min(N, D) rows.

    Where N > D the root is an upper triangle: `_product_of_roots` relies on it.
    """

    mean_D: NDArray[np.float64]
    root_RD: NDArray[np.float64]
    count: int
    space: Space | None

    @property
    def width(self) -> int:
        return len(self.mean_D)

    @cached_property
    def trace(self) -> float:
        """The trace of the covariance."""
        return float(np.square(self.root_RD).sum())


GaussianLike: TypeAlias = Vectors | Gaussian
"""A set, or the Gaussian fitted to it once and used again."""


def gaussian(vectors: Vectors, what: str = "the set") -> Gaussian:
    """The Gaussian of a set of at least two rows."""
    rows = checked(vectors, what=f"{what} of the Fréchet distance", at_least=2)
    count = len(rows.vectors_ND)
    # The first mean rounds at the size of a common offset, the second, of the differences to it, at their own.
    near_D = rows.vectors_ND.mean(axis=0, dtype=np.float64)
    root_RD, rest_D = _root_and_mean(rows.vectors_ND, near_D)
    return Gaussian(near_D + rest_D, root_RD / np.sqrt(count - 1), count, rows.space)


def merged_gaussian(parts: Sequence[Gaussian]) -> Gaussian:
    """The Gaussian of all rows together, from those of disjoint shards; to the last bit the same in any order.

    Roots are stacked with the differences of means, which keeps every digit that the shards have: no covariance is
    formed. Source: the pairwise update of Chan, Golub & LeVeque 1983, with roots in place of scatters.
    """
    if not parts:
        raise ValueError("no shards to merge: a Gaussian needs at least one")
    first, *others = sorted(parts, key=lambda part: (part.count, part.mean_D.tobytes(), part.root_RD.tobytes()))
    for other in others:
        require_one_space(first, other)
        first = _merged_pair(first, other)
    return first


def _merged_pair(a: Gaussian, b: Gaussian) -> Gaussian:
    count = a.count + b.count
    shift_D = b.mean_D - a.mean_D
    stacked_RD = np.vstack(
        [
            np.sqrt(a.count - 1) * a.root_RD,
            np.sqrt(b.count - 1) * b.root_RD,
            np.sqrt(a.count * b.count / count) * shift_D[None],
        ]
    )
    root_RD = np.linalg.qr(stacked_RD, mode="r") if len(stacked_RD) > a.width else stacked_RD
    return Gaussian(a.mean_D + shift_D * (b.count / count), root_RD / np.sqrt(count - 1), count, a.space)


def _root_and_mean(vectors_ND: Floats, near_D: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R with RᵀR the scatter, and the mean less `near_D`. R is a triangle, or the centred rows where they are few."""
    count, width = vectors_ND.shape
    if count <= width:
        shifted_ND = vectors_ND - near_D
        rest_D = shifted_ND.mean(axis=0)
        return shifted_ND - rest_D, rest_D
    scatter_DD, rest_D = np.zeros((width, width), order="F"), np.zeros(width)  # LAPACK reads columns first
    for block_BD in _blocks(vectors_ND):
        shifted_BD = block_BD - near_D
        scatter_DD = blas.dsyrk(1.0, shifted_BD.T, beta=1.0, c=scatter_DD, overwrite_c=True)  # the upper triangle
        rest_D += shifted_BD.sum(axis=0) / count
    scatter_DD -= count * np.outer(rest_D, rest_D).T  # columns first, too
    root_DD, failed = lapack.dpotrf(scatter_DD, clean=True)
    if not failed and lapack.dtrcon(root_DD)[0] > LEAST_RECIPROCAL_CONDITION:
        return root_DD, rest_D
    # The scatter has lost its small directions: take the root from the rows, at four times the cost.
    root_RD = np.empty((0, width))
    for block_BD in _blocks(vectors_ND):
        stacked_RD = np.vstack([root_RD, (block_BD - near_D) - rest_D])
        root_RD = np.asarray(np.linalg.qr(stacked_RD, mode="r"))
    return root_RD, rest_D


def _overlap(a: Gaussian, b: Gaussian) -> float:
    """tr (S1 S2)^½, the nuclear norm of root_a root_bᵀ."""
    scale = np.sqrt(a.trace * b.trace)
    if scale == 0:
        return 0.0
    product_RR = _product_of_roots(a, b) / scale
    squared_R = _squared_singular_values(product_RR)
    # Eigenvalues of the squared product cost a third of its singular values, but each is only good to `error`.
    error = EIGENVALUE_ROUNDINGS * np.finfo(np.float64).eps * float(squared_R.max())
    if squared_R.min() > error and error * (0.5 / np.sqrt(squared_R)).sum() < OVERLAP_TOLERANCE:
        return float(scale * np.sqrt(squared_R).sum())
    return float(scale * np.linalg.svd(product_RR, compute_uv=False).sum())


def _product_of_roots(a: Gaussian, b: Gaussian) -> NDArray[np.float64]:
    """root_a root_bᵀ, at half the cost where both are triangles."""
    if a.count > a.width and b.count > b.width:
        return np.asarray(blas.dtrmm(1.0, b.root_RD, a.root_RD, side=1, trans_a=1))
    return a.root_RD @ b.root_RD.T


def _squared_singular_values(product_RR: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the smaller side; all of them, the smallest ones only roughly. These LAPACK calls are a quarter faster."""
    wide = product_RR.shape[0] < product_RR.shape[1]
    squares = blas.dsyrk(1.0, product_RR, trans=not wide, lower=1)
    if len(squares) == 1:
        return squares[0]
    diagonal_R, beside_R = lapack.dsytrd(squares, lower=1, lwork=32 * len(squares), overwrite_a=True)[1:3]
    squared_R, failed = lapack.dsterf(diagonal_R, beside_R, overwrite_d=True, overwrite_e=True)
    if failed:
        raise np.linalg.LinAlgError(f"{failed} of {len(squares)} eigenvalues of the Fréchet distance did not converge")
    return np.asarray(squared_R)


def _blocks(vectors_ND: Floats) -> Iterator[Floats]:
    for start in range(0, len(vectors_ND), BLOCK_ROWS):
        yield vectors_ND[start : start + BLOCK_ROWS]


def as_gaussian(vectors: GaussianLike, what: str) -> Gaussian:
    """The Gaussian of a set, or the one that is given; `what` names the set in errors."""
    return vectors if isinstance(vectors, Gaussian) else gaussian(vectors, what)
