"""Is an arm better than the one it differs from by one step? Their candidates for the same prompts, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from metrics.comparison import paired_comparison
from metrics.row_statistics import LEVEL, ROUNDING, both_arms, in_batches, row_statistics
from metrics.set_statistics import SetStatistic
from tasks.artifact import Artifact
from tasks.columns import CONTEXT_IGNORED
from tasks.embedding_sets import tracks_of
from tasks.embeddings import load_embeddings
from tasks.judge import told_name
from tasks.judged_row import JudgedRow
from tasks.lost_shards import hand_on_lost
from tasks.row_statistics import whole_batches
from tasks.runtime import Runtime
from tasks.step import Step

COMPARED = "compared.json"
NOT_COMPARED = ("mixture_fad", CONTEXT_IGNORED)  # as costly as FAD, and nobody chooses an arm by them
SWAPS = 199  # the smallest p is 0.005; the paper's sizes would take hours with more


class Difference(NamedTuple):
    """The later arm's score less the earlier one's, its interval at `LEVEL`, and the p of equal arms.

    Figures are None where they are not known; `note` says why.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    note: str


class Compared(NamedTuple):
    """An arm beside the one before it under the same inputs."""

    arm: str
    before: str
    inputs: str
    tracks: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True, kw_only=True)
class CompareRows(Step):
    """The difference of two rows that answer the same prompts, for every metric of the table that both have and KAD."""

    stage: ClassVar[str] = "comparison"

    before: JudgedRow
    after: JudgedRow
    seed: int

    def describe(self) -> str:
        return f"compare {self.after.arm} with {self.before.arm}, {self.after.inputs}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        first, second = load_embeddings(self.before.candidates), load_embeddings(self.after.candidates)
        keys = whole_batches(self.after, self.after.keys(second, first))
        tracks = tracks_of(second, keys)
        pool = both_arms(self.before.candidate_set(first, keys), self.after.candidate_set(second, keys))
        makes = row_statistics(self.after.reference_set(), pool, self.after.protocol.neighbours)
        differences = [
            self._difference(name, make, tracks)
            for metric, make in makes.items()
            if (name := told_name(metric, self.after)) and name not in NOT_COMPARED
        ]
        told = {
            "arm": self.after.arm,
            "before": self.before.arm,
            "inputs": self.after.inputs,
            "tracks": len(set(tracks)),
            "level": LEVEL,
            "swaps": SWAPS,
            "differences": [one._asdict() for one in differences],
        }
        (out / COMPARED).write_text(json.dumps(told, indent=1), encoding="utf-8")
        hand_on_lost(out, *self.before.embedded, *self.after.embedded)
        return {one.metric: [one.value, one.low, one.high, one.p_value] for one in differences}

    def _difference(self, metric: str, make: Callable[[], SetStatistic], tracks: Sequence[str]) -> Difference:
        try:
            statistic = in_batches(make(), self.after.batches, arms=2)
            found = paired_comparison(statistic, tracks, seed=self.seed, swaps=SWAPS, level=LEVEL)
        except ValueError as error:  # undefined on these candidates, or too few tracks
            return Difference(metric, None, None, None, None, str(error))
        value, low, high, spread = found.difference
        if spread <= ROUNDING * abs(value):
            return Difference(metric, value, None, None, found.p_value, "no track left out changes it")
        return Difference(metric, value, low, high, found.p_value, "")


def load_compared(artifact: Artifact) -> Compared:
    """The differences of a finished comparison."""
    told = json.loads((artifact.path / COMPARED).read_text(encoding="utf-8"))
    differences = tuple(Difference(**one) for one in told["differences"])
    return Compared(told["arm"], told["before"], told["inputs"], told["tracks"], differences)
