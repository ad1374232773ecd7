"""How sure the whole table is: its rows' intervals, arm beside arm, and how much of the paper's order it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from metrics.intervals import Interval
from metrics.reproduction import ReproductionScore, Row, reproduction_score
from metrics.row_statistics import LEVEL
from metrics.table import ARM_ORDER, ScoreTable
from tasks.arm_comparison import Compared
from tasks.columns import Column
from tasks.exports import file_metadata, write_frame
from tasks.paper_table import paper_table
from tasks.provenance import Provenance
from tasks.row_statistics import RowStatistics

STATISTICS_SCHEMA = "stemwright.statistics/1"
COMPARISONS_SCHEMA = "stemwright.comparisons/1"
GATES = {
    "silent": "silent",
    "over_full_scale": "beyond full scale",
    "off_level": "over 10 LU from the stem they replace",
}
FURTHER = (
    Column(
        metric="kad",
        heading="KAD",
        meaning="kernel audio distance (Gaussian kernel, unbiased, may be negative) of stems",
        scale=1e2,
        higher_is_better=False,
        paper=False,
    ),
    Column(
        metric="fad_infinite",
        heading="FAD∞",
        meaning="FAD extrapolated to infinitely many candidates",
        digits=3,
        higher_is_better=False,
        paper=False,
    ),
    Column(
        metric="mixture_fad",
        heading="FAD mix",
        meaning="FAD between mixtures with the context (sub-FAD)",
        digits=3,
        higher_is_better=False,
        paper=False,
    ),
    Column(
        metric="apa_fit",
        heading="APA fit",
        meaning="0 as stems of other tracks fit the same prompts, 1 as the real ones do; not ranked beyond either",
        paper=False,
    ),
    Column(
        metric="apa_fit_alike",
        heading="APA fit, alike",
        meaning="the same with 0 as the stems of other tracks most alike to the real ones fit",
        paper=False,
    ),
)


class Sureness(NamedTuple):
    """All that tells how far a table can be believed; no reproduction where the paper has nothing to compare with."""

    rows: tuple[RowStatistics, ...]
    comparisons: tuple[Compared, ...]
    reproduction: ReproductionScore | None

    @classmethod
    def of(cls, table: ScoreTable, rows: Sequence[RowStatistics], comparisons: Sequence[Compared]) -> Sureness:
        """The rows' and arms' figures, and the score of the table against the paper's."""
        return cls(tuple(rows), tuple(comparisons), _reproduction(table, rows))

    def lines(self) -> list[str]:
        """A few lines for the terminal."""
        return [*self._order_lines(), *self._comparison_lines(), *self._gate_lines()]

    def _order_lines(self) -> list[str]:
        found = self.reproduction
        if found is None:
            return []
        return [
            f"the paper's order of two arms is ours too in {found.share:.0%} of {len(found.orderings)} cases (chance: "
            f"half); {len(found.beyond_intervals)} differ by more than their intervals allow"
        ]

    def _comparison_lines(self) -> list[str]:
        p_values = [one.p_value for pair in self.comparisons for one in pair.differences if one.p_value is not None]
        if not p_values:
            return []
        small = sum(p_value <= 1 - LEVEL for p_value in p_values)
        return [
            f"arms beside the ones before them: {small} of {len(p_values)} differences have p ≤ {1 - LEVEL:.2f}, where "
            f"chance alone gives {(1 - LEVEL) * len(p_values):.0f}"
        ]

    def _gate_lines(self) -> list[str]:
        """For each gate the row of which most candidates fail it, if any do."""
        lines = []
        for gate, name in GATES.items():
            failing = {row: found for row in self.rows if (found := row.of(gate)) and found.value}
            if failing:
                row, found = max(failing.items(), key=lambda told: told[1].value or 0.0)
                count = found.note.partition(";")[0]
                lines.append(f"{name}: {count} candidates of {row.arm}, {row.inputs}, the worst of {len(failing)} rows")
        return lines


def write_statistics_parquet(path: Path, sure: Sureness, table: ScoreTable, provenance: Provenance) -> None:
    """Long format: a row per arm, inputs and metric, raw; null where a figure is not known, and `note` says why."""
    rows = [
        {"arm": row.arm, "inputs": row.inputs, **one._asdict(), "level": LEVEL, "tracks": row.tracks}
        for row in sure.rows
        for one in row.measured
    ]
    _write(path, rows, _STATISTICS_COLUMNS, file_metadata(STATISTICS_SCHEMA, table, provenance))


def write_comparisons_parquet(path: Path, sure: Sureness, table: ScoreTable, provenance: Provenance) -> None:
    """Long format: a row per pair of arms, inputs and metric: the arm's score less that of the one before it."""
    rows = [
        {"arm": pair.arm, "before": pair.before, "inputs": pair.inputs, "tracks": pair.tracks, "level": LEVEL}
        | one._asdict()
        for pair in sure.comparisons
        for one in pair.differences
    ]
    _write(path, rows, _COMPARISON_COLUMNS, file_metadata(COMPARISONS_SCHEMA, table, provenance))


_ENDS = {"metric": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
_OF_WHAT = {"level": pl.Float64, "tracks": pl.Int64, "note": pl.String}
_STATISTICS_COLUMNS = {"arm": pl.String, "inputs": pl.String, **_ENDS, **_OF_WHAT}
_COMPARISON_COLUMNS = {
    "arm": pl.String,
    "before": pl.String,
    "inputs": pl.String,
    **_ENDS,
    "p_value": pl.Float64,
    **_OF_WHAT,
}


def _write(path: Path, rows: list[dict[str, Any]], columns: dict[str, Any], metadata: dict[str, str]) -> None:
    ordered = [{name: row[name] for name in columns} for row in rows]
    write_frame(path, pl.DataFrame(ordered, schema=columns, orient="row"), metadata)


def _reproduction(table: ScoreTable, rows: Sequence[RowStatistics]) -> ReproductionScore | None:
    try:
        return reproduction_score(paper_table().cells, _our_intervals(table, rows), ARM_ORDER)
    except ValueError:  # one arm alone, or none of the paper's: there is no order to have
        return None


def _our_intervals(table: ScoreTable, rows: Sequence[RowStatistics]) -> dict[Row, dict[str, Interval]]:
    """The cells of the table with the ends of their intervals; ends that are not known exclude nothing."""
    known = {(row.arm, row.inputs): row for row in rows}
    found: dict[Row, dict[str, Interval]] = {}
    for row in table.rows():
        for metric in dict.fromkeys(score.metric for score in table.scores):
            if cell := table.cell(*row, metric):
                sure = known[row].of(metric) if row in known else None
                low, high = (sure.low, sure.high) if sure else (None, None)
                ends = (-math.inf, math.inf) if low is None or high is None else (low, high)
                found.setdefault(row, {})[metric] = Interval(cell.mean, *ends, math.nan)
    return found
