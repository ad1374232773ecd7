"""Sizes of an evaluation: a protocol fitted to what there is, and what real stems score at such sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from metrics.embeddings import EmbeddingSet
from metrics.protocol import Protocol
from metrics.score import CandidateSet, ReferenceSet, score_row
from metrics.table import ScoreTable
from tasks.columns import columns
from tasks.provenance import sizes

DRAWS = 5  # ways to part the references: their mean stands for the bias
REAL = ("real", "other references")


class RealAgainstReal(NamedTuple):
    """Scores of real stems against others, mean over `DRAWS` ways to part the references; `protocol` has the sizes."""

    protocol: Protocol
    table: ScoreTable

    def told(self) -> str:
        """What to expect of a perfect candidate at these sizes."""
        known = [column for column in columns(self.protocol.neighbours) if self.table.cell(*REAL, column.metric)]
        values = [
            f"{column.title} {column.cell_text(self.table.cell(*REAL, column.metric), spread=False)}"
            for column in known
        ]
        return (
            f"real stems against real ones, {self.protocol.batch_size:,} of the references against "
            f"{self.protocol.reference_size:,} others (mean of {DRAWS} draws), have {', '.join(values)}"
        )


def fitted(protocol: Protocol, *, candidates: int, references: int, batches: int | None) -> Protocol:
    """The protocol with the sizes that these numbers of candidates and references allow.

    Unless `batches` are asked for, there are as many of the profile's size as can be filled, and one smaller one where
    none can: FAD's bias is less in one large batch than in five small ones.
    """
    if candidates < 2 or references < 2:
        raise ValueError(
            f"{candidates} candidates and {references} references can be judged; at least 2 of each are needed"
        )
    count = batches or min(protocol.batches, max(1, candidates // protocol.batch_size))
    if candidates // count < 2:
        raise ValueError(f"{candidates} candidates make no {count} batches of at least 2; ask for fewer with --batches")
    reference_size = min(protocol.reference_size, references)
    neighbours = tuple(k for k in protocol.neighbours if k < reference_size)
    if not neighbours:
        k = min(protocol.neighbours)
        raise ValueError(f"{references} references can be judged; coverage with k = {k} needs at least {k + 1}")
    return replace(
        protocol,
        batches=count,
        batch_size=min(protocol.batch_size, candidates // count),
        reference_size=reference_size,
        neighbours=neighbours,
    )


def real_against_real(
    references: EmbeddingSet, tracks: Sequence[str], protocol: Protocol, *, seed: int
) -> RealAgainstReal | None:
    """What real stems score when some of them are judged against the others, whole songs on either side.

    At the sizes of the protocol where there are references enough, else half against half. None where the references
    are too few or of one song.
    """
    size = min(protocol.batch_size, len(references) // 2)
    parts = [_parted(tracks, size, np.random.default_rng((seed, draw))) for draw in range(DRAWS)]
    others = min(*(len(rest) for _, rest in parts), protocol.reference_size)
    neighbours = tuple(k for k in protocol.neighbours if k < others)
    if size < 2 or others < 2 or not neighbours:
        return None
    smaller = replace(
        protocol,
        batches=1,
        batch_size=size,
        reference_size=others,
        neighbours=neighbours,
        kernel_subsets=0,  # they have the same expectation
    )
    scores = []
    for draw, (chosen, rest) in enumerate(parts):
        judged = CandidateSet(stems=_rows(references, chosen), mixtures=None, target_audio=None, target_text=None)
        against = ReferenceSet(stems=_rows(references, rest[:others]), mixtures=None, mispaired=None)
        found = score_row(against, judged, smaller, arm=REAL[0], inputs=REAL[1])
        scores += [replace(score, batch=draw) for score in found]
    return RealAgainstReal(smaller, ScoreTable(protocol=smaller, scores=tuple(scores)))


def smaller_than(profile: Protocol, protocol: Protocol) -> str | None:
    """How the sizes differ from the profile's and what that does to scores, in words; None where they do not."""
    names = ("batch_size", "reference_size", "neighbours")
    smaller = any(getattr(profile, name) != getattr(protocol, name) for name in names)
    if not smaller and protocol.batches >= profile.batches:
        return None
    effect = "smaller sets make FAD larger and change coverage" if smaller else "fewer batches say less of the spread"
    return f"{sizes(protocol)}, where the profile {profile.profile} has {sizes(profile)}; {effect}"


def _parted(tracks: Sequence[str], size: int, random: np.random.Generator) -> tuple[list[int], list[int]]:
    """`size` rows of songs in a drawn order, and the rows of all songs that none of them is of."""
    names = np.unique(np.asarray(tracks, dtype=str))
    order = {str(name): place for place, name in enumerate(random.permutation(names))}
    rows = sorted(range(len(tracks)), key=lambda row: order[tracks[row]])
    chosen = rows[:size]
    used = {tracks[row] for row in chosen}
    return chosen, [row for row in rows[size:] if tracks[row] not in used]


def _rows(rows: EmbeddingSet, chosen: Sequence[int]) -> EmbeddingSet:
    ids = tuple(rows.ids[row] for row in chosen)
    return EmbeddingSet(vectors_ND=rows.vectors_ND[list(chosen)], ids=ids, space=rows.space, content=rows.content)
