"""Round trips of codecs over the same clips: the figures of each, and audio and pictures of the first clips."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data_manifests.schema import RATE_HZ
from metrics.frechet import frechet_distance
from metrics.mixing import at_loudness, integrated_lufs
from models.clap import Clap
from models.codec import Codec, CodecSpec
from models.codec_quality import log_mel_distance_db, si_sdr_db, stft_distance
from models.codecs import CodecRecipe
from models.music2latent import Music2LatentRecipe
from models.music2latent2 import Music2Latent2Recipe
from models.pretrained_codicodec import PretrainedCoDiCodecRecipe
from models.pretrained_music2latent import PretrainedMusic2LatentRecipe
from models.spectral import SpectralRecipe
from tasks.audio_bytes import decode_flac, flac_bytes, headroom_gain
from tasks.audio_folder import AudioClip
from tasks.embed import embed_one
from tasks.fit_codec import RECIPE, codec_name, load_codec
from tasks.peak_memory import peak_mib
from tasks.recipes import load_recipe
from tasks.roundtrip_picture import roundtrip_picture
from tasks.whole_files import write_whole
from tasks.window_source import WindowSource, pieces_of, samples_of

# Shapes: S channels (2; 1 where the codec is mono), N samples at 48 kHz, E embedding width, R clips.

Audio = NDArray[np.float32]

NOISE = "white noise"
"""The yardstick's row: noise as loud as each clip, in place of its round trip."""


@dataclass(frozen=True, kw_only=True)
class RoundTripRow:
    """One codec over all clips: means of the distances, medians of the times. The yardstick has no codec's fields.

    `fad` is the Fréchet distance from the originals to their round trips, `fad_of_noise` that to the yardstick. A
    real-time factor is the time taken per second of audio, one clip at a time: below 1 is faster than it plays.
    `peak_mib` is what loading the codec and one clip's round trip held at most. Compression: samples per latent number.
    """

    codec: str
    kind: str
    channels: int
    clips: int
    stft_distance: float
    log_mel_distance_db: float
    si_sdr_db: float
    fad: float
    fad_of_noise: float
    training: str | None = None
    weights_sha256: str | None = None
    latents_per_s: float | None = None
    compression: float | None = None
    encode_rtf: float | None = None
    decode_rtf: float | None = None
    peak_mib: float | None = None

    @property
    def fad_share(self) -> float:
        """The distance as a share of the yardstick's: 0 is lossless, 1 as far from the originals as noise."""
        return self.fad / self.fad_of_noise


@dataclass(frozen=True, kw_only=True)
class RoundTrips:
    """What codecs are tried on and judged by. `clips` (2, N) share one length; the first `examples` are written."""

    clips: Sequence[AudioClip]
    clap: Clap
    examples: int
    seed: int
    device: str

    def rows(self, codecs: Mapping[str, Path], out: Path) -> Iterator[RoundTripRow]:
        """The yardstick's row, then one per codec folder under its label.

        Below `out`: the originals as FLAC, and a folder per codec with its round trips and their pictures.
        """
        if len(self.clips) < 2:
            raise ValueError(
                f"{len(self.clips)} clip: a Fréchet distance needs two or more; raise --clips or give audio"
            )
        originals_RE = np.stack([embed_one(self.clap, clip.audio_SN) for clip in self.clips])
        for clip in self.clips[: self.examples]:
            _write_audio(out / "original" / f"{clip.name}.flac", clip.audio_SN)
        noise = self._noise(originals_RE)
        yield noise
        for label, folder in codecs.items():
            row = self._codec(label, folder, originals_RE, out / label)
            yield replace(row, fad_of_noise=noise.fad)

    def _codec(self, label: str, folder: Path, originals_RE: Audio, out: Path) -> RoundTripRow:
        memory = peak_mib(partial(_lone_trip, folder, self.clips[0].audio_SN, self.device), self.device)
        codec = on_device(load_codec(str(folder)), self.device)
        self._trip(codec, 0)  # the first pass of any network is slow; it is not timed
        trips, found = [], []
        for number, clip in enumerate(self.clips):
            original_SN = heard(clip.audio_SN, codec.spec)
            trip = self._trip(codec, number)
            trips.append(trip)
            found.append(_distances(original_SN, trip.audio_SN, self.clap))
            if number < self.examples:
                _write_audio(out / f"{clip.name}.flac", trip.audio_SN)
                picture = roundtrip_picture(original_SN, trip.audio_SN, title=f"{label}: {clip.name}")
                write_whole(out / f"{clip.name}.png", picture)
        recipe = load_recipe((folder / RECIPE).read_text(encoding="utf-8"))
        spec, seconds = codec.spec, self.clips[0].audio_SN.shape[-1] / RATE_HZ
        row = _row(label, found, originals_RE, kind=codec_name(recipe), channels=spec.audio_channels)
        return replace(
            row,
            training=_training(recipe),
            weights_sha256=spec.weights_sha256,
            latents_per_s=spec.tokens_per_chunk * spec.rate_hz / spec.chunk_samples,
            compression=spec.audio_channels * spec.chunk_samples / (spec.tokens_per_chunk * spec.latent_width),
            encode_rtf=median(trip.encode_s for trip in trips) / seconds,
            decode_rtf=median(trip.decode_s for trip in trips) / seconds,
            peak_mib=memory,
        )

    def _trip(self, codec: Codec, number: int) -> _Trip:
        """One clip there and back; its noise depends on its number and the seed alone."""
        return _trip(codec, self.clips[number].audio_SN, self.device, self.seed + number)

    def _noise(self, originals_RE: Audio) -> RoundTripRow:
        random = np.random.default_rng(self.seed)
        found = [_distances(clip.audio_SN, _as_loud(clip.audio_SN, random), self.clap) for clip in self.clips]
        return _row(NOISE, found, originals_RE, kind="as loud as each clip", channels=2)


class _Trip(NamedTuple):
    audio_SN: Audio
    encode_s: float
    decode_s: float


def _lone_trip(folder: Path, audio_SN: Audio, device: str) -> None:
    """A codec loaded and one clip there and back: what the memory of a codec is read from."""
    _trip(on_device(load_codec(str(folder)), device), audio_SN, device, seed=0)


def _trip(codec: Codec, audio_SN: Audio, device: str, seed: int) -> _Trip:
    audio_BSN = torch.from_numpy(np.ascontiguousarray(audio_SN))[None].to(device)
    with torch.inference_mode():
        started = _clock(device)
        latents = codec.encode(audio_BSN)
        between = _clock(device)
        copy_BSN = codec.decode(latents, generators=[torch.Generator(device).manual_seed(seed)])
        finished = _clock(device)
    return _Trip(copy_BSN[0].cpu().numpy(), between - started, finished - between)


def _clock(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


class _Distances(NamedTuple):
    stft: float
    log_mel_db: float
    si_sdr_db: float
    embedding_E: NDArray[np.float32]


def target_clips(windows: WindowSource) -> list[AudioClip]:
    """The target stem of every window, in the plan's order."""
    samples = chain.from_iterable(samples_of(piece) for piece in pieces_of(windows))
    return [AudioClip(name=sample["__key__"], audio_SN=decode_flac(sample["target.flac"])) for sample in samples]


def on_device(codec: Codec, device: str) -> Codec:
    """The codec where it is to compute."""
    if isinstance(codec, nn.Module):
        codec.to(device)
    return codec


def heard(audio_SN: Audio, spec: CodecSpec) -> Audio:
    """What a codec is given of a stereo clip: a mono one hears the mean of the channels, and is judged against it."""
    mono_SN: Audio = audio_SN.mean(axis=0, keepdims=True)
    return mono_SN if spec.audio_channels == 1 else audio_SN


def _distances(original_SN: Audio, copy_SN: Audio, clap: Clap) -> _Distances:
    original_BSN, copy_BSN = (torch.from_numpy(np.ascontiguousarray(audio))[None] for audio in (original_SN, copy_SN))
    return _Distances(
        stft=stft_distance(original_BSN, copy_BSN).item(),
        log_mel_db=log_mel_distance_db(original_BSN, copy_BSN).item(),
        si_sdr_db=si_sdr_db(original_BSN, copy_BSN).item(),
        embedding_E=embed_one(clap, copy_SN),
    )


def _row(label: str, found: Sequence[_Distances], originals_RE: Audio, *, kind: str, channels: int) -> RoundTripRow:
    """The row as far as distances go; its own Fréchet distance stands for the yardstick's."""
    fad = frechet_distance(originals_RE, np.stack([clip.embedding_E for clip in found]))
    return RoundTripRow(
        codec=label,
        kind=kind,
        channels=channels,
        clips=len(found),
        stft_distance=mean(clip.stft for clip in found),
        log_mel_distance_db=mean(clip.log_mel_db for clip in found),
        si_sdr_db=mean(clip.si_sdr_db for clip in found),
        fad=fad,
        fad_of_noise=fad,
    )


def _as_loud(audio_SN: Audio, random: np.random.Generator) -> Audio:
    """White noise, the same in both channels, at the loudness of the clip's mean."""
    lufs = integrated_lufs(audio_SN.mean(axis=0), rate_hz=RATE_HZ)
    noise_N = random.standard_normal(audio_SN.shape[-1], dtype=np.float32)
    return np.stack([at_loudness(noise_N, rate_hz=RATE_HZ, lufs=lufs)] * 2).astype(np.float32)


def _training(recipe: CodecRecipe) -> str:
    match recipe:
        case SpectralRecipe():
            return "closed form"
        case Music2LatentRecipe() | Music2Latent2Recipe():
            return f"{recipe.steps:,} steps of {recipe.batch}"
        case PretrainedMusic2LatentRecipe() | PretrainedCoDiCodecRecipe():
            return "released"


def _write_audio(path: Path, audio_SN: Audio) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, flac_bytes(audio_SN * np.float32(headroom_gain(audio_SN))))
