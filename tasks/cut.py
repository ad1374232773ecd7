"""From a corpus to windows: the catalogue, and the windows of a range of the pair plan as webdataset shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from data_manifests.pairs import PairPlan, PairRange, PairRule
from tasks.artifact import Artifact
from tasks.catalogue import build_catalogue, read_catalogue, write_catalogue
from tasks.cluster import Resident, fan_out, resident_model
from tasks.runtime import Runtime
from tasks.shards import shard_is_whole, write_shard
from tasks.step import Step
from tasks.windows import cut_window, window_members


@dataclass(frozen=True, kw_only=True)
class CatalogueCorpus(Step):
    """What a corpus holds, what was left out and why."""

    stage: ClassVar[str] = "catalogue"
    version: ClassVar[int] = 2

    corpus: Artifact
    heldout_fraction: float
    seed: int

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        catalogue = build_catalogue(
            self.corpus.path, heldout_fraction=self.heldout_fraction, seed=self.seed, map_=_over_workers(runtime)
        )
        write_catalogue(catalogue, out)
        return {
            "tracks": len(catalogue.tracks),
            "stems": sum(len(track.stems) for track in catalogue.tracks),
            "quarantined": [f"{item.path}: {item.reason}" for item in catalogue.quarantined],
            "left_out": len(catalogue.left_out),
        }


def _over_workers(runtime: Runtime) -> Callable[[Callable[[Any], Any], Iterable[Any]], Sequence[Any]]:
    return lambda function, items: fan_out(runtime, function, list(items), title="probe stems")


@dataclass(frozen=True, kw_only=True)
class CutWindows(Step):
    """Rows first..stop of the pair plan of one split, as shards of `shard_rows` windows."""

    stage: ClassVar[str] = "windows"
    resumable: ClassVar[bool] = True

    corpus: Artifact
    catalogue: Artifact
    rule: PairRule
    rows: PairRange
    shard_rows: int

    def describe(self) -> str:
        return f"windows {self.rows.split} {self.rows.first}–{self.rows.stop}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        name = f"plan-{self.key()}"
        plan = Resident(name, load_plan, str(self.catalogue.path), self.rows.split, self.rule)
        firsts = range(self.rows.first, self.rows.stop, self.shard_rows)
        pieces = [
            (
                name,
                str(self.corpus.path),
                first,
                min(first + self.shard_rows, self.rows.stop),
                str(shard_path(out, number)),
            )
            for number, first in enumerate(firsts)
        ]
        missing = [piece for piece in pieces if not shard_is_whole(Path(piece[-1]))]
        fan_out(runtime, _cut_shard, missing, title=self.describe(), resident=plan)
        return {"windows": self.rows.stop - self.rows.first, "shards": len(pieces)}


def load_plan(catalogue: str, split: str, rule: PairRule) -> PairPlan:
    """The pair plan of one split of a catalogue."""
    tracks = tuple(track for track in read_catalogue(Path(catalogue)).tracks if track.split == split)
    return PairPlan(tracks=tracks, rule=rule)


def shard_path(folder: Path, number: int) -> Path:
    """Where shard `number` of a result lies."""
    return folder / f"shard-{number:06d}.tar"


def shards_of(artifact: Artifact) -> list[Path]:
    """The shards of a result, in order."""
    return sorted(artifact.path.glob("shard-*.tar"))


def _cut_shard(piece: tuple[str, str, int, int, str]) -> None:
    name, corpus, first, stop, path = piece
    plan: PairPlan = resident_model(name)
    cut = partial(_members, plan, Path(corpus))
    write_shard(Path(path), map(cut, range(first, stop)))


def _members(plan: PairPlan, corpus: Path, index: int) -> dict[str, bytes]:
    pair = plan.pair(index)
    return window_members(cut_window(corpus, plan.track(pair.track_id), pair, plan.rule))
