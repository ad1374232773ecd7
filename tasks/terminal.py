"""Table 1 and its checks on a terminal; the same text without colour or lines of control codes in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metrics.table import ScoreTable
from tasks.checks import CheckResult, Summary, summarise, verdict_text
from tasks.columns import Column, scored_columns, table_columns
from tasks.provenance import Provenance, caption_lines

PIPE_WIDTH = 160
"""Characters per line where nobody tells us a width: in a pipe or a log, nothing may be cut off."""


def print_table(
    table: ScoreTable, provenance: Provenance, *, file: TextIO | None = None, width: int | None = None
) -> None:
    """Print our Table 1: a row per arm and inputs, mean ± standard deviation over batches, raw values scaled.

    On a terminal too narrow for the spread, the means alone. `file` is the standard output and `width` the
    terminal's unless given.
    """
    room = width or _room(file)
    spread = _width(score_grid(table, spread=True)) <= room
    grid = score_grid(table, spread=spread)
    # Better a line that the terminal wraps than a figure that rich cuts short.
    console = Console(file=file, width=max(room, _width(grid)), highlight=False)
    console.print(Text("\n".join(caption_lines(provenance, table.protocol, spread=spread))), soft_wrap=True)
    console.print(grid)


def print_checks(results: Sequence[CheckResult], *, file: TextIO | None = None, width: int | None = None) -> None:
    """Print one line per check with its closest row, then every failure in full, then the count."""
    console = Console(file=file, width=width or _room(file), highlight=False)
    failures = [result for result in results if not result.passed]
    console.print(_summary_grid(summarise(results)))
    for result in failures:
        line = f"FAILED  {result.name}: {result.subject}: {verdict_text(result)}"
        console.print(Text(line, style="red"), soft_wrap=True)
    passed = len(results) - len(failures)
    console.print(Text(f"{passed} of {len(results)} checks passed", style="red" if failures else "green"))


def score_grid(table: ScoreTable, *, spread: bool) -> Table:
    """The table itself; absent cells are dashes, and arms are set apart by a line."""
    shown = table_columns(table)
    scored_columns(table)
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    grid.add_column("arm", no_wrap=True)
    grid.add_column("inputs", no_wrap=True)
    for column in shown:
        grid.add_column(_heading(column), justify="right", no_wrap=True)
    rows = table.rows()
    for row, following in pairwise([*rows, ("", "")]):
        cells = [column.cell_text(table.cell(*row, column.metric), spread=spread) for column in shown]
        grid.add_row(*row, *cells, end_section=row[0] != following[0])
    return grid


def _heading(column: Column) -> str:
    return "\n".join([f"{column.arrow} {column.heading}", *column.unit.split()])


def _summary_grid(summaries: Sequence[Summary]) -> Table:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("check", "rows passed", "closest row", "value and bound"):
        grid.add_column(heading, justify="right" if heading == "rows passed" else "left")
    for summary in summaries:
        style = "" if summary.passed == summary.rows else "red"
        closest = summary.closest
        count = f"{summary.passed} of {summary.rows}"
        grid.add_row(summary.name, count, closest.subject, verdict_text(closest), style=style)
    return grid


def _room(file: TextIO | None) -> int:
    console = Console(file=file)
    return console.width if console.is_terminal else max(console.width, PIPE_WIDTH)


def _width(grid: Table) -> int:
    unlimited = Console(width=10_000)
    return unlimited.measure(grid).maximum
