"""Table 1 as the paper prints it, in raw units, to be read beside ours: facts, not a bound."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from metrics.table import NOISE_ROW, RANDOM_ROW, REAL_ROW, is_bound

Row = tuple[str, str]
"""(arm, inputs), as Table 1 names them."""


@dataclass(frozen=True)
class PaperTable:
    """The paper's cells under our names for rows and metrics, in the order of Table 1."""

    cells: dict[Row, dict[str, float]]

    def rows(self) -> list[Row]:
        """(arm, inputs): the real row, the two bounds, then the 28 model rows."""
        return list(self.cells)

    def model_rows(self) -> list[Row]:
        """The rows that a trained arm fills."""
        return [row for row in self.cells if not is_bound(row)]

    def value(self, arm: str, inputs: str, metric: str) -> float | None:
        """The figure in raw units; None where the paper has no such row, column or cell."""
        return self.cells.get((arm, inputs), {}).get(metric)


@cache
def paper_table() -> PaperTable:
    """Table 1, row for row (arXiv 2410.23005).

    `table1.csv` keeps the printed figures, slips included. What a reader of them must know:

    - The notes scale coverage and density by 10⁻², but the *real* row (0.14 and 0.79) only makes sense unscaled:
      equal distributions have a density near 1. It is read unscaled here, the model rows scaled.
    - The text gives Diff-A-Riff a CS_TA of 0.23 (CLAP_T and context) and 0.24 (CLAP_T); the table prints 0.29 twice.
      The table is kept.
    - The text writes CS_AT for both scores of a CLAP_T row; the first is CS_AA.
    - The bound row is white noise in KD, FAD, coverage and density, and a random accompaniment in APA and CS_TA;
      here they are two rows, as in our table.
    - No spread is printed: each figure is a mean of five batches of 1,000 candidates against 5,000 references.
    - The k of coverage and density is not stated; 2 is inferred from the authors' code of the time.
    """
    with _CSV.open(encoding="utf-8", newline="") as lines:
        return PaperTable(dict(entry for printed in csv.DictReader(lines) for entry in _rows(printed)))


_CSV = Path(__file__).with_name("table1.csv")

# Column of the file: our metric, and what one printed unit is worth.
_COLUMNS = {
    "kd_e-3": ("kd", 1e-3),
    "fad": ("fad", 1.0),
    "coverage_e-2": ("coverage_k2", 1e-2),
    "density_e-2": ("density_k2", 1e-2),
    "apa": ("apa", 1.0),
    "cs_aa": ("cs_aa", 1.0),
    "cs_ta": ("cs_ta", 1.0),
}
_OF_NOISE = ("kd", "fad", "coverage_k2", "density_k2")
_UNSCALED_WHEN_REAL = ("coverage_k2", "density_k2")
# The paper writes "+CLAP_beta" in the table; the file has the arm's bare name.
_ARM_NAMES = {"CLAP_beta": "+CLAP_beta"}


def _rows(printed: dict[str, str]) -> Iterator[tuple[Row, dict[str, float]]]:
    arm = _ARM_NAMES.get(printed["arm"], printed["arm"])
    cells = _raw(printed, is_real=arm == REAL_ROW[0])
    if arm != NOISE_ROW[0]:
        yield (arm, printed["inputs"]), cells
        return
    yield NOISE_ROW, {metric: value for metric, value in cells.items() if metric in _OF_NOISE}
    yield RANDOM_ROW, {metric: value for metric, value in cells.items() if metric not in _OF_NOISE}


def _raw(printed: dict[str, str], *, is_real: bool) -> dict[str, float]:
    return {
        metric: float(printed[name]) * (1.0 if is_real and metric in _UNSCALED_WHEN_REAL else unit)
        for name, (metric, unit) in _COLUMNS.items()
        if printed[name]
    }
