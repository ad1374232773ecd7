"""Mixtures of a context and a stem at matched loudness: what adherence metrics embed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d, uniform_filter1d

# Shapes: N samples, J gating blocks, W windows. Everything is mono.

PRESETS = {"L0": 0.0, "L1": -3.0, "L2": -6.0}
"""Loudness of the stem relative to its context in LU; the names are audio-metrics'."""

MIX_LUFS = -20.0  # loudness of every mixture; metrics.md A5
SILENT_PEAK = 1e-5  # audio-metrics' bound for a silent channel
GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0  # ITU-R BS.1770-4, equations 5 and 6
BLOCK_S, STEP_S = 0.4, 0.1  # gating blocks, 75 % overlap
LIMITER_REACH = 527  # samples around a peak in which the limiter lowers the gain: audio-metrics' look-ahead

Samples: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Weighed:
    """Mono audio with its K-weighted copy: what a context needs only once, however many stems are mixed with it."""

    audio_N: NDArray[np.float32]
    weighted_N: NDArray[np.float32]
    rate_hz: int


def mix(context: Samples | Weighed, stem: Samples | Weighed, *, rate_hz: int, preset: str = "L0") -> Samples:
    """The context plus the stem gained to the context's loudness (and the preset), at -20 LUFS, mono float32 (N,).

    A side that is silent (peak below 1e-5, or nothing above the -70 LUFS gate) leaves the other alone, at -20 LUFS;
    if both are silent, or cancel, their sum comes back as it is. Source: metrics.md A5, profile `audio-metrics`.
    Departure: peaks are held at 1 by a limiter that lets none through; audio-metrics' lets impulses of 7 pass.
    """
    if preset not in PRESETS:
        raise ValueError(f"mixing preset {preset!r} is not one of {', '.join(PRESETS)}")
    a, b = _weighed(context, rate_hz), _weighed(stem, rate_hz)
    if len(a.audio_N) != len(b.audio_N):
        raise ValueError(
            f"a context of {len(a.audio_N)} samples and a stem of {len(b.audio_N)}: cut them to one length"
        )
    power_a_J, power_b_J = _block_powers(a, a), _block_powers(b, b)
    loudness_a, loudness_b = _loudness_or_silence(a, power_a_J), _loudness_or_silence(b, power_b_J)
    if loudness_a is None or loudness_b is None:
        audible = loudness_a if loudness_b is None else loudness_b
        sounding_N = b.audio_N if loudness_a is None else a.audio_N
        return a.audio_N + b.audio_N if audible is None else _levelled(sounding_N, audible, MIX_LUFS)
    gain = np.float32(_gain(loudness_a - loudness_b + PRESETS[preset]))
    # K-weighting is linear: the powers of the sum follow from those of the parts and their product.
    power_J = power_a_J + 2 * gain * _block_powers(a, b) + gain**2 * power_b_J
    loudness = _gated_lufs(np.maximum(power_J, 0.0))
    sum_N = a.audio_N + gain * b.audio_N
    return sum_N if np.isneginf(loudness) else _levelled(sum_N, loudness, MIX_LUFS)


def window_mixes(
    context_N: Samples,
    stem_N: Samples,
    *,
    rate_hz: int,
    window_s: float,
    level_each_window: bool,
    preset: str = "L0",
) -> list[Samples]:
    """The mixture cut into whole windows of `window_s`; a remainder is dropped, a shorter clip is one window.

    Loudness is matched and levelled over the whole clip (audio-metrics 0.1) or in each window (1.0): metrics.md A5.
    Departure: audio-metrics 1.0 drops a clip that is shorter than the window.
    """
    window = round(window_s * rate_hz)
    if level_each_window:
        contexts, stems = _windows(context_N, window), _windows(stem_N, window)
        return [mix(c_N, s_N, rate_hz=rate_hz, preset=preset) for c_N, s_N in zip(contexts, stems, strict=True)]
    return _windows(mix(context_N, stem_N, rate_hz=rate_hz, preset=preset), window)


def weigh(audio_N: Samples, *, rate_hz: int) -> Weighed:
    """Mono audio of at least 0.4 s, checked, with its K-weighted copy."""
    audio_N = np.asarray(audio_N, dtype=np.float32)
    if audio_N.ndim != 1:
        raise ValueError(f"mono audio (N,) is mixed, not shape {audio_N.shape}; average the channels first")
    if len(audio_N) < BLOCK_S * rate_hz:
        raise ValueError(f"{len(audio_N)} samples at {rate_hz} Hz: loudness needs at least {BLOCK_S} s")
    if not np.isfinite(audio_N).all():
        raise ValueError(f"sample {int(np.argmin(np.isfinite(audio_N)))} is NaN or infinite")
    return Weighed(
        audio_N, scipy.signal.sosfilt(_k_weighting(rate_hz), audio_N.astype(np.float64)).astype(np.float32), rate_hz
    )


def integrated_lufs(audio_N: Samples, *, rate_hz: int) -> float:
    """Gated loudness of mono audio by ITU-R BS.1770-4, -inf where nothing passes the gate; pyloudnorm's to 1e-5 LU."""
    weighed = weigh(audio_N, rate_hz=rate_hz)
    return _gated_lufs(_block_powers(weighed, weighed))


def at_loudness(audio_N: Samples, *, rate_hz: int, lufs: float = MIX_LUFS) -> Samples:
    """Mono audio at a given loudness with its peaks held at 1; silence comes back as it is."""
    weighed = weigh(audio_N, rate_hz=rate_hz)
    loudness = _loudness_or_silence(weighed, _block_powers(weighed, weighed))
    return weighed.audio_N if loudness is None else _levelled(weighed.audio_N, loudness, lufs)


def _weighed(audio: Samples | Weighed, rate_hz: int) -> Weighed:
    if not isinstance(audio, Weighed):
        return weigh(audio, rate_hz=rate_hz)
    if audio.rate_hz != rate_hz:
        raise ValueError(f"audio weighed at {audio.rate_hz} Hz cannot be mixed at {rate_hz} Hz")
    return audio


@lru_cache(maxsize=8)
def _k_weighting(rate_hz: int) -> NDArray[np.float64]:
    """The two K-weighting stages as second-order sections, with pyloudnorm's parameters."""
    from pyloudnorm import IIRfilter  # here: a machine that only scores embeddings does without it

    shelf = IIRfilter(4.0, 1 / np.sqrt(2), 1500.0, rate_hz, "high_shelf")
    high_pass = IIRfilter(0.0, 0.5, 38.0, rate_hz, "high_pass")
    return np.array([np.concatenate([stage.b, stage.a]) for stage in (shelf, high_pass)])


def _block_powers(a: Weighed, b: Weighed) -> NDArray[np.float64]:
    """Mean product (J,) of the weighted signals over each gating block: the power when both are the same."""
    blocks = round((len(a.audio_N) / a.rate_hz - BLOCK_S) / STEP_S) + 1  # rounded as in pyloudnorm
    edges = [int(BLOCK_S * (step * 0.25) * a.rate_hz) for step in range(blocks + 4)]
    product_N = a.weighted_N * b.weighted_N
    cell_sums = [float(product_N[start:stop].sum()) for start, stop in pairwise(edges)]
    return np.convolve(cell_sums, np.ones(4), mode="valid") / (BLOCK_S * a.rate_hz)


def _gated_lufs(power_J: NDArray[np.float64]) -> float:
    """Loudness of the blocks above -70 LUFS and above 10 LU below their mean."""
    with np.errstate(divide="ignore"):
        loudness_J = _lufs(power_J)
        above_J = loudness_J >= GATE_LUFS
        if not above_J.any():
            return -np.inf
        above_J &= loudness_J > _lufs(power_J[above_J].mean()) + RELATIVE_GATE_LU
    return float(_lufs(power_J[above_J].mean()))


def _loudness_or_silence(audio: Weighed, power_J: NDArray[np.float64]) -> float | None:
    loudness = _gated_lufs(power_J)
    silent = np.isneginf(loudness) or np.abs(audio.audio_N).max() < SILENT_PEAK
    return None if silent else loudness


def _levelled(audio_N: Samples, loudness: float, target_lufs: float) -> Samples:
    """The audio at the target loudness, its gain lowered around every peak that would exceed 1."""
    levelled_N = audio_N * np.float32(_gain(target_lufs - loudness))
    magnitude_N = np.abs(levelled_N)
    return levelled_N if magnitude_N.max() <= 1.0 else _limited(levelled_N, magnitude_N)


def _limited(audio_N: Samples, magnitude_N: Samples) -> Samples:
    """The audio with its peaks at 1.

    Each sample's gain averages, over a window around it, the least gain needed in a window around each neighbour;
    every one of those windows holds the sample itself, so the average never exceeds what the sample needs.
    """
    needed_N = 1.0 / np.maximum(magnitude_N.astype(np.float64), 1.0)
    window = 2 * LIMITER_REACH + 1
    least_N = minimum_filter1d(needed_N, window, mode="nearest")
    smooth_N = uniform_filter1d(least_N, window, mode="nearest")
    return np.clip(audio_N * smooth_N, -1.0, 1.0).astype(np.float32)  # the clip removes float32 rounding only


def _lufs(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return -0.691 + 10.0 * np.log10(power)


def _gain(level_db: float) -> float:
    return float(10.0 ** (level_db / 20.0))


def _windows(audio_N: Samples, window: int) -> list[Samples]:
    if len(audio_N) < window:
        return [audio_N]
    return [audio_N[start : start + window] for start in range(0, len(audio_N) - window + 1, window)]
