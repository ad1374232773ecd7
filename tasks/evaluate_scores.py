"""Judging anyone's audio: generated stems against real ones, without training anything.

from pathlib import Path
from tasks.evaluate_scores import Material, evaluate
from tasks.runtime import Runtime

judged = evaluate(
    Material(candidates=(Path("generated"),), references=Path("stems")), runtime=Runtime(workspace="workspace")
)
print(judged.table.cell("generated", "audio", "fad"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_manifests.schema import Quarantined
from metrics.embeddings import EmbeddingSet
from metrics.protocol import PROFILES, Protocol
from metrics.score import CandidateSet, ReferenceSet, score_row
from metrics.table import Score, ScoreTable
from models.clap import LaionClapRecipe
from tasks.artifact import Artifact
from tasks.clap import ImportLaionClap, ImportShippedClap, ShippedClapRecipe
from tasks.embeddings import Embeddings
from tasks.evaluate_audio import heard_audio
from tasks.evaluate_material import Heard, Material, is_vectors
from tasks.evaluate_secondary import Ear, Picked, load_ears, secondary_scores
from tasks.evaluate_sizes import RealAgainstReal, fitted, real_against_real, smaller_than
from tasks.evaluate_vectors import heard_vectors
from tasks.judge import in_space
from tasks.provenance import Provenance
from tasks.runtime import Runtime, code_version
from tasks.store import Store

SHOWN_LEFT_OUT = 20


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How material is judged: a profile's name, and what a person may choose beside it.

    `batches` None: as many of the profile's size as can be filled. `seed` draws the order of candidates and which
    references are taken where there are more than the profile's. `secondary` has the checkpoint folders of the
    embedders (`tasks.secondary_fad.EMBEDDERS`) in whose spaces FAD is measured too.
    """

    profile: str = "paper"
    batches: int | None = None
    clips_per_file: int = 1
    seed: int = 0
    secondary: Mapping[str, Path] = field(default_factory=dict)

    def protocol(self) -> Protocol:
        """The profile with these clips. Raises ValueError for a name that there is not."""
        if self.profile not in PROFILES:
            raise ValueError(f"there is no profile {self.profile!r}; there are {', '.join(PROFILES)}")
        if self.clips_per_file < 1 or (self.batches is not None and self.batches < 1):
            raise ValueError(
                f"{self.clips_per_file} clips per file and {self.batches} batches; each must be at least 1"
            )
        return replace(PROFILES[self.profile], windows_per_track=self.clips_per_file)


AS_THE_PAPER = Rules()


class Evaluation(NamedTuple):
    """The scores, what they are of, what real stems score at these sizes, and all that a reader must be told."""

    table: ScoreTable
    provenance: Provenance
    real: RealAgainstReal | None
    smaller: str | None
    blank: dict[str, str]
    left_out: dict[str, list[Quarantined]]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The remarks below the table."""
        lines = [f"blank: {_METRIC_NAMES[metric]}: {why}" for metric, why in self.blank.items()]
        if self.smaller:
            lines.append(f"warning: {self.smaller}: compare equal sizes only")
        lines.append(f"to expect: {self.real.told()}" if self.real else _NO_REAL)
        lines += [f"note: {note}" for note in self.notes]
        for what, left_out in self.left_out.items():
            lines += [f"left out of {what}: {one.path}: {one.reason}" for one in left_out[:SHOWN_LEFT_OUT]]
            if len(left_out) > SHOWN_LEFT_OUT:
                lines.append(f"left out of {what}: {len(left_out) - SHOWN_LEFT_OUT} more")
        return lines


def evaluate(
    material: Material,
    *,
    rules: Rules = AS_THE_PAPER,
    clap: ShippedClapRecipe | LaionClapRecipe,
    runtime: Runtime,
) -> Evaluation:
    """The scores of every candidate folder under one protocol; a metric whose material is missing is blank.

    Audio is embedded by `clap`, and kept in the workspace by its bytes; given embeddings have no use for it. Raises
    ValueError in one line for what cannot be judged.
    """
    profile = rules.protocol()
    ears = load_ears(rules.secondary, material)
    found = _heard(material, profile, clap, runtime)
    protocol = fitted(
        in_space(profile, found.references.space),
        candidates=min(len(arm.rows) for arm in found.arms.values()),
        references=len(found.references.rows),
        batches=rules.batches,
    )
    reference = _reference(found, protocol, rules.seed)
    drawn = {name: _drawn_candidates(arm, protocol, rules.seed) for name, arm in found.arms.items()}
    scores = [score for name, keys in drawn.items() for score in _scores(found, name, keys, reference, protocol)]
    picked = {name: Picked(path, drawn[name]) for name, path in material.arms().items()}
    others = Picked(material.references, reference.stems.ids)
    scores += secondary_scores(ears, picked, others, protocol, live=runtime.progress)
    tracks = {row.key: row.track for row in found.references.rows}
    return Evaluation(
        table=ScoreTable(protocol=protocol, scores=tuple(scores)),
        provenance=_provenance(material, found, rules.seed, ears),
        real=real_against_real(
            reference.stems, [tracks[key] for key in reference.stems.ids], protocol, seed=rules.seed
        ),
        smaller=smaller_than(profile, protocol),
        blank=found.blank,
        left_out=found.left_out,
        notes=(*found.notes, *_shared(found), *_unjudged(found, protocol)),
    )


_METRIC_NAMES = {"apa": "APA", "cs_aa": "CS_AA", "cs_ta": "CS_TA"}
_NO_REAL = "warning: too few references, or of one song alone, to say what real stems would score at these sizes"


def _heard(
    material: Material, profile: Protocol, recipe: ShippedClapRecipe | LaionClapRecipe, runtime: Runtime
) -> Heard:
    if not material.candidates:
        raise ValueError("there are no candidates; give a folder of generated stems")
    are_vectors = {path: is_vectors(path) for path in (*material.candidates, material.references)}
    if len(set(are_vectors.values())) > 1:
        told = ", ".join(f"{path} is {'embeddings' if vectors else 'audio'}" for path, vectors in are_vectors.items())
        raise ValueError(f"{told}; give audio on both sides, or embeddings on both")
    if are_vectors[material.references]:
        return heard_vectors(material)
    return heard_audio(material, profile, _clap(recipe, runtime), runtime)


def _clap(recipe: ShippedClapRecipe | LaionClapRecipe, runtime: Runtime) -> Artifact:
    step = ImportLaionClap(recipe=recipe) if isinstance(recipe, LaionClapRecipe) else ImportShippedClap(recipe=recipe)
    return Store(runtime.root / "artifacts").build(step, runtime)


def _reference(found: Heard, protocol: Protocol, seed: int) -> ReferenceSet:
    rows, mispaired = found.references, found.mispaired
    keys = [row.key for row in rows.rows]
    chosen = _drawn(keys, protocol.reference_size, seed)
    return ReferenceSet(
        stems=_set(rows, "stem_NE", chosen, "stem"),
        mixtures=_mixtures(rows, chosen) if mispaired else None,
        mispaired=_mixtures(mispaired, chosen) if mispaired else None,
    )


def _drawn_candidates(arm: Embeddings, protocol: Protocol, seed: int) -> list[str]:
    """The candidates that are judged, in a drawn order, so that no batch is of the first songs alone."""
    return _drawn([row.key for row in arm.rows], protocol.batches * protocol.batch_size, seed)


def _scores(
    found: Heard, name: str, keys: Sequence[str], reference: ReferenceSet, protocol: Protocol
) -> tuple[Score, ...]:
    arm = found.arms[name]
    candidates = CandidateSet(
        stems=_set(arm, "stem_NE", keys, "stem"),
        mixtures=_mixtures(arm, keys) if "mixture_NWE" in arm.arrays else None,
        target_audio=_set(arm, "target_NE", keys, "stem") if "target_NE" in arm.arrays else None,
        target_text=_set(arm, "text_NE", keys, "text") if "text_NE" in arm.arrays else None,
    )
    return score_row(reference, candidates, protocol, arm=name, inputs=found.kind)


def _drawn(keys: Sequence[str], count: int, seed: int) -> list[str]:
    return [keys[place] for place in np.random.default_rng(seed).permutation(len(keys))[:count]]


def _set(rows: Embeddings, array: str, keys: Sequence[str], content: str) -> EmbeddingSet:
    return EmbeddingSet(vectors_ND=rows.of(array, keys), ids=tuple(keys), space=rows.space, content=content)


def _mixtures(rows: Embeddings, keys: Sequence[str]) -> EmbeddingSet:
    """Every window of every mixture as a row of its own."""
    vectors_NWE = rows.of("mixture_NWE", keys)
    ids = tuple(f"{key}/{window}" for key in keys for window in range(vectors_NWE.shape[1]))
    flat_ND = vectors_NWE.reshape(-1, vectors_NWE.shape[2])
    return EmbeddingSet(vectors_ND=flat_ND, ids=ids, space=rows.space, content="mixture")


def _shared(found: Heard) -> list[str]:
    """A caution for every arm of which something is also a reference."""
    real = {row_E.tobytes() for row_E in found.references.arrays["stem_NE"]}
    equal = {name: sum(row_E.tobytes() in real for row_E in arm.arrays["stem_NE"]) for name, arm in found.arms.items()}
    return [
        f"{name}: {count} candidates are among the references too; a set judged against itself looks perfect"
        for name, count in equal.items()
        if count
    ]


def _unjudged(found: Heard, protocol: Protocol) -> list[str]:
    """What there is beyond the sizes of the protocol."""
    judged = protocol.batches * protocol.batch_size
    counts = {name: (len(arm.rows), judged) for name, arm in found.arms.items()}
    counts["references"] = (len(found.references.rows), protocol.reference_size)
    return [
        f"{what}: {taken:,} of {there:,} are drawn and judged"
        for what, (there, taken) in counts.items()
        if there > taken
    ]


def _provenance(material: Material, found: Heard, seed: int, ears: Mapping[str, Ear]) -> Provenance:
    code = code_version()
    names = ", ".join(material.arms())
    return Provenance(
        name=names,
        scale="",
        corpus=f"{names} against {material.references.resolve().name}, given as {found.kind}",
        corpus_digest=found.digest,
        codecs={},
        seed=seed,
        code_version=f"{code['commit']}{' with uncommitted changes' if code['dirty'] else ''}",
        secondary={name: ear.weights_sha256 for name, ear in ears.items()},
    )
