"""What every candidate set asks of one reference set, computed once: kept as arrays, or merged from shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.embeddings import Vectors, checked
from metrics.frechet import Gaussian, gaussian, merged_gaussian
from metrics.kernel import KernelSet, kernel_set, kernel_sum, merged_kernel_set
from metrics.neighbourhoods import LARGEST_K, Neighbourhoods, merged_neighbourhoods, neighbourhoods, squared_radii

# Shapes: N references, B of them in a shard, D width of the space, R rows of a covariance root, K neighbours.


class ReferenceState(NamedTuple):
    """Mean and covariance root for FAD, the kernel sum for KD, and radii for density and coverage.

    `neighbourhoods` is None where nobody asks how candidates lie among the references: of mixtures.
    """

    gaussian: Gaussian
    kernel: KernelSet
    neighbourhoods: Neighbourhoods | None

    @property
    def around(self) -> Neighbourhoods:
        """The neighbourhoods; an error where there are none."""
        if self.neighbourhoods is None:
            raise ValueError("these references are without neighbourhoods: compute their state with a largest_k")
        return self.neighbourhoods

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """All that was computed, without the references themselves: what `kept_state` needs beside them."""
        kept = {
            "mean_D": self.gaussian.mean_D,
            "root_RD": self.gaussian.root_RD,
            "mean_within": np.array(self.kernel.mean_within),
        }
        return (
            kept if self.neighbourhoods is None else kept | {"squared_radii_NK": self.neighbourhoods.squared_radii_NK}
        )


def reference_state(vectors: Vectors, what: str = "reference", *, largest_k: int | None = LARGEST_K) -> ReferenceState:
    """The state of a set of at least two references; without neighbourhoods where `largest_k` is None."""
    around = None if largest_k is None else neighbourhoods(vectors, largest_k)
    return ReferenceState(gaussian(vectors, what), kernel_set(vectors, what), around)


def kept_state(vectors: Vectors, arrays: Mapping[str, NDArray[Any]]) -> ReferenceState:
    """The state whose `arrays` these are, of the same references: to the last bit what was kept."""
    rows = checked(vectors, what="kept references", at_least=2)
    mean_D = arrays["mean_D"]
    if mean_D.shape != (rows.width,):
        raise ValueError(
            f"kept references are {rows.width} wide, what was kept of them {len(mean_D)}; compute it again"
        )
    radii_NK = arrays.get("squared_radii_NK")
    return ReferenceState(
        Gaussian(mean_D, arrays["root_RD"], len(rows.vectors_ND), rows.space),
        KernelSet(rows.vectors_ND, float(arrays["mean_within"].item()), rows.space),
        None if radii_NK is None else merged_neighbourhoods(vectors, [radii_NK]),
    )


class ShardState(NamedTuple):
    """What one shard of the references adds to the state of all."""

    gaussian: Gaussian
    kernel_sum: float
    squared_radii_BK: NDArray[np.float64] | None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it as arrays, from which `kept_shard` makes it again on another machine."""
        kept = {
            "mean_D": self.gaussian.mean_D,
            "root_RD": self.gaussian.root_RD,
            "count": np.array(self.gaussian.count),
            "kernel_sum": np.array(self.kernel_sum),
        }
        return kept if self.squared_radii_BK is None else kept | {"squared_radii_BK": self.squared_radii_BK}


def shard_state(vectors: Vectors, shard: slice, *, largest_k: int | None = LARGEST_K) -> ShardState:
    """The part of a shard of at least two rows; it reads all references but does only its own rows' work."""
    rows = checked(vectors, what="sharded references", at_least=2)
    return ShardState(
        gaussian(rows.vectors_ND[shard], f"the shard {shard.start}:{shard.stop}"),
        kernel_sum(vectors, shard),
        None if largest_k is None else squared_radii(vectors, shard, largest_k),
    )


def kept_shard(arrays: Mapping[str, NDArray[Any]]) -> ShardState:
    """The shard whose `arrays` these are; its space is that of the references it is merged with."""
    fitted = Gaussian(arrays["mean_D"], arrays["root_RD"], int(arrays["count"].item()), None)
    return ShardState(fitted, float(arrays["kernel_sum"].item()), arrays.get("squared_radii_BK"))


def merged_reference_state(vectors: Vectors, shards: Sequence[ShardState]) -> ReferenceState:
    """The state of all references from shards in the order of their rows.

    What `reference_state` gives: mean, root and kernel sum to rounding, radii bit for bit.
    """
    rows = checked(vectors, what="sharded references", at_least=2)
    radii = [shard.squared_radii_BK for shard in shards if shard.squared_radii_BK is not None]
    return ReferenceState(
        replace(merged_gaussian([shard.gaussian for shard in shards]), space=rows.space),
        merged_kernel_set(vectors, [shard.kernel_sum for shard in shards]),
        merged_neighbourhoods(vectors, radii) if radii else None,
    )
