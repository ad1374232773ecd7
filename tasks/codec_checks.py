"""What every codec must do, whatever it was trained on: `stemwright codec verify`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from models.codec import CHUNK_SAMPLES, RATE_HZ, Codec, LatentClip
from tasks.fit_codec import RECIPE, WEIGHTS, load_codec
from tasks.store import RECORD
from tasks.whole_files import file_sha256

# Shapes: B batch, S audio channels, N samples, C latent width, T latent frames.

LENGTHS = (2048, CHUNK_SAMPLES - 1, CHUNK_SAMPLES, 480_000)
BATCH_TOLERANCE = 1e-3  # of the audio's own RMS: a batch's sums are rounded in another order
LEAST_SPREAD = 0.01  # codecs.md E.3: 0.003 where latents stayed constant, 0.067 where they could learn
MOST_SATURATED = 0.5
LEAST_EFFECT = 0.01

SEED = 0


class CodecCheck(NamedTuple):
    """One verdict with the figure that it rests on."""

    name: str
    passed: bool
    found: str

    def line(self) -> str:
        """`ok      name: figure`, or `FAILED` in its place."""
        return f"{'ok' if self.passed else 'FAILED':8s}{self.name}: {self.found}"


def codec_checks(folder: Path) -> Iterator[CodecCheck]:
    """Every check of a codec folder in turn. Raises ValueError or OSError where it holds no codec that loads."""
    codec = load_codec(str(folder))
    spec = codec.spec
    yield CodecCheck("loads", True, f"{spec.name}, {spec.audio_channels} channels, {spec.licence}")
    yield _digest(folder)
    with torch.inference_mode():
        yield from (_length(codec, samples) for samples in LENGTHS)
        sounds_BSN = trial_sounds(3 * CHUNK_SAMPLES)
        yield _batch(codec, sounds_BSN)
        yield _repeat(codec, sounds_BSN)
        yield _silence(codec)
        yield from _content(codec, sounds_BSN)


def trial_sounds(samples: int) -> Tensor:
    """Four stereo sounds (4, 2, N) that have little in common: a chord, noise, clicks, and a rising tone."""
    time_N = torch.arange(samples) / RATE_HZ
    noise_2N = torch.randn(2, samples, generator=torch.Generator().manual_seed(SEED))
    chord_N = torch.stack([torch.sin(2 * math.pi * hz * time_N) for hz in (110.0, 165.0, 277.0)]).sum(0) / 8
    clicks_N = torch.where(torch.arange(samples) % 6000 < 60, 0.8, 0.0) * noise_2N[0].sign()
    rise_N = 0.3 * torch.sin(2 * math.pi * (200 * time_N + 800 * time_N**2))
    sounds = [torch.stack([chord_N, chord_N.roll(40)]), 0.1 * noise_2N]
    return torch.stack([*sounds, torch.stack([clicks_N, clicks_N]), torch.stack([rise_N, 0.5 * rise_N])])


def _digest(folder: Path) -> CodecCheck:
    found = {name: file_sha256(folder / name) for name in (WEIGHTS, RECIPE)}
    if not (folder / RECORD).exists():
        return CodecCheck("digest", True, f"{found[WEIGHTS]}; not compared, as there is no {RECORD} beside it")
    kept = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
    wrong = [name for name, sha256 in found.items() if kept.get(name, {}).get("sha256") != sha256]
    return CodecCheck("digest", not wrong, f"{', '.join(wrong)} differ from {RECORD}" if wrong else found[WEIGHTS])


def _length(codec: Codec, samples: int) -> CodecCheck:
    spec = codec.spec
    clip = codec.encode(trial_sounds(samples)[:1])
    copy_BSN = _decoded(codec, clip)
    shapes = (tuple(clip.latent_BCT.shape), tuple(copy_BSN.shape))
    expected = ((1, spec.latent_width, spec.latent_frames(samples)), (1, spec.audio_channels, samples))
    return CodecCheck(f"{samples} samples", shapes == expected, f"latents {shapes[0]}, audio {shapes[1]}")


def _batch(codec: Codec, sounds_BSN: Tensor) -> CodecCheck:
    together_BSN = _decoded(codec, codec.encode(sounds_BSN))
    clips = [codec.encode(sound_SN[None]) for sound_SN in sounds_BSN]
    alone_BSN = torch.cat([_decoded(codec, clip, first=place) for place, clip in enumerate(clips)])
    error = _rms(together_BSN - alone_BSN) / max(_rms(alone_BSN), 1e-9)
    return CodecCheck("a batch equals a loop", error <= BATCH_TOLERANCE, f"differs by {error:.1e} of the audio's RMS")


def _repeat(codec: Codec, sounds_BSN: Tensor) -> CodecCheck:
    clip = codec.encode(sounds_BSN[:1])
    same = torch.equal(_decoded(codec, clip), _decoded(codec, clip))
    return CodecCheck("same seed, same bytes", same, "equal" if same else "two decodes differ")


def _silence(codec: Codec) -> CodecCheck:
    clip = codec.encode(torch.zeros(1, 2, CHUNK_SAMPLES))
    copy_BSN = _decoded(codec, clip)
    finite = bool(torch.isfinite(clip.latent_BCT).all() and torch.isfinite(copy_BSN).all())
    return CodecCheck("silence stays finite", finite, f"decoded to RMS {_rms(copy_BSN):.1e}")


def _content(codec: Codec, sounds_BSN: Tensor) -> Iterator[CodecCheck]:
    """Signs of collapse (codecs.md E.3): latents that are the same for all sounds, saturated, or not listened to."""
    clip = codec.encode(sounds_BSN)
    latent_BCT = clip.latent_BCT
    spread_T = latent_BCT.std(dim=0).mean(dim=0) / latent_BCT.abs().mean(dim=(0, 1)).clamp(min=1e-9)
    spread = spread_T.min().item()
    yield CodecCheck("latents tell sounds apart", spread >= LEAST_SPREAD, f"spread {spread:.3f}, least {LEAST_SPREAD}")
    bounded = bool((latent_BCT.abs() <= 1).all())
    saturated = (latent_BCT.abs() > 0.99).float().mean().item() if bounded else 0.0
    told = f"{saturated:.0%} beyond 0.99, most {MOST_SATURATED:.0%}" if bounded else "not bounded"
    yield CodecCheck("latents are not saturated", saturated <= MOST_SATURATED, told)
    own_BSN = _decoded(codec, clip)
    other_BSN = _decoded(codec, LatentClip(latent_BCT.roll(1, dims=0), clip.samples))
    effect = _rms(own_BSN - other_BSN) / max(_rms(own_BSN), 1e-9)
    yield CodecCheck("the decoder heeds latents", effect >= LEAST_EFFECT, f"effect {effect:.3f}, least {LEAST_EFFECT}")


def _decoded(codec: Codec, clip: LatentClip, *, first: int = 0) -> Tensor:
    """Audio (B, S, N), every item with the noise of its place, counted from `first`."""
    places = range(first, first + len(clip.latent_BCT))
    return codec.decode(clip, generators=[torch.Generator().manual_seed(SEED + place) for place in places])


def _rms(audio_BSN: Tensor) -> float:
    return audio_BSN.square().mean().sqrt().item()
