"""A corpus of latents whose conditional law is known in closed form, and how far samples are from it.

    target = M context K' + B e 1' + noise

M mixes channels, K frames; e, the embedding of the target window itself, shifts every frame alike; the noise has
covariance Sigma_C (x) Sigma_T. e is uniform on the sphere, another segment of the stem lies at a fixed angle from it in
any direction, and a text at another angle, then rotated and moved: a known gap. So the mean of e given any of these is
`cosine` times the audio embedding that they tell of, and what is left of e has the covariance (1 - cosine^2) / E I when
averaged over the sphere. Two numbers thus say what a sampler was told: whether it had the context, and the cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.batch import LatentSet

# Shapes: N windows, R samples of each, K other segments, C latent width, T latent frames, E CLAP width, P = C T.

Array = NDArray[Any]

SEGMENT_COSINE = 0.9  # from one segment of a stem to another
TEXT_COSINE = 0.95  # from the target window to what its text tells
BRIDGED_COSINE = SEGMENT_COSINE**2 * TEXT_COSINE  # text to e, e to the segment that a perfect bridge draws, and back
GAP = 0.6  # how far texts are moved
SHARES = (0.45, 0.3, 0.25)  # of a target's mean square: from the context, from the embedding, noise


class Windows(NamedTuple):
    """Windows of the corpus; `own_NE` is the embedding of the target window itself."""

    context_NCT: Array
    target_NCT: Array
    own_NE: Array
    others_NKE: Array
    text_NE: Array


@dataclass(frozen=True, eq=False)
class DesignedLaw:
    """The fixed parts of the law, a function of a seed (`designed_law`)."""

    mixing_CC: Array
    blur_TT: Array
    shift_CE: Array
    noise_CC: Array
    noise_TT: Array
    context_TT: Array
    turn_EE: Array
    move_E: Array

    def draw(self, windows: int, *, seed: int, segments: int = 2) -> Windows:
        """Independent windows of the corpus."""
        random = np.random.default_rng(seed)
        channels, frames = len(self.mixing_CC), len(self.blur_TT)
        context = random.standard_normal((windows, channels, frames)) @ np.linalg.cholesky(self.context_TT).T
        own = _unit(random.standard_normal((windows, len(self.move_E))))
        others = [_turned(own, SEGMENT_COSINE, random) for _ in range(segments)]
        text = _turned(own, TEXT_COSINE, random) @ self.turn_EE + self.move_E
        noise = np.linalg.cholesky(self.noise_CC) @ random.standard_normal(context.shape)
        target = self.from_context(context) + self.from_clap(own) + noise @ np.linalg.cholesky(self.noise_TT).T
        return Windows(*(part.astype(np.float32) for part in (context, target, own, np.stack(others, 1), _unit(text))))

    def from_context(self, context_NCT: Array) -> Array:
        """What the context adds to the mean of the target (N, C, T)."""
        return self.mixing_CC @ context_NCT @ self.blur_TT.T

    def from_clap(self, clap_NE: Array) -> Array:
        """What an embedding, times the cosine, adds to the mean of the target (N, C, T)."""
        return np.repeat((clap_NE @ self.shift_CE.T)[:, :, None], len(self.blur_TT), axis=2)

    def told(self, text_NE: Array) -> Array:
        """The audio embeddings (N, E) that texts tell of: the gap undone, by the one point of their ray that fits."""
        along = text_NE @ self.move_E
        length = along + np.sqrt(along**2 + 1 - self.move_E @ self.move_E)
        return (length[:, None] * text_NE - self.move_E) @ self.turn_EE.T

    def covariance(self, *, context: bool, cosine: float) -> Array:
        """Covariance (P, P) of the target about its conditional mean, averaged over the embeddings."""
        given = np.kron(self.noise_CC, self.noise_TT)
        unknown = (1 - cosine**2) / len(self.move_E) * (self.shift_CE @ self.shift_CE.T)
        given = given + np.kron(unknown, np.ones_like(self.blur_TT))
        if context:
            return given
        return given + np.kron(self.mixing_CC @ self.mixing_CC.T, self.blur_TT @ self.context_TT @ self.blur_TT.T)


class Distance(NamedTuple):
    """How far samples are from the law.

    The gains are the coefficients of the context's and the embedding's part in the samples: 1 (or the cosine) where it
    is told, 0 where it is withheld. `mean_error` is the root mean square error of the conditional mean over the root
    mean square of a target, `covariance_error` the Frobenius distance of the covariances over the true one's norm.
    Both come from products of independent halves, so that they tend to 0, not to the error of the finite number of
    samples; a negative square is given as 0.
    """

    context_gain: float
    clap_gain: float
    mean_error: float
    covariance_error: float


def distance(
    law: DesignedLaw, samples_RNCT: Array, context_NCT: Array, clap_NE: Array, *, context: bool, cosine: float
) -> Distance:
    """How far R samples of every condition are from the law that holds when this much was told."""
    parts = law.from_context(context_NCT), law.from_clap(clap_NE)
    regressors = np.stack([part.ravel() for part in parts], axis=1)
    gains = np.linalg.lstsq(regressors, samples_RNCT.mean(0).ravel(), rcond=None)[0]
    left_RNP = samples_RNCT - (float(context) * parts[0] + cosine * parts[1])
    left_RNP = left_RNP.reshape(*samples_RNCT.shape[:2], -1)
    truth_PP = law.covariance(context=context, cosine=cosine)
    repeats, windows, _ = left_RNP.shape
    sums = np.square(left_RNP.sum(0)).mean() - np.square(left_RNP).sum(0).mean()
    halves = [_second_moment(left_RNP[:, half]) - truth_PP for half in (slice(0, windows, 2), slice(1, windows, 2))]
    total = np.trace(law.covariance(context=False, cosine=0.0)) / len(truth_PP)
    return Distance(
        float(gains[0]),
        float(gains[1]),
        math.sqrt(max(float(sums) / (repeats * (repeats - 1)) / total, 0.0)),
        math.sqrt(max(float((halves[0] * halves[1]).sum()), 0.0)) / float(np.linalg.norm(truth_PP)),
    )


def designed_law(*, channels: int = 8, frames: int = 12, clap_width: int = 8, seed: int = 0) -> DesignedLaw:
    """The law of a seed. M, B and the noise of the channels are full, so that no channel can be had from itself."""
    random = np.random.default_rng([seed, 2024])
    from_context, from_clap, noise = SHARES
    lags = np.abs(np.subtract.outer(np.arange(frames), np.arange(frames)))
    blur = np.where(np.subtract.outer(np.arange(frames), np.arange(frames)) == 1, 0.6, 0.0) + 0.8 * np.eye(frames)
    mixing, shift = _rotation(channels, random), random.standard_normal((channels, clap_width))
    spread = _rotation(channels, random)
    context_TT = 0.5**lags
    heard = np.trace(blur @ context_TT @ blur.T) / frames
    return DesignedLaw(
        mixing_CC=mixing * math.sqrt(from_context / heard),
        blur_TT=blur,
        shift_CE=shift * math.sqrt(from_clap * clap_width * channels) / np.linalg.norm(shift),
        noise_CC=noise * spread @ np.diag(np.linspace(0.4, 1.6, channels)) @ spread.T,
        noise_TT=0.7**lags,
        context_TT=context_TT,
        turn_EE=_rotation(clap_width, random),
        move_E=GAP * _unit(random.standard_normal(clap_width)),
    )


def latent_set(windows: Windows) -> LatentSet:
    """The windows as a training set, with pooled statistics."""
    pooled = np.concatenate([windows.target_NCT, windows.context_NCT])
    return LatentSet(
        target_NCT=windows.target_NCT,
        context_NCT=windows.context_NCT,
        clap_audio_NKE=windows.others_NKE,
        clap_leak_NE=windows.own_NE,
        mean_C=pooled.mean((0, 2)),
        std_C=pooled.std((0, 2)),
    )


def _turned(vectors_NE: Array, cosine: float, random: np.random.Generator) -> Array:
    """Unit vectors at this cosine from the given ones, in every direction alike."""
    away = random.standard_normal(vectors_NE.shape)
    away -= (away * vectors_NE).sum(1, keepdims=True) * vectors_NE
    return cosine * vectors_NE + math.sqrt(1 - cosine**2) * _unit(away)


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _rotation(size: int, random: np.random.Generator) -> Array:
    return np.linalg.qr(random.standard_normal((size, size)))[0]


def _second_moment(left_RNP: Array) -> Array:
    rows = left_RNP.reshape(-1, left_RNP.shape[-1])
    return rows.T @ rows / len(rows)
