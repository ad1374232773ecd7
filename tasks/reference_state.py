"""What every row asks of the references, computed once for all rows: means, roots, kernel sums, radii."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, NamedTuple

import numpy as np
from safetensors.numpy import load_file, save, save_file
from threadpoolctl import threadpool_limits

from metrics.embeddings import EmbeddingSet
from metrics.reference_state import (
    ReferenceState,
    kept_shard,
    kept_state,
    merged_reference_state,
    shard_state,
)
from metrics.score import ReferenceSet, largest_neighbourhood
from tasks.artifact import Artifact
from tasks.cluster import fan_out
from tasks.embedding_sets import mixtures_of, set_of, shared_keys
from tasks.embeddings import load_embeddings
from tasks.lost_shards import hand_on_lost
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.whole_files import write_whole

STATE = "state.safetensors"
SHARD_ROWS = 1_000  # and up to twice as many; the same for any number of workers, as sums depend on where they are cut
_ALONE = Lock()  # the number of threads is that of a whole process, and a worker may run several pieces in one


@dataclass(frozen=True, kw_only=True)
class MeasureReferences(Step):
    """The state of the reference stems, of their mixtures and of the mispaired ones, merged from shards of each."""

    stage: ClassVar[str] = "reference-state"

    references: Artifact
    mispaired: Artifact

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        reference = reference_set(self.references, self.mispaired)
        shards = {name: _shards(out, name, len(rows)) for name, rows in reference.sets().items()}
        pieces = [(self.references, self.mispaired, shard) for of_set in shards.values() for shard in of_set]
        fan_out(runtime, _measure_shard, pieces, title="measure references")
        states = {name: _merged(rows, shards[name]) for name, rows in reference.sets().items()}
        arrays = {f"{name}/{part}": array for name, state in states.items() for part, array in state.arrays().items()}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, out / STATE)
        hand_on_lost(out, self.references, self.mispaired)
        return {"references": len(reference.stems), "separation": replace(reference, kept=states).separation}


class _Shard(NamedTuple):
    """Some rows of one of the sets, and the file that takes what they add to its state."""

    of: str
    rows: slice
    path: str


def _shards(out: Path, of: str, count: int) -> list[_Shard]:
    """Shards of SHARD_ROWS, of which the last takes what is left: none has too few rows for a covariance."""
    starts = [*range(0, max(1, count - SHARD_ROWS + 1), SHARD_ROWS), count]
    return [_Shard(of, slice(*ends), str(out / f"{of}-{ends[0]:08d}.safetensors")) for ends in pairwise(starts)]


def _measure_shard(piece: tuple[Artifact, Artifact, _Shard]) -> None:
    """Write what one shard adds to the state of its set, which every shard reads whole."""
    references, mispaired, shard = piece
    rows = reference_set(references, mispaired).sets()[shard.of]
    with _ALONE, threadpool_limits(1, user_api="blas"):  # the last digits of a covariance depend on the threads
        found = shard_state(rows, shard.rows, largest_k=largest_neighbourhood(rows))
    write_whole(Path(shard.path), save({name: np.ascontiguousarray(array) for name, array in found.arrays().items()}))


def _merged(rows: EmbeddingSet, shards: Sequence[_Shard]) -> ReferenceState:
    """The state of a set from its shards, whose files are dropped."""
    found = [kept_shard(load_file(shard.path)) for shard in shards]
    for shard in shards:
        Path(shard.path).unlink()
    with _ALONE, threadpool_limits(1, user_api="blas"):
        return merged_reference_state(rows, found)


def reference_set(references: Artifact, mispaired: Artifact, kept: Artifact | None = None) -> ReferenceSet:
    """The references, their mixtures, and the same stems with other tracks' contexts; with their state where kept."""
    true, wrong = load_embeddings(references), load_embeddings(mispaired)
    keys = shared_keys(true, wrong)
    stems = set_of(true.of("stem_NE", keys), keys, true.space, "stem")
    sets = {"stems": stems, "mixtures": mixtures_of(true, keys), "mispaired": mixtures_of(wrong, keys)}
    return ReferenceSet(**sets, kept=_states(kept, sets) if kept else {})


def _states(kept: Artifact, sets: dict[str, EmbeddingSet]) -> dict[str, ReferenceState]:
    arrays: defaultdict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for name, array in load_file(kept.path / STATE).items():
        of, part = name.split("/")
        arrays[of][part] = array
    return {of: kept_state(sets[of], parts) for of, parts in arrays.items()}
