"""From a corpus to windows: the catalogue, the rows of the pair plan, and their windows as webdataset shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from data_manifests.listing import Listing
from data_manifests.pairs import PairPlan, PairRange, PairRule, split_tracks
from tasks.artifact import Artifact
from tasks.catalogue import build_catalogue
from tasks.catalogue_file import read_catalogue, write_catalogue
from tasks.cluster import fan_out
from tasks.plan_file import write_plan
from tasks.probing import PROBES, ProbeStore
from tasks.runtime import Runtime
from tasks.shard_folder import name_shards, shard_home, shard_path
from tasks.shards import shard_is_whole, write_shard
from tasks.step import Step
from tasks.walk import list_corpora, list_corpus_folder
from tasks.window_source import CUT_VERSION, PlannedWindows, WindowPiece, pieces_of, samples_of


@dataclass(frozen=True, kw_only=True)
class CatalogueCorpus(Step):
    """What a corpus holds, what was left out and why.

    `layouts` names the layout of each corpus that lies under `corpus` by its name (None: recognised); a corpus that
    is the folder itself has no name.
    """

    stage: ClassVar[str] = "catalogue"
    version: ClassVar[int] = 3

    corpus: Artifact
    layouts: tuple[tuple[str, str | None], ...] = (("", None),)
    heldout_fraction: float
    seed: int

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        catalogue = build_catalogue(
            self.corpus.path,
            self._listing(),
            heldout_fraction=self.heldout_fraction,
            seed=self.seed,
            map_=_over_workers(runtime),
            known=ProbeStore(runtime.root / PROBES),
        )
        write_catalogue(catalogue, out)
        return {
            "tracks": len(catalogue.tracks),
            "stems": sum(len(track.stems) for track in catalogue.tracks),
            "quarantined": [f"{item.path}: {item.reason}" for item in catalogue.quarantined],
            "left_out": len(catalogue.left_out),
        }

    def _listing(self) -> Listing:
        match self.layouts:
            case (("", layout),):
                return list_corpus_folder(self.corpus.path, layout)
            case several:
                return list_corpora(self.corpus.path, dict(several))


def _over_workers(runtime: Runtime) -> Callable[[Callable[[Any], Any], Iterable[Any]], Sequence[Any]]:
    return lambda function, items: fan_out(runtime, function, list(items), title="probe stems")


@dataclass(frozen=True, kw_only=True)
class PlanPairs(Step):
    """Rows first..stop of the pair plan of one split. It needs the whole catalogue at once; no later stage does."""

    stage: ClassVar[str] = "plan"

    catalogue: Artifact
    rule: PairRule
    rows: PairRange

    def describe(self) -> str:
        return f"plan {self.rows.split} {self.rows.first}–{self.rows.stop}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        tracks = split_tracks(read_catalogue(self.catalogue.path).tracks, self.rows.split)
        plan = PairPlan(tracks=tracks, rule=self.rule)
        write_plan(plan, self.rows, out)
        return {"tracks": len(tracks), "without_pairs": [f"{item.path}: {item.reason}" for item in plan.left_out]}


@dataclass(frozen=True, kw_only=True)
class CutWindows(Step):
    """Rows first..stop of a pair plan, as shards of `shard_rows` windows."""

    stage: ClassVar[str] = "windows"
    version: ClassVar[int] = CUT_VERSION
    resumable: ClassVar[bool] = True

    corpus: Artifact
    catalogue: Artifact
    plan: Artifact
    rows: PairRange
    shard_rows: int

    def describe(self) -> str:
        return f"windows {self.rows.split} {self.rows.first}–{self.rows.stop}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        home = shard_home(out, self, runtime)
        pieces = [(piece, shard_path(home, number)) for number, piece in enumerate(pieces_of(self.planned))]
        fan_out(runtime, _cut_shard, pieces, title=self.describe())
        shards = [shard for _, shard in pieces]
        name_shards(out, home, shards)
        return {"windows": self.rows.stop - self.rows.first, "shards": len(shards)}

    @property
    def planned(self) -> PlannedWindows:
        """The same windows for a stage that cuts them itself."""
        return PlannedWindows(
            corpus=self.corpus,
            catalogue=self.catalogue,
            plan=self.plan,
            rows=self.rows,
            shard_rows=self.shard_rows,
        )


def _cut_shard(piece: tuple[WindowPiece, str]) -> None:
    windows, shard = piece
    if not shard_is_whole(shard):
        write_shard(shard, samples_of(windows))
