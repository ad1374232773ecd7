"""The picture of a round trip: original, copy, and how much louder or quieter every band became."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import RATE_HZ
from tasks.plots import band_levels, blank_figure, png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

# Shapes: S channels, N samples, B bands, T frames.

Levels = NDArray[np.float64]

FLOOR_DB = -80.0
"""Below the loudest of both; quieter than this is drawn as black, and no difference between two of them is shown."""

DIFFERENCE_DB = 24.0
"""Where the colours of the difference end; more is drawn in the last colour."""


def roundtrip_picture(original_SN: NDArray[np.float32], copy_SN: NDArray[np.float32], *, title: str) -> bytes:
    """PNG bytes: two spectrograms on one scale of level, and the copy's level less the original's."""
    original_BT, copy_BT = (band_levels(audio_SN, rate_hz=RATE_HZ) for audio_SN in (original_SN, copy_SN))
    loudest = max(original_BT.max(), copy_BT.max())
    original_BT, copy_BT = (np.maximum(level_BT - loudest, FLOOR_DB) for level_BT in (original_BT, copy_BT))
    figure = blank_figure(11.5, 3.2)
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(1, 3, sharey=True)
    seconds = original_SN.shape[-1] / RATE_HZ
    levels = _drawn(panels[0], original_BT, "original", seconds, limits=(FLOOR_DB, 0.0), colours="magma")
    _drawn(panels[1], copy_BT, "round trip", seconds, limits=(FLOOR_DB, 0.0), colours="magma")
    change = _drawn(
        panels[2],
        copy_BT - original_BT,
        "round trip less original",
        seconds,
        limits=(-DIFFERENCE_DB, DIFFERENCE_DB),
        colours="RdBu_r",
    )
    panels[0].set_ylabel("frequency (Hz)", fontsize=8)
    _bar(figure, levels, list(panels[:2]), "dB below the loudest")
    _bar(figure, change, [panels[2]], "dB (red: louder)")
    return png_of(figure)


def _drawn(
    axes: Axes, level_BT: Levels, name: str, seconds: float, *, limits: tuple[float, float], colours: str
) -> QuadMesh:
    bands, frames = level_BT.shape
    axes.set_title(name, fontsize=9)
    edges_s, edges_hz = np.linspace(0.0, seconds, frames + 1), np.geomspace(40.0, 16_000.0, bands + 1)
    mesh = axes.pcolormesh(edges_s, edges_hz, level_BT, vmin=limits[0], vmax=limits[1], cmap=colours, rasterized=True)
    axes.set_yscale("log")
    axes.set_yticks([50, 200, 1000, 4000, 16000], ["50", "200", "1k", "4k", "16k"])
    axes.minorticks_off()
    axes.set_xlabel("seconds", fontsize=8)
    axes.tick_params(labelsize=7)
    return mesh


def _bar(figure: Figure, mesh: QuadMesh, panels: list[Axes], label: str) -> None:
    bar = figure.colorbar(mesh, ax=panels, pad=0.01)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
