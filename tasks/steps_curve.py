"""Scores of one arm against the evaluations of its network: a Parquet file, a table and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import polars as pl

from metrics.row_statistics import LEVEL, Measured
from models.consistency import FIVE_LEVELS
from models.edm import karras_levels
from models.sampling import ConsistencySampler, DpmSampler, HeunSampler, Sampler
from tasks.artifact import Artifact
from tasks.plots import blank_figure, png_of
from tasks.row_statistics import load_statistics
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import Store

CURVE, PICTURE = "steps.parquet", "steps.png"
SHOWN = {"fad": "FAD", "kd": "KD", "coverage_k5": "Cov k=5", "apa": "APA", "cs_ta": "CS_TA"}


class StepsPoint(NamedTuple):
    """A sampler and what its candidates scored."""

    sampler: Sampler
    statistics: Artifact


@dataclass(frozen=True, kw_only=True)
class DrawSteps(Step):
    """One row of an arm, sampled in several ways: every metric with its interval, and FAD over evaluations."""

    stage: ClassVar[str] = "steps"

    arm: str
    inputs: str
    points: tuple[StepsPoint, ...]

    def describe(self) -> str:
        return f"sampling steps of {self.arm} {self.inputs}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        rows = [row for point in self.points for row in _rows(point)]
        frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(
            pl.lit(self.arm).alias("arm"), pl.lit(self.inputs).alias("inputs"), pl.lit(LEVEL).alias("level")
        )
        frame.write_parquet(out / CURVE)
        (out / PICTURE).write_bytes(steps_plot(frame, f"{self.arm}, {self.inputs}"))
        return {"points": len(self.points)}


def samplers(own: Sampler, counts: tuple[int, ...]) -> tuple[Sampler, ...]:
    """What an arm is sampled by: its own way, and Heun and DPM-Solver++(2M) for an EDM arm, at each number of steps.

    A consistency arm's n levels are the first n of n + 1 of the rho = 7 grid, as its five are of six.
    """
    if isinstance(own, ConsistencySampler):
        others = (ConsistencySampler(levels=_levels(count)) for count in counts if count != len(own.levels))
        return tuple(sorted((own, *others), key=evaluations))
    kinds = list(dict.fromkeys((type(own), HeunSampler, DpmSampler)))
    asked = dict.fromkeys((own, *(kind(steps=count) for kind in kinds for count in counts)))
    return tuple(sorted(asked, key=lambda sampler: (kinds.index(type(sampler)), evaluations(sampler))))


def _levels(count: int) -> tuple[float, ...]:
    if count == len(FIVE_LEVELS):
        return FIVE_LEVELS
    return tuple(karras_levels(count + 1, sigma_min=0.002, sigma_max=80.0, rho=7.0)[:count])


def sampler_name(sampler: Sampler) -> str:
    """A solver as tables name it."""
    name = type(sampler).__name__.removesuffix("Sampler")
    return {"Dpm": "DPM-Solver++(2M)", "Consistency": "consistency"}.get(name, name)


def evaluations(sampler: Sampler) -> int:
    """How often the network is asked for one candidate, guidance aside."""
    match sampler:
        case HeunSampler():
            return 2 * sampler.steps - 1
        case ConsistencySampler():
            return len(sampler.levels)
        case _:
            return sampler.steps


def curves_of(rows: Iterable[Artifact], store: Store) -> tuple[Artifact, ...]:
    """The finished curves that go through one of these rows, by its statistics; of each row that with most points."""
    ours = {row.digest for row in rows if not row.planned}
    fullest: dict[str, dict[str, Any]] = {}
    for record in sorted(store.records(DrawSteps.stage), key=lambda record: record["summary"]["points"]):
        if ours & {entry["digest"] for entry in record["inputs"].values()}:
            fullest[record["describe"]] = record
    return tuple(store.artifact(record) for _, record in sorted(fullest.items()))


def steps_lines(artifact: Artifact) -> Iterator[str]:
    """The curve as lines for a terminal."""
    frame = pl.read_parquet(artifact.path / CURVE)
    shown = {metric: name for metric, name in SHOWN.items() if metric in frame["metric"].to_list()}
    yield f"{'sampler':18s} {'evaluations':>11s}" + "".join(f"{name:>12s}" for name in shown.values())
    for (name, asked), rows in frame.group_by("sampler", "evaluations", maintain_order=True):
        values = dict(zip(rows["metric"], rows["value"], strict=True))
        cells = (f"{values[metric]:12.4f}" if values.get(metric) is not None else f"{'–':>12s}" for metric in shown)
        yield f"{name:18s} {asked:11d}" + "".join(cells)


def steps_plot(frame: pl.DataFrame, title: str) -> bytes:
    """FAD over evaluations, a line per solver, with intervals as whiskers where they are known."""
    figure = blank_figure(6.4, 3.8)
    axes = figure.subplots()
    found = frame.filter((pl.col("metric") == "fad") & pl.col("value").is_not_null()).sort("evaluations")
    for number, ((name,), rows) in enumerate(found.group_by("sampler", maintain_order=True)):
        evaluated, values = rows["evaluations"].to_list(), rows["value"].to_list()
        axes.plot(evaluated, values, color=f"C{number}", marker="osD^"[number % 4], markersize=5, label=name)
        for at, low, high in zip(evaluated, rows["low"], rows["high"], strict=True):
            if low is not None and high is not None:
                axes.plot([at, at], [low, high], color=f"C{number}", linewidth=1, alpha=0.6)
    axes.set_xscale("log", base=2)
    asked = sorted(set(found["evaluations"]))
    axes.set_xticks(asked, [str(count) for count in asked], fontsize=7)
    axes.minorticks_off()
    axes.set_xlabel("evaluations of the network", fontsize=8)
    axes.set_ylabel("FAD (lower is better)", fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.grid(color="#d9d9d9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return png_of(figure)


def _rows(point: StepsPoint) -> Iterator[dict[str, Any]]:
    told = {"sampler": sampler_name(point.sampler), "evaluations": evaluations(point.sampler)}
    for one in load_statistics(point.statistics).measured:
        yield told | _typed(one)


def _typed(one: Measured) -> dict[str, Any]:
    numbers = {name: None if value is None else float(value) for name, value in one._asdict().items() if name in _ENDS}
    return {"metric": one.metric, **numbers, "note": one.note}


_ENDS = ("value", "low", "high")
