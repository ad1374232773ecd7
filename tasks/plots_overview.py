"""Pictures of the whole table at once: every arm over all metrics, and where stems lie in the judge's space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from metrics.table import NOISE_ROW, RANDOM_ROW, REAL_ROW, ScoreTable, is_bound
from tasks.columns import Column, columns
from tasks.paper_table import Row
from tasks.plots import blank_figure, png_of, row_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Shapes: N stems of one set, M stems of all sets, E CLAP width.

Vectors = NDArray[np.floating]

MARKERS = ("o", "s", "^", "D", "v", "P")
"""A shape per arm, for those who do not see its colour."""

_LOWEST, _HIGHEST = -0.25, 1.5  # a share beyond is drawn at the edge, so that the others stay apart


class BoundedMetric(NamedTuple):
    """A metric with what real stems and the worthless bound score in it."""

    column: Column
    real: float
    worthless: float

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the worthless bound, 1 at real stems, whichever way the metric counts."""
        return (value - self.worthless) / (self.real - self.worthless)


def bounded_metrics(table: ScoreTable) -> tuple[BoundedMetric, ...]:
    """The paper's columns that have both bounds here: noise for quality, random accompaniment for adherence."""
    found = []
    for column in columns(table.protocol.neighbours):
        if not column.paper:  # coverage and density at another k say the same again
            continue
        bound = NOISE_ROW if column.group == "quality" else RANDOM_ROW
        real, worthless = (table.cell(*row, column.metric) for row in (REAL_ROW, bound))
        if real and worthless and real.mean != worthless.mean:
            found.append(BoundedMetric(column, real.mean, worthless.mean))
    return tuple(found)


def overview_plot(table: ScoreTable) -> bytes | None:
    """Parallel coordinates: a panel per conditioning, a line per arm, each metric between its own bounds.

    None where fewer than two metrics have bounds.
    """
    metrics = bounded_metrics(table)
    panels = _panels(table)
    if len(metrics) < 2 or not panels:
        return None
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    figure = blank_figure(4.9 * across, 0.9 + 2.3 * down)
    grid = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    markers = dict(zip(_arms(table), cycle(MARKERS), strict=False))
    for axes, (name, rows) in zip(grid, panels.items(), strict=False):
        _coordinates(axes, table, metrics, rows, markers)
        axes.set_title(name, fontsize=9, loc="left")
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), fontsize=8, frameon=False, loc="outside upper center", ncols=5)
    return png_of(figure)


def stem_map(real_NE: Vectors, noise_NE: Vectors, made: Mapping[str, Vectors]) -> bytes:
    """Stems on the two directions in which all of them together spread most (PCA), a panel per arm.

    Every panel shows the same real stems and the same noise, and the candidates of one arm.
    """
    every_ME = np.concatenate([real_NE, noise_NE, *made.values()]).astype(np.float64)
    centre_E = every_ME.mean(axis=0)
    _, spread_E, directions_EE = np.linalg.svd(every_ME - centre_E, full_matrices=False)
    shares = spread_E[:2] ** 2 / (spread_E**2).sum()
    across = min(3, len(made))
    down = -(-len(made) // across)
    figure = blank_figure(3.3 * across, 0.7 + 2.9 * down)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, (arm, made_NE) in zip(grid, made.items(), strict=False):
        sets = {"real stems": (real_NE, "#8c8c8c", "o"), "white noise": (noise_NE, "#000000", "x")}
        sets["candidates, each arm's colour"] = (made_NE, row_colour((arm, "")), "^")
        for name, (vectors_NE, colour, marker) in sets.items():
            plane_N2 = (vectors_NE - centre_E) @ directions_EE[:2].T
            axes.scatter(*plane_N2.T, s=14, color=colour, marker=marker, alpha=0.6, linewidths=0.8, label=name)
        axes.set_title(arm, fontsize=9, loc="left")
        _plain(axes)
    for place in range(len(made), len(grid)):
        grid[place].set_visible(False)
        grid[place - across].tick_params(labelbottom=True)
    figure.supxlabel(f"{shares[0]:.0%} of the spread", fontsize=8)
    figure.supylabel(f"{shares[1]:.0%} of the spread", fontsize=8)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside upper center", ncols=3)
    return png_of(figure)


def _panels(table: ScoreTable) -> dict[str, list[Row]]:
    """The arms' rows by what they were given; CLAP_A*, which stands in for CLAP_A in one arm, beside it."""
    panels: dict[str, list[Row]] = {}
    for row in table.rows():
        if not is_bound(row):
            panels.setdefault(row[1].replace("CLAP_A*", "CLAP_A"), []).append(row)
    stood_in = {name for name, rows in panels.items() if any("*" in inputs for _, inputs in rows)}
    return {f"{name} (+CLAP_beta: CLAP_A*)" if name in stood_in else name: rows for name, rows in panels.items()}


def _arms(table: ScoreTable) -> Sequence[str]:
    return list(dict.fromkeys(row[0] for row in table.rows() if not is_bound(row)))


def _coordinates(
    axes: Axes,
    table: ScoreTable,
    metrics: Sequence[BoundedMetric],
    rows: Sequence[Row],
    markers: Mapping[str, str],
) -> None:
    for level, name in ((1.0, "real stems"), (0.0, "worthless")):
        axes.axhline(level, color="#404040", linewidth=0.9, linestyle="--" if level else ":")
        axes.text(len(metrics) - 0.75, level, name, fontsize=7, color="#404040", va="bottom")
    for row in rows:
        cells = [table.cell(*row, metric.column.metric) for metric in metrics]
        shares = [
            np.nan if cell is None else metric.share(cell.mean) for metric, cell in zip(metrics, cells, strict=True)
        ]
        shown = np.clip(shares, _LOWEST, _HIGHEST)
        axes.plot(shown, color=row_colour(row), marker=markers[row[0]], markersize=5, linewidth=1.3, label=row[0])
    axes.set_xticks(range(len(metrics)), [metric.column.heading for metric in metrics], fontsize=7)
    axes.set_xlim(-0.4, len(metrics) - 0.05)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.grid(color="#d9d9d9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
