"""One row of the table: candidates against references, batch by batch, under one protocol."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from metrics.adherence import adherence
from metrics.clap_score import clap_score
from metrics.embeddings import EmbeddingSet, Space
from metrics.frechet import frechet_distance, gaussian
from metrics.kernel import kernel_distance, kernel_distance_subsets, kernel_set
from metrics.neighbourhoods import LARGEST_K
from metrics.protocol import Protocol
from metrics.reference_state import ReferenceState, reference_state
from metrics.set_distances import set_distances
from metrics.table import Score

FAMILIES = ("kd", "fad", "density_coverage", "apa", "cs_aa", "cs_ta")
"""What a row can be asked for; `apa` brings `apa_kd_contrast` with it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceSet:
    """Real stems, their mixtures with their own contexts, and the same stems mixed with other tracks' contexts.

    Where no contexts are known there are no mixtures of either kind, and no row has adherence. What every row needs
    of a set is its state: from `kept` where it was computed before (by the name of the set), else computed when first
    asked for; the sets are read-only, so it never goes stale.
    """

    stems: EmbeddingSet
    mixtures: EmbeddingSet | None
    mispaired: EmbeddingSet | None
    kept: Mapping[str, ReferenceState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.mixtures is None) != (self.mispaired is None):
            raise ValueError("reference mixtures and mispaired references go together; give both or neither")
        _require_content(self.stems, "stem", "reference stems")
        _require_content(self.mixtures, "mixture", "reference mixtures")
        _require_content(self.mispaired, "mixture", "mispaired references")

    @cached_property
    def stem_state(self) -> ReferenceState:
        return self.kept.get("stems") or reference_state(self.stems, largest_k=largest_neighbourhood(self.stems))

    @cached_property
    def mixture_state(self) -> ReferenceState:
        return self.kept.get("mixtures") or _mixture_state(self.mixtures, "reference mixtures")

    @cached_property
    def mispaired_state(self) -> ReferenceState:
        return self.kept.get("mispaired") or _mixture_state(self.mispaired, "mispaired references")

    @cached_property
    def separation(self) -> float:
        """FAD(R, R'), the unit in which adherence is measured."""
        return frechet_distance(self.mixture_state.gaussian, self.mispaired_state.gaussian)

    def sets(self) -> dict[str, EmbeddingSet]:
        """Every set that there is, by the name under which `kept` takes its state."""
        named = {"stems": self.stems, "mixtures": self.mixtures, "mispaired": self.mispaired}
        return {name: rows for name, rows in named.items() if rows is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateSet:
    """What one row is judged by; row i of every set belongs to candidate i and bears its id.

    `mixtures` is None where no context was given (then there is no adherence) and may hold several windows per
    candidate, one after the other. `target_audio` and `target_text` are what CLAP scores compare the stems with.
    """

    stems: EmbeddingSet | None
    mixtures: EmbeddingSet | None
    target_audio: EmbeddingSet | None
    target_text: EmbeddingSet | None

    def __post_init__(self) -> None:
        if self.stems is None and self.mixtures is None:
            raise ValueError("a candidate set needs stems or mixtures; it has neither")
        _require_content(self.stems, "stem", "candidate stems")
        _require_content(self.mixtures, "mixture", "candidate mixtures")
        _require_content(self.target_audio, "stem", "target audio")
        _require_content(self.target_text, "text", "target text")
        for target, what in ((self.target_audio, "target audio"), (self.target_text, "target text")):
            if target is not None and self.stems is None:
                raise ValueError(f"{what} needs candidate stems to be compared with")
            if target is not None and self.stems is not None:
                _require_same_ids(self.stems, target, what)


def score_row(
    reference: ReferenceSet,
    candidates: CandidateSet,
    protocol: Protocol,
    *,
    arm: str,
    inputs: str,
    families: Collection[str] = FAMILIES,
) -> tuple[Score, ...]:
    """The raw scores of the first `protocol.batches` batches of candidates; what a row has no sets for is left out.

    `families` narrows what is computed: the bound of random accompaniments is made of real stems, whose KD would
    say nothing. Candidates beyond the last batch are not judged; each score says how many were.
    """
    unknown = set(families) - set(FAMILIES)
    if unknown:
        raise ValueError(f"no metric family {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    _require_protocol(reference, candidates, protocol)
    return tuple(
        Score(arm=arm, inputs=inputs, metric=metric, batch=batch, value=value, candidates=protocol.batch_size)
        for batch in range(protocol.batches)
        for metric, value in _batch_values(reference, _batch(candidates, protocol, batch), protocol, families)
    )


def _batch_values(
    reference: ReferenceSet, batch: CandidateSet, protocol: Protocol, families: Collection[str]
) -> Iterator[tuple[str, float]]:
    if batch.stems is not None:
        yield from _set_values(reference, batch.stems, protocol, families)
    if batch.mixtures is not None and "apa" in families:
        yield from _adherence_values(reference, batch.mixtures)
    if batch.stems is not None and batch.target_audio is not None and "cs_aa" in families:
        yield "cs_aa", clap_score(batch.stems, batch.target_audio)
    if batch.stems is not None and batch.target_text is not None and "cs_ta" in families:
        yield "cs_ta", clap_score(batch.stems, batch.target_text)


def _set_values(
    reference: ReferenceSet, stems: EmbeddingSet, protocol: Protocol, families: Collection[str]
) -> Iterator[tuple[str, float]]:
    if not {"kd", "fad", "density_coverage"} & set(families):
        return
    found = set_distances(reference.stem_state, stems, protocol.neighbours)
    if "kd" in families:
        yield "kd", _subset_distance(reference, stems, protocol) if protocol.kernel_subsets else found.kernel_distance
    if "fad" in families:
        yield "fad", found.frechet_distance
    if "density_coverage" in families:
        for k, value in found.densities_and_coverages.items():
            yield f"density_k{k}", value.density
            yield f"coverage_k{k}", value.coverage


def _subset_distance(reference: ReferenceSet, stems: EmbeddingSet, protocol: Protocol) -> float:
    subsets, size = protocol.kernel_subsets, protocol.kernel_subset_size
    return kernel_distance_subsets(reference.stems, stems, subsets=subsets, subset_size=size).mean


def _adherence_values(reference: ReferenceSet, mixtures: EmbeddingSet) -> Iterator[tuple[str, float]]:
    true, wrong = reference.mixture_state, reference.mispaired_state
    ours = gaussian(mixtures, "candidate mixtures")
    yield (
        "apa",
        adherence(
            to_reference=frechet_distance(true.gaussian, ours),
            to_mispaired=frechet_distance(wrong.gaussian, ours),
            separation=reference.separation,
        ),
    )
    kernel = kernel_set(mixtures, "candidate mixtures")
    yield "apa_kd_contrast", kernel_distance(wrong.kernel, kernel) - kernel_distance(true.kernel, kernel)


def _batch(candidates: CandidateSet, protocol: Protocol, batch: int) -> CandidateSet:
    start, stop = batch * protocol.batch_size, (batch + 1) * protocol.batch_size
    windows = protocol.mixture_windows

    def cut(rows: EmbeddingSet | None) -> EmbeddingSet | None:
        return None if rows is None else rows.rows(start, stop)

    mixtures = candidates.mixtures
    return CandidateSet(
        stems=cut(candidates.stems),
        mixtures=None if mixtures is None else mixtures.rows(start * windows, stop * windows),
        target_audio=cut(candidates.target_audio),
        target_text=cut(candidates.target_text),
    )


def _require_protocol(reference: ReferenceSet, candidates: CandidateSet, protocol: Protocol) -> None:
    windows = protocol.mixture_windows
    for rows, what, per_stem, space in (
        (reference.stems, "reference stems", 1, protocol.space),
        (reference.mixtures, "reference mixtures", windows, protocol.mixture_space),
        (reference.mispaired, "mispaired references", windows, protocol.mixture_space),
    ):
        if rows is None:
            continue
        _require_space(rows, space, what)
        needed = protocol.reference_size * per_stem
        if len(rows) != needed:
            raise ValueError(f"{len(rows)} {what}, but the protocol says {needed}: set reference_size to what there is")
    for given, what, per_candidate, space in (
        (candidates.stems, "candidate stems", 1, protocol.space),
        (candidates.mixtures, "candidate mixtures", windows, protocol.mixture_space),
        (candidates.target_audio, "target audio", 1, protocol.space),
        (candidates.target_text, "target text", 1, protocol.space),
    ):
        if given is None:
            continue
        _require_space(given, space, what)
        needed = protocol.batches * protocol.batch_size * per_candidate
        if len(given) < needed:
            raise ValueError(
                f"{len(given)} {what} where {protocol.batches} batches of {protocol.batch_size} need {needed};"
                " make more candidates, or lower batches or batch_size"
            )


def _mixture_state(mixtures: EmbeddingSet | None, what: str) -> ReferenceState:
    """The state of mixtures of references, which are asked for only where candidates have mixtures."""
    if mixtures is None:
        raise ValueError(
            "candidate mixtures need reference mixtures, true and mispaired; give the references' contexts"
        )
    return reference_state(mixtures, what, largest_k=largest_neighbourhood(mixtures))


def largest_neighbourhood(references: EmbeddingSet) -> int | None:
    """How far radii are computed; None for mixtures, of which density and coverage are not asked."""
    return min(LARGEST_K, len(references) - 1) if references.content == "stem" else None


def _require_space(rows: EmbeddingSet, space: Space, what: str) -> None:
    if rows.space != space:
        raise ValueError(f"{what} are embedded in {rows.space}, but the protocol says {space}")


def _require_content(rows: EmbeddingSet | None, content: str, what: str) -> None:
    if rows is not None and rows.content != content:
        raise ValueError(f"{what} must hold {content} embeddings, not {rows.content}")


def _require_same_ids(stems: EmbeddingSet, target: EmbeddingSet, what: str) -> None:
    if len(stems) != len(target):
        raise ValueError(f"{len(target)} {what} rows for {len(stems)} candidates; give one per candidate")
    for row, (candidate, wanted) in enumerate(zip(stems.ids, target.ids, strict=True)):
        if candidate != wanted:
            raise ValueError(f"row {row}: {what} of {wanted!r} beside candidate {candidate!r}; order both by candidate")
