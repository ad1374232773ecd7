"""Decodes all chunks of a clip together, in pairs that change from step to step (codecs.md A.3, E.3).

CoDiCodec's way, with weights trained for two chunks; Music2Latent2 as described has only the two-step order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.codec import seeded_noise
from models.codec_consistency import LEVELS, SIGMA_MAX, renoised
from models.consistency_codec import ConsistencyCodec

# Shapes: B batch, G chunks, P real and imaginary parts per channel, K frequency bins, F frames, C latent width,
# Q latent frames of a chunk, R pairs of one pass.

PAIRS_PER_PASS = 8  # of every item: memory does not grow with the clip


def decoded_in_parallel(
    codec: ConsistencyCodec, chunks: Sequence[Tensor], *, generators: list[torch.Generator], steps: int
) -> Tensor:
    """Spectrogram chunks (B, G, P, K, F) of the latents (B, C, Q) of consecutive chunks.

    Step k denoises every chunk from the noise level at time 1 - k / steps. Even steps pair chunks (0, 1), (2, 3) ...,
    odd ones (1, 2), (3, 4) ..., so that what borders a chunk is heard from both sides; a chunk without a partner is
    denoised alone. Noise comes from each item's own generator, step by step.
    """
    if steps < 1:
        raise ValueError(f"parallel decoding in {steps} steps; expected 1 or more, 3 to 5 are usual")
    features = [codec.features(latent_BCQ) for latent_BCQ in chunks]
    framing = codec.stft.framing
    bins, frames = framing.window_W.shape[0] // 2, codec.spec.chunk_samples // framing.hop_samples
    shape = (len(chunks), 2 * codec.spec.audio_channels, bins, frames)
    clean_BGPKF = chunks[0].new_zeros(len(generators), *shape)
    for step in range(steps):
        sigma = float(LEVELS.sigma(torch.tensor(1 - step / steps)))
        noise_BGPKF = seeded_noise(shape, generators, chunks[0])
        noisy_BGPKF = SIGMA_MAX * noise_BGPKF if step == 0 else renoised(clean_BGPKF, sigma, noise_BGPKF)
        clean_BGPKF = _denoised_in_pairs(codec, noisy_BGPKF, sigma, features, first=step % 2)
    return clean_BGPKF


def _denoised_in_pairs(
    codec: ConsistencyCodec, noisy_BGPKF: Tensor, sigma: float, features: list[list[Tensor]], *, first: int
) -> Tensor:
    """All chunks denoised: those before `first` and an odd last one alone, the others two by two."""
    count = noisy_BGPKF.shape[1]
    paired = (count - first) // 2 * 2
    groups = [(0, first, 1), (first, first + paired, 2), (first + paired, count, 1)]
    denoised = []
    for begin, end, together in groups:
        for start in range(begin, end, together * PAIRS_PER_PASS):
            window = slice(start, min(end, start + together * PAIRS_PER_PASS))
            denoised.append(_pass(codec, noisy_BGPKF[:, window], sigma, features[window], together))
    return torch.cat(denoised, dim=1)


def _pass(
    codec: ConsistencyCodec, noisy_BGPKF: Tensor, sigma: float, features: list[list[Tensor]], together: int
) -> Tensor:
    """Consecutive chunks denoised in one pass of the network, `together` at a time; pairs are folded into the batch."""
    batch = len(noisy_BGPKF)
    told = [_folded(torch.cat(level, dim=1), together) for level in zip(*features, strict=True)]
    folded = _folded(noisy_BGPKF, together)
    denoised = codec.denoise(folded, folded.new_full(folded.shape[:2], sigma), told)
    return denoised.unflatten(0, (batch, -1)).flatten(1, 2)


def _folded(chunks_BGX: Tensor, together: int) -> Tensor:
    """(B, R together, ...) as (B R, together, ...)."""
    return chunks_BGX.unflatten(1, (-1, together)).flatten(0, 1)
