"""Integrated loudness of audio that arrives in blocks (ITU-R BS.1770-4), however long it is."""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import NDArray

from data_manifests.schema import RATE_HZ

# Shapes: S channels (2), N samples at 48 kHz, T steps of 100 ms, J gating blocks of 400 ms.

STEP_SAMPLES = RATE_HZ // 10
STEPS_PER_BLOCK = 4  # 400 ms with 75 % overlap
GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0  # equations 5 and 6

RUNG_OUT = 1e-9  # silence after silence is not filtered, which numbers near zero make ten times slower

# The two filters of K-weighting at 48 kHz: tables 1 and 2.
K_WEIGHTING = np.array(
    [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
)


class Loudness:
    """Add blocks of (2, N) at 48 kHz in order; every block but the last holds a multiple of 100 ms."""

    def __init__(self) -> None:
        self._state = np.zeros((2, 2, 2))
        self._power_T: list[NDArray[np.float64]] = []

    def add(self, audio_SN: NDArray[np.float32]) -> None:
        if np.abs(self._state).max() < RUNG_OUT and not audio_SN.any():
            self._power_T.append(np.zeros(audio_SN.shape[1] // STEP_SAMPLES))
            return
        weighted_SN, self._state = scipy.signal.sosfilt(K_WEIGHTING, audio_SN, zi=self._state)
        steps = weighted_SN.shape[1] // STEP_SAMPLES
        steps_STM = weighted_SN[:, : steps * STEP_SAMPLES].reshape(2, steps, STEP_SAMPLES)
        self._power_T.append(np.einsum("stm,stm->t", steps_STM, steps_STM) / STEP_SAMPLES)

    def lufs(self) -> float | None:
        """Loudness in LUFS; None for what is shorter than 400 ms or never above the -70 LUFS gate."""
        power_T = np.concatenate(self._power_T) if self._power_T else np.zeros(0)
        if len(power_T) < STEPS_PER_BLOCK:
            return None
        power_J = np.convolve(power_T, np.full(STEPS_PER_BLOCK, 1 / STEPS_PER_BLOCK), mode="valid")
        audible_J = power_J[power_J > _power(GATE_LUFS)]
        if not len(audible_J):
            return None
        gated_J = audible_J[audible_J > np.mean(audible_J) * 10.0 ** (RELATIVE_GATE_LU / 10.0)]
        return -0.691 + 10.0 * math.log10(float(np.mean(gated_J)))


def _power(lufs: float) -> float:
    return float(10.0 ** ((lufs + 0.691) / 10.0))
