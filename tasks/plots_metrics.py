"""A picture per metric: every row's score with its interval, beside the paper's on an axis of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metrics.table import ALIKE_ROW, NOISE_ROW, RANDOM_ROW, REAL_ROW, ScoreTable, is_bound
from tasks.columns import Column, scored_columns
from tasks.paper_table import Row, paper_table
from tasks.plots import blank_figure, png_of, row_colour
from tasks.provenance import embedder_name, sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Intervals = Mapping[tuple[Row, str], tuple[float, float]]
"""The ends of the interval of a row's metric, raw; none where it is not known."""

LINES = {
    REAL_ROW: ("real stems", "#000000", "-"),
    NOISE_ROW: ("white noise", "#8c8c8c", "-"),
    RANDOM_ROW: ("stems of other tracks", "#8c8c8c", "--"),
    ALIKE_ROW: ("alike stems of other tracks", "#8c8c8c", ":"),
}
"""The rows that are drawn through all others: name, colour and style of the line."""


def metric_plots(table: ScoreTable, intervals: Intervals) -> dict[str, bytes]:
    """The plot of every metric the table holds, under the metric's name."""
    scored = {score.metric for score in table.scores}
    known = scored_columns(table)
    return {column.metric: metric_plot(table, column, intervals) for column in known if column.metric in scored}


def metric_plot(table: ScoreTable, column: Column, intervals: Intervals) -> bytes:
    """Bars of the rows with their intervals as whiskers, hollow ones and lines of the bounds, and the paper's figures.

    The two panels share rows and nothing else: another embedder's values are never drawn on our scale.
    """
    rows = [row for row in table.rows() if table.cell(*row, column.metric)]
    in_paper = column.paper and any(paper_table().value(*row, column.metric) is not None for row in rows)
    figure = blank_figure(7.4, 1.6 + 0.21 * len(rows))
    widths = [2, 1] if in_paper else [1]
    panels = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False)
    ours = panels[0, 0]
    _bars(ours, table, column, rows, intervals)
    ours.set_title(f"ours: {embedder_name(table.protocol)}\n{sizes(table.protocol)}", fontsize=8, loc="left")
    if in_paper:
        _paper_marks(panels[0, 1], column, rows)
    direction = {True: " (higher is better)", False: " (lower is better)", None: ""}[column.higher_is_better]
    figure.suptitle(f"{column.title}{direction}", fontsize=11)
    handles, labels = ours.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    return png_of(figure)


def _bars(axes: Axes, table: ScoreTable, column: Column, rows: Sequence[Row], intervals: Intervals) -> None:
    cells = [table.cell(*row, column.metric) for row in rows]
    values = {place: cell.mean * column.scale for place, cell in enumerate(cells) if cell}
    ends = {
        place: (min(low * column.scale, values[place]), max(high * column.scale, values[place]))
        for place, row in enumerate(rows)
        for low, high in [intervals.get((row, column.metric), (np.nan, np.nan))]
        if np.isfinite([low, high]).all()
    }
    limit = _limit(values, {place: high for place, (_, high) in ends.items()}, rows)
    axes.barh(
        list(values),
        [min(value, limit) for value in values.values()],
        height=0.75,
        color=["white" if is_bound(rows[place]) else row_colour(rows[place]) for place in values],
        edgecolor=[row_colour(rows[place]) for place in values],
    )
    shown = {place: low_high for place, low_high in ends.items() if values[place] <= limit}
    if shown:
        reach = [[values[place] - low, high - values[place]] for place, (low, high) in shown.items()]
        axes.errorbar(
            [values[place] for place in shown],
            list(shown),
            xerr=np.transpose(reach),
            fmt="none",
            elinewidth=1,
            capsize=2,
            ecolor="#404040",
        )
    for place, row in enumerate(rows):
        if row in LINES and values[place] <= limit:
            name, colour, style = LINES[row]
            axes.axvline(values[place], color=colour, linestyle=style, linewidth=1.1, label=name, zorder=1.5)
    axes.set_yticks(range(len(rows)), [_row_name(rows, place) for place in range(len(rows))], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(0, color="#404040", linewidth=0.6)
    _axis(axes, column, values, limit, written=column.text)


def _paper_marks(axes: Axes, column: Column, rows: Sequence[Row]) -> None:
    printed = {place: paper_table().value(*row, column.metric) for place, row in enumerate(rows)}
    values = {place: value * column.scale for place, value in printed.items() if value is not None}
    limit = _limit(values, {}, rows)
    shown = {place: value for place, value in values.items() if value <= limit}
    colours = [row_colour(rows[place]) for place in shown]
    axes.scatter(list(shown.values()), list(shown), marker="D", s=16, color=colours, clip_on=False, zorder=3)
    unstated = ", k not stated" if column.neighbour else ""
    axes.set_title(f"paper: LAION CLAP, 512-d{unstated}\n5 × 1,000 against 5,000", fontsize=8, loc="left")
    _axis(axes, column, values, limit, written=column.printed)
    axes.set_xlim(left=0.0)


def _limit(values: Mapping[int, float], highs: Mapping[int, float], rows: Sequence[Row]) -> float:
    """Where the axis ends: the real row or noise may lie so far out that the arms would all look alike."""
    highest = max(values.values(), default=0.0)
    arms = [highs.get(place, value) for place, value in values.items() if not is_bound(rows[place])]
    return 1.25 * max(arms) if arms and 0 < 3 * max(arms) < highest else float("inf")


def _axis(
    axes: Axes, column: Column, values: dict[int, float], limit: float, *, written: Callable[[float], str]
) -> None:
    """What both panels share; a value beyond the axis is written at its edge."""
    for place, value in values.items():
        if value > limit:
            box = {"facecolor": "white", "lw": 0, "pad": 1}
            mark = f"{written(value / column.scale)} →"
            axes.text(0.99 * limit, place, mark, ha="right", va="center", fontsize=7, bbox=box)
    if np.isfinite(limit):
        axes.set_xlim(right=limit)
    axes.set_xlabel(column.title, fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(axis="x", color="#d9d9d9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _row_name(rows: Sequence[Row], place: int) -> str:
    """The inputs, with the arm's name before the first row of each arm."""
    arm, inputs = rows[place]
    is_first = place == 0 or rows[place - 1][0] != arm
    return f"{arm}:  {inputs}" if is_first else inputs
