"""The report's pictures as PNG bytes: training curves, spaces, spectrograms. Equal input, equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.paper_table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Shapes: S channels, N samples, F frequency bins, B bands, T frames.
Audio = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Values of one training over its steps. All `values` share one axis, so give losses with losses."""

    name: str
    steps: tuple[int, ...]
    values: dict[str, tuple[float, ...]]


def training_plot(curves: Sequence[Curve]) -> bytes:
    """One panel per training, its values over the step."""
    panels_across = min(2, len(curves))
    panels_down = -(-len(curves) // panels_across)
    figure = blank_figure(4.5 * panels_across, 2.6 * panels_down)
    grid = figure.subplots(panels_down, panels_across, squeeze=False).ravel()
    for axes, curve in zip(grid, curves, strict=False):
        _curve(axes, curve)
    for axes in grid[len(curves) :]:
        axes.set_visible(False)
    return png_of(figure)


def space_plot(
    audio_NE: NDArray[np.float32],
    text_NE: NDArray[np.float32],
    roles: Sequence[str],
    *,
    gap: float,
    crosses: str = "its text",
) -> bytes:
    """Audio (dots) and its own texts (crosses), a colour a role.

    Sideways along the gap from the mean of one to that of the other, upwards where they spread most beside it (PCA).
    """
    both_ME = np.concatenate([audio_NE, text_NE]).astype(np.float64)
    centred_ME = both_ME - both_ME.mean(axis=0)
    along_E = centred_ME[len(audio_NE) :].mean(axis=0)
    along_E /= max(float(np.linalg.norm(along_E)), 1e-12)
    beside_ME = centred_ME - np.outer(centred_ME @ along_E, along_E)
    upwards_E = np.linalg.svd(beside_ME, full_matrices=False)[2][0]
    plane_M2 = centred_ME @ np.stack([along_E, upwards_E], axis=1)
    shares = plane_M2.var(axis=0) / centred_ME.var(axis=0).sum()
    audio_N2, text_N2 = plane_M2[: len(audio_NE)], plane_M2[len(audio_NE) :]
    figure = blank_figure(6.2, 5.0)
    axes = figure.subplots()
    for number, role in enumerate(sorted(set(roles))):
        rows, colour = [row for row, own in enumerate(roles) if own == role], f"C{number}"
        axes.scatter(audio_N2[rows, 0], audio_N2[rows, 1], s=16, color=colour, alpha=0.6, linewidths=0, label=role)
        axes.scatter(text_N2[rows, 0], text_N2[rows, 1], s=22, color=colour, marker="x", linewidths=1.0)
    (audio_x, audio_y), (text_x, text_y) = audio_N2.mean(axis=0), text_N2.mean(axis=0)
    axes.plot([audio_x, text_x], [audio_y, text_y], color="#1b1b1b", linewidth=1.4)
    axes.scatter(audio_x, audio_y, s=70, color="#1b1b1b", zorder=3, label="mean of audio")
    axes.scatter(text_x, text_y, s=70, color="#1b1b1b", marker="x", linewidths=2.2, zorder=3, label="mean of crosses")
    axes.set_title(f"dots: audio, crosses: {crosses}; the means are {gap:.2f} apart", fontsize=9, loc="left")
    axes.set_xlabel(f"along the gap: {shares[0]:.0%} of the spread", fontsize=8)
    axes.set_ylabel(f"{shares[1]:.0%} of the spread", fontsize=8)
    axes.set_aspect("equal", adjustable="datalim")
    axes.tick_params(labelsize=7)
    axes.grid(color="#d9d9d9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, frameon=False, loc="outside right upper")
    return png_of(figure)


def spectrogram_plot(clips: Mapping[str, Audio], *, rate_hz: int) -> bytes:
    """Named clips (each audio_SN) side by side on one level scale, so that a quiet clip looks quiet."""
    levels = {name: band_levels(audio_SN, rate_hz=rate_hz) for name, audio_SN in clips.items()}
    loudest = max(level_BT.max() for level_BT in levels.values())
    figure, panels, bar = _panels_and_bar(len(levels))
    for axes, (name, level_BT) in zip(panels, levels.items(), strict=True):
        seconds = clips[name].shape[-1] / rate_hz
        image = _spectrogram(axes, level_BT - loudest, seconds=seconds)
        axes.set_title(name, fontsize=9)
    panels[0].set_ylabel("frequency (Hz)", fontsize=8)
    figure.colorbar(image, cax=bar)
    bar.set_ylabel("dB below the loudest", fontsize=8)
    bar.tick_params(labelsize=7)
    return png_of(figure)


def band_levels(audio_SN: Audio, *, rate_hz: int) -> NDArray[np.float64]:
    """Level in dB of the mono mean in 96 bands, equally wide on a logarithmic axis from 40 Hz to 16 kHz: level_BT.

    A picture, not a feature: no score is computed from it.
    """
    magnitude_FT = _magnitudes(audio_SN.mean(axis=0))
    bins_hz = np.fft.rfftfreq(_FRAME, 1 / rate_hz)
    weights_BF = _triangles(np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _BANDS + 2), bins_hz)
    level_BT: NDArray[np.float64] = 20 * np.log10(np.maximum(weights_BF @ magnitude_FT, 1e-6))
    return level_BT


_FRAME, _HOP, _BANDS = 4096, 1024, 96
_LOWEST_HZ, _HIGHEST_HZ = 40.0, 16_000.0
_FLOOR_DB = -80.0
# Okabe & Ito's colours: told apart by colour-blind readers and in grey print, in Table 1's order of the arms.
_COLOURS = {
    "real": "#000000",
    "lower bound": "#8c8c8c",
    "Diff-A-Riff": "#E69F00",
    "+M2L2": "#D55E00",
    "+DiT": "#0072B2",
    "+CLAP_beta": "#CC79A7",
    "C-DiT": "#009E73",
}
_OTHER_COLOUR = "#56B4E9"


def row_colour(row: Row) -> str:
    """The colour of a row's arm in every picture."""
    return _COLOURS.get(row[0], _OTHER_COLOUR)


def _curve(axes: Axes, curve: Curve) -> None:
    for name, values in curve.values.items():
        axes.plot(curve.steps, values, linewidth=1.2, label=name)
    finite = [value for values in curve.values.values() for value in values if np.isfinite(value)]
    # Consistency losses fall by orders of magnitude; on a linear axis all but the first steps would lie on the floor.
    if finite and min(finite) > 0 and max(finite) / min(finite) > 30:
        axes.set_yscale("log")
    axes.set_title(curve.name, fontsize=9, loc="left")
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(color="#d9d9d9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False)


def _panels_and_bar(count: int) -> tuple[Figure, list[Axes], Axes]:
    """A figure with panels and a narrow bar at fixed places: a layout engine would draw all of it twice."""
    left, panel, gap, width, height = 0.55, 2.55, 0.2, 1.2 + 2.75 * count, 2.7  # inches
    figure = blank_figure(width, height, layout=None)

    def axes_at(x: float, wide: float, beside: Axes | None = None) -> Axes:
        return figure.add_axes((x / width, 0.45 / height, wide / width, 1.95 / height), sharey=beside)

    panels = [axes_at(left, panel)]
    for place in range(1, count):
        panels.append(axes_at(left + place * (panel + gap), panel, panels[0]))
        panels[-1].tick_params(labelleft=False)
    return figure, panels, axes_at(left + count * (panel + gap), 0.12)


def _spectrogram(axes: Axes, level_BT: NDArray[np.float64], *, seconds: float) -> AxesImage:
    image = axes.imshow(
        level_BT,
        extent=(0, seconds, 0, _BANDS),
        vmin=_FLOOR_DB,
        vmax=0.0,
        cmap="magma",
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    octaves = np.log2(np.array([50, 200, 1000, 4000, 16000]) / _LOWEST_HZ)
    axes.set_yticks(_BANDS * octaves / np.log2(_HIGHEST_HZ / _LOWEST_HZ), ["50", "200", "1k", "4k", "16k"])
    axes.set_xlabel("seconds", fontsize=8)
    axes.tick_params(labelsize=7)
    return image


def _magnitudes(mono_N: Audio) -> NDArray[np.float64]:
    """Hann-windowed short-time magnitudes_FT; 0 dB is a full-scale sine."""
    padded_N = np.pad(mono_N.astype(np.float64), (0, max(0, _FRAME - mono_N.shape[0])))
    frames_TN = np.lib.stride_tricks.sliding_window_view(padded_N, _FRAME)[::_HOP]
    window_N = np.hanning(_FRAME)
    magnitude_FT: NDArray[np.float64] = np.abs(np.fft.rfft(frames_TN * window_N, axis=1)).T * (2 / window_N.sum())
    return magnitude_FT


def _triangles(edges_hz: NDArray[np.float64], bins_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Overlapping triangles weights_BF between edges; a band narrower than a bin takes its nearest bin."""
    low, middle, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising, falling = (bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle)
    weights_BF: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    empty = weights_BF.sum(axis=1) == 0
    weights_BF[empty, np.abs(bins_hz - middle[empty]).argmin(axis=1)] = 1.0
    weights_BF /= weights_BF.sum(axis=1, keepdims=True)
    return weights_BF


def blank_figure(width_in: float, height_in: float, *, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """A figure of that size, to be drawn on and written by `png_of`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: slow to import, and most commands draw nothing
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: Figure) -> bytes:
    """The figure as PNG bytes, the same for the same figure."""
    png = BytesIO()
    # matplotlib stamps its version into the file unless told not to.
    figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
    return png.getvalue()
