"""The scores of all arms as a table: rows in Table 1's order, cells with mean and spread, blanks that stay blank."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from metrics.protocol import Protocol

REAL_ROW = ("real", "original accompaniment")
NOISE_ROW = ("lower bound", "white noise")
RANDOM_ROW = ("lower bound", "random accompaniment")
ALIKE_ROW = ("lower bound", "alike accompaniment")

ARM_ORDER = ("Diff-A-Riff", "+M2L2", "+DiT", "+CLAP_beta", "C-DiT")
INPUT_ORDER = ("CLAP_A,ctx", "CLAP_A*,ctx", "CLAP_T,ctx", "ctx", "CLAP_A", "CLAP_A*", "CLAP_T", "uncond")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of one row on one batch of `candidates` candidates: the raw value, scaled by nothing."""

    arm: str
    inputs: str
    metric: str
    batch: int
    value: float
    candidates: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(
                f"{self.metric} of {self.arm}, {self.inputs}, batch {self.batch} is {self.value};"
                " leave out a score that does not exist"
            )


class Cell(NamedTuple):
    """Mean and sample standard deviation over batches; the spread of a single batch is unknown and shown as 0."""

    mean: float
    std: float
    batches: int


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """All scores of one protocol."""

    protocol: Protocol
    scores: tuple[Score, ...]

    def __post_init__(self) -> None:
        seen: set[tuple[str, str, str, int]] = set()
        for score in self.scores:
            place = (score.arm, score.inputs, score.metric, score.batch)
            if place in seen:
                raise ValueError(f"{score.metric} of {score.arm}, {score.inputs}, batch {score.batch} is there twice")
            seen.add(place)

    def rows(self) -> list[tuple[str, str]]:
        """The (arm, inputs) that have scores: Table 1's rows in its order, then others in order of appearance.

        What else is real follows the real row.
        """
        present = list(dict.fromkeys((score.arm, score.inputs) for score in self.scores))
        order = {row: place for place, row in enumerate(canonical_rows())}
        return sorted(present, key=lambda row: order.get(row, 0.5 if row[0] == REAL_ROW[0] else len(order)))

    def cell(self, arm: str, inputs: str, metric: str) -> Cell | None:
        """The cell over its batches, or None where the metric does not exist for the row: blank, never zero."""
        values = self._values.get((arm, inputs, metric))
        if values is None:
            return None
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return Cell(float(np.mean(values)), spread, len(values))

    @cached_property
    def _values(self) -> dict[tuple[str, str, str], list[float]]:
        values: dict[tuple[str, str, str], list[float]] = {}
        for score in self.scores:
            values.setdefault((score.arm, score.inputs, score.metric), []).append(score.value)
        return values


def is_bound(row: tuple[str, str]) -> bool:
    """Whether no arm fills the row: what is real, and what is worthless."""
    return row[0] in (REAL_ROW[0], NOISE_ROW[0])


def canonical_rows() -> list[tuple[str, str]]:
    """Every row that Table 1 could have: the real row, the lower bounds, then each arm's conditionings."""
    return [REAL_ROW, NOISE_ROW, RANDOM_ROW, ALIKE_ROW, *((arm, inputs) for arm in ARM_ORDER for inputs in INPUT_ORDER)]
