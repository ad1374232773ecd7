"""Audio of any length to latents and back, a window at a time, and the joints that this makes in a waveform."""

from __future__ import annotations

import torch
from torch import Tensor

from models.accompanist_terms import Told, untold
from models.codec import Codec, LatentClip
from models.music2latent2 import Music2Latent2

# Shapes: S audio channels, N samples, C latent width, L latent frames, V variants that become channels.

FADE_SAMPLES = 480  # 10 ms: shorter clicks, longer smears an onset


def encode_long(codec: Codec, audio_SN: Tensor, *, window_samples: int, told: Told = untold) -> Tensor:
    """Raw latents (1, C, L) of audio, padded to whole chunks.

    What fits a window is encoded at once, as in training; longer audio in windows that see a chunk more on both sides,
    so that memory does not grow with it.
    """
    samples, chunk = audio_SN.shape[1], codec.spec.chunk_samples
    if samples <= window_samples:
        return codec.encode(audio_SN[None]).latent_BCT
    pieces = []
    for begin in range(0, samples, window_samples):
        before = min(begin, chunk)
        seen_SN = audio_SN[:, begin - before : begin + window_samples + chunk]
        first = codec.spec.latent_frames(before)
        frames = codec.spec.latent_frames(min(window_samples, samples - begin))
        pieces.append(codec.encode(seen_SN[None]).latent_BCT[..., first : first + frames])
        told(min((begin + window_samples) / samples, 1.0))
    return torch.cat(pieces, dim=2)


def decode_long(
    codec: Codec,
    latent_VCL: Tensor,
    *,
    samples: int,
    window_samples: int,
    generators: list[torch.Generator],
    told: Told = untold,
) -> Tensor:
    """Audio (2, `samples`) of the latents of one candidate.

    V is 1, or 2 where a mono codec plays left and right apart; latents beyond `samples` are left out. What fits a
    window is decoded at once, and so is all by a codec that decodes as a stream; else windows overlap by a chunk and
    are joined there.
    """
    spec = codec.spec
    latent_VCL = latent_VCL[..., : spec.latent_frames(samples)]
    if isinstance(codec, Music2Latent2) or samples <= window_samples:
        return _two_channels(codec.decode(LatentClip(latent_VCL, samples), generators=generators))
    pieces: list[Tensor] = []
    for begin in range(0, samples - spec.chunk_samples, window_samples - spec.chunk_samples):
        length = min(window_samples, samples - begin)
        first = spec.latent_frames(begin)
        clip = LatentClip(latent_VCL[..., first : first + spec.latent_frames(length)], length)
        piece_SN = _two_channels(codec.decode(clip, generators=generators))
        if pieces:
            before_SN, overlap = pieces.pop(), spec.chunk_samples
            pieces.append(before_SN[:, :-overlap])
            piece_SN = joined(before_SN[:, -overlap:], piece_SN, overlap=overlap)
        pieces.append(piece_SN)
        told((begin + length) / samples)
    return torch.cat(pieces, dim=1)


def joined(first_SN: Tensor, second_SN: Tensor, *, overlap: int) -> Tensor:
    """Two takes of one sound one after the other, faded over `overlap` samples without a change of loudness.

    How alike they are there decides between equal gain, for the same waveform, and equal power, for other phases.
    """
    if overlap < 1:
        return torch.cat([first_SN, second_SN], dim=1)
    old_SN, new_SN = first_SN[:, -overlap:], second_SN[:, :overlap]
    alike = torch.nn.functional.cosine_similarity(old_SN.flatten(), new_SN.flatten(), dim=0).clamp(min=0)
    weight_N = (torch.arange(overlap) + 0.5) / overlap
    power_N = weight_N**2 + (1 - weight_N) ** 2 + 2 * alike * weight_N * (1 - weight_N)
    faded_SN = (weight_N * new_SN + (1 - weight_N) * old_SN) / power_N.sqrt()
    return torch.cat([first_SN[:, :-overlap], faded_SN.clamp(-1, 1), second_SN[:, overlap:]], dim=1)


def with_kept(made_SN: Tensor, given_SN: Tensor, kept_N: Tensor) -> Tensor:
    """The made audio (2, N) with the given one where `kept_N`, sample for sample but for 10 ms at each joint.

    `given_SN` may end before N, after its last kept sample.
    """
    given_SN = torch.nn.functional.pad(given_SN, (0, made_SN.shape[1] - given_SN.shape[1]))
    share_N = _faded_inwards(kept_N)
    return share_N * given_SN + (1 - share_N) * made_SN


def closed_loop(audio_SN: Tensor, *, begin: int, period: int) -> Tensor:
    """`period` samples (2, `period`) from `begin` on whose end runs into their start.

    The last 10 ms turn into what stands before `begin`, which the start goes on from.
    """
    loop_SN = audio_SN[:, begin : begin + period].clone()
    fade = min(FADE_SAMPLES, begin, period)
    before_SN = audio_SN[:, begin - fade : begin]
    loop_SN[:, period - fade :] = joined(loop_SN[:, period - fade :], before_SN, overlap=fade)
    return loop_SN


def _two_channels(audio_VSN: Tensor) -> Tensor:
    """Stereo of one clip, of a mono one twice, or of two mono ones."""
    audio_SN = audio_VSN.flatten(0, 1)
    return audio_SN.expand(2, -1)


def _faded_inwards(kept_N: Tensor) -> Tensor:
    """1 where samples are kept and 0 elsewhere, falling to 0 within the kept ones."""
    weight_N = kept_N.float()
    edges = torch.nonzero(kept_N[1:] != kept_N[:-1]).flatten() + 1
    ramp = (torch.arange(FADE_SAMPLES) + 0.5) / FADE_SAMPLES
    for edge in edges.tolist():
        if kept_N[edge]:
            ramp_N = ramp[: len(weight_N) - edge]
            weight_N[edge : edge + len(ramp_N)] = torch.minimum(weight_N[edge : edge + len(ramp_N)], ramp_N)
        else:
            ramp_N = ramp[:edge].flip(0)
            weight_N[edge - len(ramp_N) : edge] = torch.minimum(weight_N[edge - len(ramp_N) : edge], ramp_N)
    return weight_N
