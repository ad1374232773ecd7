"""The acceptance bounds of a laptop table, as data: which rows, which metric, beyond what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from metrics.table import NOISE_ROW, RANDOM_ROW, REAL_ROW
from tasks.paper_table import Row

Relation = Literal["<", ">"]


@dataclass(frozen=True)
class Fixed:
    """A bound that is a number."""

    value: float


@dataclass(frozen=True)
class Times:
    """A bound that is a multiple of another row's value of the same metric."""

    factor: float
    row: Row


@dataclass(frozen=True)
class Above:
    """A bound that lies so much above another row's value of the same metric."""

    margin: float
    row: Row


@dataclass(frozen=True)
class AboveUnconditional:
    """A bound that lies so much above the unconditional row of the same arm.

    The bridge's arm has no such row of its own but shares its denoiser with +DiT, whose row stands for it.
    """

    margin: float


@dataclass(frozen=True)
class BestOfOthers:
    """A bound that is the best value of all other rows."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One bound over some rows: `metric relation bound`. `magnitude` compares the absolute value."""

    name: str
    rows: Callable[[Sequence[Row]], list[Row]]
    metric: str
    relation: Relation
    bound: Fixed | Times | Above | AboveUnconditional | BestOfOthers
    magnitude: bool = False


def _only(row: Row) -> Callable[[Sequence[Row]], list[Row]]:
    return lambda _: [row]


def _conditioned(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row[1] != "uncond"]


def _unconditional(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row[1] == "uncond"]


def _with_audio_clap(rows: Sequence[Row]) -> list[Row]:
    # CLAP_A* is not among them: an unconditional sample of the bridge resembles no audio in particular.
    return [row for row in rows if "CLAP_A" in row[1].split(",")]


def _with_context(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "ctx" in row[1].split(",")]


# Issue 2, "Measured"; the figures come from the prototype of reference/laptop_scale.md §7.
RULES: tuple[Rule, ...] = (
    Rule(name="real: FAD", rows=_only(REAL_ROW), metric="fad", relation="<", bound=Fixed(0.2)),
    Rule(name="real: |KD|", rows=_only(REAL_ROW), metric="kd", relation="<", bound=Fixed(1e-3), magnitude=True),
    Rule(name="real: APA", rows=_only(REAL_ROW), metric="apa", relation=">", bound=Fixed(0.75)),
    Rule(name="real: CS_TA", rows=_only(REAL_ROW), metric="cs_ta", relation=">", bound=Fixed(0.6)),
    Rule(name="real: best FAD of all rows", rows=_only(REAL_ROW), metric="fad", relation="<", bound=BestOfOthers()),
    Rule(
        name="real: best coverage (k=5) of all rows",
        rows=_only(REAL_ROW),
        metric="coverage_k5",
        relation=">",
        bound=BestOfOthers(),
    ),
    Rule(name="white noise: FAD", rows=_only(NOISE_ROW), metric="fad", relation=">", bound=Fixed(1.5)),
    Rule(
        name="white noise: FAD, 8 × real", rows=_only(NOISE_ROW), metric="fad", relation=">", bound=Times(8.0, REAL_ROW)
    ),
    Rule(name="random pairing: APA", rows=_only(RANDOM_ROW), metric="apa", relation="<", bound=Fixed(0.4)),
    Rule(name="random pairing: CS_TA", rows=_only(RANDOM_ROW), metric="cs_ta", relation="<", bound=Fixed(0.15)),
    Rule(
        name="conditioned: FAD, 0.5 × noise", rows=_conditioned, metric="fad", relation="<", bound=Times(0.5, NOISE_ROW)
    ),
    Rule(
        name="unconditional: FAD, 0.6 × noise",
        rows=_unconditional,
        metric="fad",
        relation="<",
        bound=Times(0.6, NOISE_ROW),
    ),
    Rule(
        name="CLAP_A: FAD, 0.4 × noise", rows=_with_audio_clap, metric="fad", relation="<", bound=Times(0.4, NOISE_ROW)
    ),
    Rule(name="CLAP_A: CS_AA", rows=_with_audio_clap, metric="cs_aa", relation=">", bound=Fixed(0.35)),
    Rule(
        name="CLAP_A: CS_AA, unconditional + 0.25",
        rows=_with_audio_clap,
        metric="cs_aa",
        relation=">",
        bound=AboveUnconditional(0.25),
    ),
    Rule(
        name="CLAP_A: CS_TA, random + 0.15",
        rows=_with_audio_clap,
        metric="cs_ta",
        relation=">",
        bound=Above(0.15, RANDOM_ROW),
    ),
    Rule(
        name="context: APA, random + 0.15",
        rows=_with_context,
        metric="apa",
        relation=">",
        bound=Above(0.15, RANDOM_ROW),
    ),
)
