"""Stereo audio decoded and encoded chunk by chunk, as it comes: a chunk is pushed, a chunk is returned.

Every chunk gets two denoising passes although the network runs once per chunk, because each run refines one chunk
while it first draws the next (stated and drawn by Music2Latent2; codecs.md A.2, E.3). Borrowed from CoDiCodec: how much
noise the waiting chunk gets. Ours: no dummy chunk at either end.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.codec import CHUNK_SAMPLES, in_codec_channels, seeded_noise
from models.codec_consistency import LEVELS, PROMPT_TIME, SIGMA_MAX, renoised
from models.consistency_codec import ConsistencyCodec, joined
from models.stft import PowerStft

# Shapes: B batch, G chunks (1 or 2), S audio channels, N samples, P real and imaginary parts per channel,
# K frequency bins, F frames, C latent width, Q latent frames of a chunk.


class _Drawn(NamedTuple):
    """A chunk drawn once, noise added again, waiting for the pass that refines it."""

    features: list[Tensor]
    prompt_BGPKF: Tensor


class DecodingStream:
    """Two-step decoding of a batch of endless clips; `codec.decode` is this stream from its first chunk to its last.

    Each `push` of the latents of a chunk returns the audio of the chunk before it, `flush` what is still owed. As
    frames overlap, the last (window - hop) / 2 samples of a chunk come with the next one: 512 of 32,768 at
    Music2Latent2's sizes. The left half never sees the right one, so the first and last pass need no dummy.
    """

    def __init__(self, codec: ConsistencyCodec, *, generators: list[torch.Generator]) -> None:
        self._codec, self._generators = codec, generators
        self._prompt_sigma = float(LEVELS.sigma(torch.tensor(PROMPT_TIME)))
        self._left: _Drawn | None = None
        self._audio = _AudioStream(codec.stft)

    @torch.no_grad()
    def push(self, latent_BCQ: Tensor) -> Tensor:
        """Audio (B, S, N) that this chunk completes: N = 0, then a chunk less its margin, then whole chunks."""
        self._check(latent_BCQ)
        features = self._codec.features(latent_BCQ)
        framing = self._codec.stft.framing
        size = (framing.window_W.shape[0] // 2, CHUNK_SAMPLES // framing.hop_samples)
        noise = seeded_noise((2, 1, 2 * self._codec.spec.audio_channels, *size), self._generators, latent_BCQ)
        first_BGPKF, second_BGPKF = noise.unbind(1)
        passed = self._denoised(SIGMA_MAX * first_BGPKF, features)
        self._left = _Drawn(features, renoised(passed[:, -1:], self._prompt_sigma, second_BGPKF))
        return self._audio.push(passed[:, :-1])

    @torch.no_grad()
    def flush(self) -> Tensor:
        """The last audio (B, S, N) up to whole chunks; the stream can then start anew."""
        if self._left is None:
            raise ValueError("nothing was pushed since the start or the last flush; push the latents of a chunk first")
        left, self._left = self._left, None
        sigma_BG = left.prompt_BGPKF.new_full((len(left.prompt_BGPKF), 1), self._prompt_sigma)
        final = self._codec.denoise(left.prompt_BGPKF, sigma_BG, left.features)
        audio_BSN = torch.cat([self._audio.push(final), self._audio.flush()], dim=-1)
        self._audio = _AudioStream(self._codec.stft)
        return audio_BSN

    def _denoised(self, start_BGPKF: Tensor, features: list[Tensor]) -> Tensor:
        """The chunk drawn from pure noise; before it, in the same pass, the chunk that waited, refined."""
        levels = start_BGPKF.new_tensor([self._prompt_sigma, SIGMA_MAX]).expand(len(start_BGPKF), -1)
        if self._left is None:
            return self._codec.denoise(start_BGPKF, levels[:, 1:], features)
        told = [torch.cat(level, dim=1) for level in zip(self._left.features, features, strict=True)]
        return self._codec.denoise(torch.cat([self._left.prompt_BGPKF, start_BGPKF], dim=1), levels, told)

    def _check(self, latent_BCQ: Tensor) -> None:
        spec = self._codec.spec
        expected = (len(self._generators), spec.latent_width, spec.tokens_per_chunk)
        if tuple(latent_BCQ.shape) != expected:
            raise ValueError(f"pushed latents have shape {tuple(latent_BCQ.shape)}; one chunk has {expected}")


class _AudioStream:
    """Spectrogram chunks to audio: what a chunk's outer frames share with the next one is held back."""

    def __init__(self, stft: PowerStft) -> None:
        self._stft = stft
        self._shared = stft.framing.overlap - 1  # frames that still reach into what comes
        self._kept: Tensor | None = None

    def push(self, chunks_BGPKF: Tensor) -> Tensor:
        """Audio (B, S, N) that later frames no longer touch."""
        if chunks_BGPKF.shape[1] == 0:
            return chunks_BGPKF.new_empty(len(chunks_BGPKF), chunks_BGPKF.shape[2] // 2, 0)
        frames = joined(chunks_BGPKF)
        block = frames if self._kept is None else torch.cat([self._kept, frames], dim=-1)
        audio_BSN, margin = self._stft.audio(block), self._stft.framing.margin_samples
        begin = 0 if self._kept is None else margin
        self._kept = block[..., -self._shared :]
        return audio_BSN[..., begin:-margin].clamp(-1, 1)

    def flush(self) -> Tensor:
        """The margin (B, S, N) that waited for a next chunk."""
        assert self._kept is not None  # only a stream that was pushed to is flushed
        return self._stft.audio(self._kept)[..., -self._stft.framing.margin_samples :].clamp(-1, 1)


class EncodingStream:
    """Latents of a batch of endless clips: any number of samples is pushed, the latents of whole chunks come back.

    A chunk waits for the (window - hop) / 2 samples after it that its last frame hears. No chunk sees another one,
    so the latents are those of `codec.encode` (to rounding: convolutions over other batches).
    """

    def __init__(self, codec: ConsistencyCodec) -> None:
        self._codec = codec
        self._margin = codec.stft.framing.margin_samples
        self._heard: Tensor | None = None  # from the margin before the next chunk on

    @torch.no_grad()
    def push(self, audio_BSN: Tensor) -> Tensor:
        """Latents (B, C, T) of the chunks that this audio (mono or stereo) completes; T may be 0."""
        audio_BSN = in_codec_channels(audio_BSN, self._codec.spec)
        if self._heard is None:
            self._heard = pad(audio_BSN, (self._margin, 0))
        else:
            self._heard = torch.cat([self._heard, audio_BSN], dim=-1)
        return self._encoded((self._heard.shape[-1] - 2 * self._margin) // CHUNK_SAMPLES)

    @torch.no_grad()
    def flush(self) -> Tensor:
        """Latents (B, C, T) of what remains, zero-padded to whole chunks; the stream can then start anew."""
        if self._heard is None:
            raise ValueError("nothing was pushed since the start or the last flush; push audio first")
        remaining = self._heard.shape[-1] - self._margin
        chunks = -(-remaining // CHUNK_SAMPLES)
        self._heard = pad(self._heard, (0, chunks * CHUNK_SAMPLES - remaining + self._margin))
        latent_BCT, self._heard = self._encoded(chunks), None
        return latent_BCT

    def _encoded(self, chunks: int) -> Tensor:
        """Latents of the first `chunks` chunks heard, which are then forgotten."""
        assert self._heard is not None
        if chunks < 1:
            return self._heard.new_empty(len(self._heard), self._codec.spec.latent_width, 0)
        told = self._heard[..., : chunks * CHUNK_SAMPLES + 2 * self._margin]
        self._heard = self._heard[..., chunks * CHUNK_SAMPLES :]
        return self._codec.latents(self._codec.chunks(told, padded=False))
