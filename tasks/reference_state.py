"""What every row asks of the references, computed once for all rows: means, roots, kernel sums, radii."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import load_file, save_file

from metrics.embeddings import EmbeddingSet
from metrics.reference_state import ReferenceState, kept_state
from metrics.score import ReferenceSet
from tasks.artifact import Artifact
from tasks.embed import load_embeddings
from tasks.embedding_sets import mixtures_of, set_of, shared_keys
from tasks.lost_shards import hand_on_lost
from tasks.runtime import Runtime
from tasks.step import Step

STATE = "state.safetensors"


@dataclass(frozen=True, kw_only=True)
class MeasureReferences(Step):
    """The state of the reference stems, of their mixtures and of the mispaired ones."""

    stage: ClassVar[str] = "reference-state"

    references: Artifact
    mispaired: Artifact

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        reference = reference_set(self.references, self.mispaired)
        states = reference.states()
        arrays = {f"{name}/{part}": array for name, state in states.items() for part, array in state.arrays().items()}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, out / STATE)
        hand_on_lost(out, self.references, self.mispaired)
        return {"references": len(reference.stems), "separation": reference.separation}


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
