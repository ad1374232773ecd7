"""How far the nearest other references of each reference lie: exact radii, in one pass or from shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from metrics.coarse_distances import UNDERFLOW, Coarse, Frame, blocks, frame_of, selected_pairs, squared_distances
from metrics.embeddings import Checked, Floats, Space, Vectors, checked

# Shapes: N references, D width of the space, K neighbours, B rows of a block, P pairs measured again, G groups.

LARGEST_K = 10  # audio-metrics' largest neighbourhood; radii up to it cost one pass
WITNESS_GROUPS = 64  # groups of references, the nearest of each of which bounds how far a row's neighbours reach


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """References with the squared distances to their nearest other references, nearest first, exact in float64."""

    rows: Checked
    frame: Frame
    coarse: Coarse
    squared_radii_NK: NDArray[np.float64]

    @property
    def width(self) -> int:
        return self.rows.width

    @property
    def space(self) -> Space | None:
        return self.rows.space

    def require(self, k: int) -> None:
        """Nothing if radii are known for neighbourhoods of `k`; an error otherwise."""
        if k > self.squared_radii_NK.shape[1]:
            known = self.squared_radii_NK.shape[1]
            raise ValueError(f"k = {k}, but the radii of the references go to k = {known}; compute them for {k}")


NeighbourhoodsLike: TypeAlias = Vectors | Neighbourhoods
"""A reference set, or its radii computed once and used again."""


def neighbourhoods(reference: Vectors, largest_k: int = LARGEST_K) -> Neighbourhoods:
    """The radii of every reference for k = 1 … `largest_k`, the reference itself excluded."""
    return merged_neighbourhoods(reference, [squared_radii(reference, slice(None), largest_k)])


def squared_radii(reference: Vectors, shard: slice, largest_k: int = LARGEST_K) -> NDArray[np.float64]:
    """Squared distances (rows of the shard, K) of its rows to their nearest other references, nearest first."""
    rows = checked(reference, what="reference of density and coverage")
    count = len(rows.vectors_ND)
    if largest_k >= count:
        raise ValueError(f"k = {largest_k} with {count} references: k must be less; lower k or add references")
    # No more than k + 1 copies of a row can matter: they fill each other's and everyone's k nearest.
    first_N, copy_N = _copies(rows.vectors_ND)
    kept = np.flatnonzero(copy_N <= largest_k)
    kept_ND = rows.vectors_ND[kept]
    coarse = frame_of(kept_ND).coarse(kept_ND)
    distinct, of_row = np.unique(first_N[shard], return_inverse=True)
    own: NDArray[np.intp] = np.searchsorted(kept, np.asarray(distinct))
    radii = [_radii(kept_ND, coarse, own[block], largest_k) for block in blocks(len(own), len(kept))]
    return np.concatenate(radii)[of_row]


def merged_neighbourhoods(reference: Vectors, radii: Sequence[NDArray[np.float64]]) -> Neighbourhoods:
    """The references with the `squared_radii` of shards in the order of their rows: bit for bit those of one pass."""
    rows = checked(reference, what="reference of density and coverage")
    squared_radii_NK = np.concatenate(radii)
    if len(squared_radii_NK) != len(rows.vectors_ND):
        raise ValueError(
            f"radii of {len(squared_radii_NK)} rows for {len(rows.vectors_ND)} references; give every shard"
        )
    frame = frame_of(rows.vectors_ND)
    return Neighbourhoods(rows, frame, frame.coarse(rows.vectors_ND), squared_radii_NK)


def _copies(vectors_ND: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Per row, the first row that it equals (often itself), and how many equal rows stand before it."""
    rows = np.ascontiguousarray(vectors_ND + 0.0)  # −0 and 0 are one number but not the same bytes
    bytes_N = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    _, first_G, group_N = np.unique(bytes_N, return_index=True, return_inverse=True)
    order_N = np.argsort(group_N, kind="stable")
    start_G = np.searchsorted(group_N[order_N], np.arange(len(first_G)))
    copy_N = np.empty(len(rows), np.intp)
    copy_N[order_N] = np.arange(len(rows)) - start_G[group_N[order_N]]
    return first_G[group_N], copy_N


def _radii(vectors_ND: Floats, coarse: Coarse, own_B: NDArray[np.intp], largest_k: int) -> NDArray[np.float64]:
    """Squared distances (B, K) of the rows `own_B` to the nearest other rows, nearest first."""
    own = coarse.only(own_B)
    nearness_BN = own.vectors_ND @ coarse.vectors_ND.T
    nearness_BN -= (1 - coarse.slack) / 2 * coarse.square_N
    in_block = np.arange(len(nearness_BN))
    nearness_BN[in_block, own_B] = -np.inf
    reach_B = _reach(nearness_BN, coarse, largest_k) - coarse.slack * own.square_N - np.float32(UNDERFLOW)
    row_P, other_P = selected_pairs(nearness_BN >= reach_B[:, None])
    squared_P = squared_distances(vectors_ND, own_B[row_P], vectors_ND, other_P)
    order_P = np.lexsort((squared_P, row_P))
    first_B = np.searchsorted(row_P, in_block)
    return squared_P[order_P][first_B[:, None] + np.arange(largest_k)]


def _reach(nearness_BN: NDArray[np.float32], coarse: Coarse, k: int) -> NDArray[np.float32]:
    """Per row, a nearness that at least k others surely have: the k-th best among the best of each group."""
    rows, count = nearness_BN.shape
    groups = min(count, max(WITNESS_GROUPS, k + 1))  # a row itself may be all of one group
    size = count // groups
    best_BG = nearness_BN[:, : groups * size].reshape(rows, groups, size).argmax(axis=2) + np.arange(groups) * size
    sure_BG = np.take_along_axis(nearness_BN, best_BG, axis=1) - coarse.slack * coarse.square_N[best_BG]
    return np.partition(sure_BG, groups - k, axis=1)[:, groups - k]
