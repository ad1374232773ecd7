"""How sure a row of the table is: intervals of its scores, and further figures from the same embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from metrics.embeddings import EmbeddingSet
from metrics.infinite_size import extrapolated_frechet_distance
from metrics.intervals import Estimate, estimate
from metrics.memorisation import Memorisation, Suspect, memorisation
from metrics.normalised_fit import normalised_fit
from metrics.row_statistics import LEVEL, Measured, adherence_by_candidate, in_batches, measured, row_statistics
from metrics.score import ReferenceSet
from metrics.set_statistics import mean_statistic
from tasks.artifact import Artifact
from tasks.embedding_sets import mixtures_of, set_of, tracks_of
from tasks.embeddings import Embeddings, load_embeddings
from tasks.judge import told_name
from tasks.judged_row import JudgedRow
from tasks.levels import Level, load_levels
from tasks.lost_shards import hand_on_lost
from tasks.runtime import Runtime
from tasks.step import Step

# Shapes: N candidates, M training stems, E CLAP width.

STATISTICS = "statistics.json"
MEANING = (
    "An interval is for the mean over other draws of as many candidates from as many tracks, in as many batches, "
    "against the same references; it is not for what other references or another training would give."
)
MOST_TRAINING_STEMS = 50_000  # searched for copies, evenly spaced: 100 MB at 512 wide
SHOWN_SUSPECTS = 3
FAR_LU = 10.0  # ours: half or twice as loud to the ear


class RowStatistics(NamedTuple):
    """What was measured of one row beside its scores: of how many tracks, and the candidates likest to training."""

    arm: str
    inputs: str
    tracks: int
    measured: tuple[Measured, ...]
    suspects: tuple[Suspect, ...]

    def of(self, metric: str) -> Measured | None:
        """One of the figures; None where it makes no sense for the row."""
        return next((one for one in self.measured if one.metric == metric), None)


class Bounds(NamedTuple):
    """The mixtures of the prompts' contexts with their own stems, with other tracks' and with the most alike of those:
    what fits best, and what fits by chance or by style alone.
    """

    true: Artifact
    random: Artifact
    alike: Artifact


@dataclass(frozen=True, kw_only=True)
class MeasureRow(Step):
    """Intervals of every metric of a row, FAD at infinite size, adherence between its bounds, copies of training
    stems, and the share of candidates that are silent, overdriven or far from the level of the stem they replace.

    What a row has too few candidates or tracks for stays blank, and the reason is kept. `bounds` and `levels`, of
    the prompts, are None where the row answers none.
    """

    stage: ClassVar[str] = "statistics"

    row: JudgedRow
    training: Artifact
    bounds: Bounds | None
    levels: Artifact | None
    seed: int

    def describe(self) -> str:
        return f"intervals of {self.row.arm} {self.row.inputs}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        made = load_embeddings(self.row.candidates)
        keys = whole_batches(self.row, self.row.keys(made))
        from_tracks = self.row.prompts is not None  # each clip of the noise is a draw of its own
        tracks = tracks_of(made, keys) if from_tracks else keys
        copies = self._memorisation(made, keys, tracks) if self.row.quality and from_tracks else None
        scores = self._scores(made, keys, tracks) if keys else ()
        figures = (*scores, *([copies[0]] if copies else []), *self._gates(made, keys))
        found = RowStatistics(
            self.row.arm, self.row.inputs, len(set(tracks)), figures, tuple(copies[1]) if copies else ()
        )
        told = {**found._asdict(), "level": LEVEL, "meaning": MEANING}
        told["measured"] = [one._asdict() for one in found.measured]
        told["suspects"] = [one._asdict() for one in found.suspects]
        (out / STATISTICS).write_text(json.dumps(told, indent=1), encoding="utf-8")
        hand_on_lost(out, *self.row.embedded)
        return {one.metric: [one.value, one.low, one.high] for one in found.measured}

    def _scores(self, made: Embeddings, keys: Sequence[str], tracks: Sequence[str]) -> Iterator[Measured]:
        row, reference, candidates = self.row, self.row.reference_set(), self.row.candidate_set(made, keys)
        makes = row_statistics(reference, candidates, row.protocol.neighbours, quality=row.quality)
        for metric, make in makes.items():
            if name := told_name(metric, row):
                yield measured(metric, make, tracks, batches=row.batches)._replace(metric=name)
        if row.quality and candidates.stems is not None:
            yield self._without_bias(reference, candidates.stems, tracks)
        if row.adherence and self.bounds:
            yield from self._fits(self.bounds, keys, tracks, reference)

    def _without_bias(self, reference: ReferenceSet, stems: EmbeddingSet, tracks: Sequence[str]) -> Measured:
        try:
            found = extrapolated_frechet_distance(
                reference.stem_state.gaussian, stems, tracks, seed=self.seed, level=LEVEL
            )
        except ValueError as error:  # too few candidates for a line through sizes
            return Measured.blank("fad_infinite", error)
        return Measured.of("fad_infinite", found.interval, told=f"r² of the line {found.r_squared:.3f}")

    def _fits(
        self, bounds: Bounds, keys: Sequence[str], tracks: Sequence[str], reference: ReferenceSet
    ) -> Iterator[Measured]:
        """Adherence of the candidates between that of the real stems and of either lower bound on the same prompts."""

        @cache
        def adherence(embedded: Artifact) -> Estimate:
            made = load_embeddings(embedded)
            if not made.rows:
                raise ValueError("the corpus does not give every prompt an alike stem")
            if not set(keys) <= {row.key for row in made.rows}:
                raise ValueError("shards of the bounds were lost: not all prompts have both")
            gaussians = reference.mixture_state.gaussian, reference.mispaired_state.gaussian
            make = adherence_by_candidate(*gaussians, mixtures_of(made, keys), candidates=len(keys))
            return estimate(in_batches(make, self.row.batches), tracks)

        for metric, lower in (("apa_fit", bounds.random), ("apa_fit_alike", bounds.alike)):
            try:
                x, true, random = map(adherence, (self.row.candidates, bounds.true, lower))
                fit = normalised_fit(x, true=true, random=random, level=LEVEL)
            except ValueError as error:  # too few tracks, or bounds that this embedder does not tell apart
                yield Measured.blank(metric, error)
            else:
                beyond = f"beyond the {fit.beyond} bound: not ranked" if fit.beyond else ""
                yield Measured.of(metric, fit.interval, told=beyond)

    def _memorisation(
        self, made: Embeddings, keys: Sequence[str], tracks: Sequence[str]
    ) -> tuple[Measured, list[Suspect]]:
        training, held_out = load_embeddings(self.training), load_embeddings(self.row.references)
        try:
            nearer_N, chance, worst = nearer_to_training(made, keys, training=training, held_out=held_out)
            interval = estimate(mean_statistic(nearer_N), tracks).interval(LEVEL)
        except ValueError as error:  # too few tracks, or candidates of none
            return Measured.blank("memorised", error), []
        return Measured.of("memorised", interval, told=f"chance {chance:.3f}"), worst[:SHOWN_SUSPECTS]

    def _gates(self, made: Embeddings, keys: Sequence[str]) -> Iterator[Measured]:
        if self.levels is None or "peak_N" not in made.arrays:
            return
        wanted = load_levels(self.levels)
        pairs = zip(made.of("peak_N", keys).tolist(), made.of("lufs_N", keys).tolist(), strict=True)
        yield from gates([Level(*pair) for pair in pairs], [wanted.get(key) for key in keys])


def whole_batches(row: JudgedRow, keys: Sequence[str]) -> list[str]:
    """As many of the windows as make the row's batches, all of one size."""
    return list(keys[: len(keys) // row.batches * row.batches])


def gates(levels: Sequence[Level], wanted: Sequence[Level | None]) -> list[Measured]:
    """Shares of candidates that no score should be believed of; `wanted` is the level of the stem each replaces."""
    silent = [level.silent for level in levels]
    over = [level.peak > 1 for level in levels]
    apart = [
        level.lufs - asked.lufs
        for level, asked in zip(levels, wanted, strict=True)
        if asked and not asked.silent and not level.silent
    ]
    far = [abs(difference) > FAR_LU for difference in apart]
    middle = f"; {np.median(apart):+.1f} LU in the middle" if apart else ""
    return [_share("silent", silent), _share("over_full_scale", over), _share("off_level", far, middle)]


def _share(gate: str, fails: Sequence[bool], further: str = "") -> Measured:
    """The share that fails, without an interval: of none or of all, leaving tracks out says nothing."""
    value = sum(fails) / len(fails) if fails else None
    return Measured.blank(gate, f"{sum(fails)} of {len(fails)}{further}", value=value)


def nearer_to_training(
    made: Embeddings, keys: Sequence[str], *, training: Embeddings, held_out: Embeddings
) -> tuple[np.ndarray, float, list[Suspect]]:
    """Whether each candidate (N,) lies nearer to a training stem than to any held-out one (a tie is half), what
    chance gives, and the worst pairs first.

    Candidates are compared with held-out stems of other tracks than their context's, which they resemble by right:
    the tracks are halved, and each half meets the stems of the other.
    """
    half_of = {track: place % 2 for place, track in enumerate(sorted({row.track for row in held_out.rows}))}
    candidate_half = [half_of.get(track, 0) for track in tracks_of(made, keys)]
    searched = _searched(training)
    nearer_N = np.full(len(keys), np.nan)
    worst: list[Suspect] = []
    chances: list[float] = []
    for half in (0, 1):
        own = [place for place, side in enumerate(candidate_half) if side == half]
        others = [row.key for row in held_out.rows if half_of[row.track] != half]
        if not own or not others:
            continue
        mine = [keys[place] for place in own]
        found = memorisation(
            set_of(made.of("stem_NE", mine), mine, made.space, "stem"),
            training=searched,
            held_out=set_of(held_out.of("stem_NE", others), others, held_out.space, "stem"),
            worst=SHOWN_SUSPECTS,
        )
        nearer_N[own] = _with_ties(found)
        worst += found.worst
        chances += [found.chance] * len(own)
    if np.isnan(nearer_N).any():
        raise ValueError("held-out stems of one track alone: candidates have no others to be compared with")
    return nearer_N, float(np.mean(chances)), sorted(worst, key=lambda pair: (pair.ratio, pair.distance))


def _searched(training: Embeddings) -> EmbeddingSet:
    """The training stems, evenly thinned where they are very many."""
    count = len(training.rows)
    chosen = np.linspace(0, count - 1, min(count, MOST_TRAINING_STEMS)).round().astype(int)
    keys = [training.rows[row].key for row in chosen]
    return set_of(training.arrays["stem_NE"][chosen], keys, training.space, "stem")


def _with_ties(found: Memorisation) -> np.ndarray:
    return np.where(found.ratio_M == 1.0, 0.5, found.nearer_M)


def load_statistics(artifact: Artifact) -> RowStatistics:
    """The figures of a finished row."""
    told = json.loads((artifact.path / STATISTICS).read_text(encoding="utf-8"))
    return RowStatistics(
        told["arm"],
        told["inputs"],
        told["tracks"],
        tuple(Measured(**one) for one in told["measured"]),
        tuple(Suspect(**one) for one in told["suspects"]),
    )
