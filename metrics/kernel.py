"""The kernel distance (polynomial MMD²) between two sets of embeddings, unbiased and therefore sometimes negative."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from metrics.embeddings import Floats, Space, Vectors, checked, require_one_space

# Shapes: N, M set sizes, D width of the space, K subsets.
# The kernel is k(x, y) = (t + 1)³ with t = x·y / D. Every sum below is of k − 1 = 3t + t²(3 + t): the constant drops
# out of the distance, and with it the cancellation that costs float32 implementations their digits.

BLOCK_PAIRS = 4_000_000  # products held at once: 16 MB in float32
FLOAT32_LIMIT = 0.05  # up to this |t| the curved part t²(3 + t) loses less than 5e-10 in float32
SUBSETS, SUBSET_SIZE, SUBSET_SEED = 100, 1000, 1234  # audio-metrics' protocol, metrics.md A2


def kernel_distance(reference: KernelLike, candidate: KernelLike) -> float:
    """Mean k over pairs within each set, minus twice its mean across: the full unbiased statistic, not clamped.

    Pairs of a row with itself are left out within a set; all N·M pairs count across, as in audio-metrics and
    torch-fidelity. Source: Bińkowski et al. 2018; metrics.md A2.
    """
    a, b = _as_kernel_set(reference, "reference"), _as_kernel_set(candidate, "candidate")
    require_one_space(a, b)
    across = _cross_sums(a.vectors_ND, _everything(a), b.vectors_ND, _everything(b))[0]
    return float(a.mean_within + b.mean_within - 2.0 * across / (len(a.vectors_ND) * len(b.vectors_ND)))


class SubsetDistance(NamedTuple):
    """Mean and (population) standard deviation of the kernel distance over random subsets."""

    mean: float
    std: float


def kernel_distance_subsets(
    reference: Vectors,
    candidate: Vectors,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = SUBSET_SEED,
) -> SubsetDistance:
    """The kernel distance over the very subsets that audio-metrics draws, with float64 answers.

    A subset size not below the smaller set is halved to half of that set, as there: 1,000 candidates give
    100 subsets of 500. Each subset draws from the candidates first. Source: metrics.md A2.
    """
    a = checked(reference, what="reference of the kernel distance", at_least=4)
    b = checked(candidate, what="candidate of the kernel distance", at_least=4)
    require_one_space(a, b)
    smaller = min(len(a.vectors_ND), len(b.vectors_ND))
    size = subset_size if subset_size < smaller else smaller // 2
    if size < 2:
        raise ValueError(f"subset size {size}: a kernel distance needs subsets of at least 2 rows")
    b_KM, a_KN = _draw_subsets(len(b.vectors_ND), len(a.vectors_ND), subsets=subsets, size=size, seed=seed)
    within_K = _sums_within(a.vectors_ND, a_KN) + _sums_within(b.vectors_ND, b_KM)
    across_K = _cross_sums(a.vectors_ND, a_KN, b.vectors_ND, b_KM)
    distance_K = within_K / (size * (size - 1)) - 2.0 * across_K / size**2
    return SubsetDistance(float(distance_K.mean()), float(distance_K.std()))


@dataclass(frozen=True, eq=False)
class KernelSet:
    """A set with its mean of k − 1 over pairs of different rows: the part that is the same for every candidate."""

    vectors_ND: Floats
    mean_within: float
    space: Space | None

    @property
    def width(self) -> int:
        return int(self.vectors_ND.shape[1])


KernelLike: TypeAlias = Vectors | KernelSet
"""A set, or the kernel sum of it computed once and used again."""


def kernel_set(vectors: Vectors, what: str = "the set") -> KernelSet:
    """A set of at least two rows with its own kernel sum."""
    rows = checked(vectors, what=f"{what} of the kernel distance", at_least=2)
    count = len(rows.vectors_ND)
    total = _sums_within(rows.vectors_ND, np.ones((1, count), np.float32))[0]
    return KernelSet(rows.vectors_ND, float(total) / (count * (count - 1)), rows.space)


def kernel_sum(vectors: Vectors, shard: slice) -> float:
    """The sum of k − 1 over pairs of a row of the shard with every other row of the set."""
    x_ND = checked(vectors, what="the set of the kernel distance", at_least=2).vectors_ND
    own_MD = x_ND[shard]
    square_M = np.einsum("md,md->m", own_MD, own_MD, dtype=np.float64) / x_ND.shape[1]
    itself = float((square_M * (3.0 + square_M * (3.0 + square_M))).sum())
    everyone = np.ones((1, len(own_MD)), np.float32), np.ones((1, len(x_ND)), np.float32)
    return float(_cross_sums(own_MD, everyone[0], x_ND, everyone[1])[0]) - itself


def merged_kernel_set(vectors: Vectors, sums: Sequence[float]) -> KernelSet:
    """The set with the `kernel_sum` of shards that together hold each row once; the order of `sums` changes nothing."""
    rows = checked(vectors, what="the set of the kernel distance", at_least=2)
    count = len(rows.vectors_ND)
    return KernelSet(rows.vectors_ND, math.fsum(sums) / (count * (count - 1)), rows.space)


def curved_sum(t_BN: NDArray[np.float32]) -> float:
    """The sum of t²(3 + t), the part of k − 1 that takes every pair; float32 adds up no more than a row."""
    square_BN = np.square(t_BN)
    squares_B, cubes_B = square_BN.sum(axis=1), np.einsum("bn,bn->b", square_BN, t_BN)
    return float((3.0 * squares_B + cubes_B).sum(dtype=np.float64))


def _as_kernel_set(vectors: KernelLike, what: str) -> KernelSet:
    return vectors if isinstance(vectors, KernelSet) else kernel_set(vectors, what)


def _everything(rows: KernelSet) -> NDArray[np.float32]:
    return np.ones((1, len(rows.vectors_ND)), np.float32)


def _draw_subsets(
    first: int, second: int, *, subsets: int, size: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Membership (K, first) and (K, second) of subsets drawn without replacement, alternating between the sets."""
    rng = np.random.default_rng(seed)
    members = np.zeros((subsets, first), np.float32), np.zeros((subsets, second), np.float32)
    for subset in range(subsets):
        for chosen_KN in members:
            chosen_KN[subset, rng.choice(chosen_KN.shape[1], size, replace=False)] = 1.0
    return members


def _sums_within(x_ND: Floats, member_KN: NDArray[np.float32]) -> NDArray[np.float64]:
    """Per subset, the sum of k − 1 over ordered pairs of different members."""
    square_N = np.einsum("nd,nd->n", x_ND, x_ND, dtype=np.float64) / x_ND.shape[1]
    diagonal_K = member_KN.astype(np.float64) @ (square_N * (3.0 + square_N * (3.0 + square_N)))
    scaled_ND = _scaled(x_ND, float(square_N.max()))
    blocks = list(_blocks(len(x_ND), len(x_ND)))
    curved_K = np.zeros(len(member_KN))
    for first, rows in enumerate(blocks):
        curved_K += _curved_sums(scaled_ND, scaled_ND, member_KN, member_KN, rows, rows)
        if first + 1 < len(blocks):
            above = slice(rows.stop, len(x_ND))  # the pairs below the diagonal blocks mirror those above
            curved_K += 2.0 * _curved_sums(scaled_ND, scaled_ND, member_KN, member_KN, rows, above)
    return _straight_sums(x_ND, member_KN, x_ND, member_KN) + curved_K - diagonal_K


def _cross_sums(
    x_ND: Floats, x_KN: NDArray[np.float32], y_MD: Floats, y_KM: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Per subset, the sum of k − 1 over all pairs of a member of x and a member of y."""
    largest = float(np.sqrt(_largest_square(x_ND) * _largest_square(y_MD))) / x_ND.shape[1]
    x_scaled_ND, y_scaled_MD = _scaled(x_ND, largest), _scaled(y_MD, largest)
    everyone = slice(0, len(y_MD))
    curved_K = np.zeros(len(x_KN))
    for rows in _blocks(len(x_ND), len(y_MD)):
        curved_K += _curved_sums(x_scaled_ND, y_scaled_MD, x_KN, y_KM, rows, everyone)
    return _straight_sums(x_ND, x_KN, y_MD, y_KM) + curved_K


def _straight_sums(
    x_ND: Floats, x_KN: NDArray[np.float32], y_MD: Floats, y_KM: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Per subset, the sum of 3t in float64: a product of sums, so the term that dominates carries no rounding."""
    x_KD = x_KN.astype(np.float64) @ x_ND.astype(np.float64, copy=False)
    y_KD = y_KM.astype(np.float64) @ y_MD.astype(np.float64, copy=False)
    return 3.0 * np.einsum("kd,kd->k", x_KD, y_KD) / x_ND.shape[1]


def _curved_sums(
    x_ND: Floats,
    y_MD: Floats,
    x_KN: NDArray[np.float32],
    y_KM: NDArray[np.float32],
    x_rows: slice,
    y_rows: slice,
) -> NDArray[np.float64]:
    """Per subset, the sum of t²(3 + t) over the block of pairs x_rows × y_rows; both sets divided by √D."""
    t = x_ND[x_rows] @ y_MD[y_rows].T
    curved = np.square(t)
    t += 3.0
    curved *= t
    per_row = curved @ y_KM[:, y_rows].T.astype(curved.dtype, copy=False)
    return np.einsum("nk,kn->k", per_row, x_KN[:, x_rows], dtype=np.float64)


def _scaled(x_ND: Floats, largest: float) -> Floats:
    """Rows over √D, so that products are t; in float32 where the largest |t| leaves it enough digits."""
    precision = np.float32 if largest <= FLOAT32_LIMIT else np.float64
    scaled_ND: Floats = x_ND.astype(precision)
    scaled_ND /= np.sqrt(x_ND.shape[1])
    return scaled_ND


def _largest_square(x_ND: Floats) -> float:
    return float(np.einsum("nd,nd->n", x_ND, x_ND, dtype=np.float64).max())


def _blocks(count: int, against: int) -> Iterator[slice]:
    """Row ranges whose products with `against` rows fit into one block."""
    step = max(1, BLOCK_PAIRS // against)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
