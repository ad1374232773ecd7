"""CLAP embeddings of windows (stems, style segments, tags, mixtures with their contexts) and of white noise."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from metrics.mixing import at_loudness, window_mixes
from metrics.protocol import Protocol
from models.clap import Clap
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.clap import HEARD_SAMPLES, clap_and_cache_resident, clap_space, load_clap
from tasks.cluster import fan_out, resident_model
from tasks.embedding_cache import EmbeddingCache
from tasks.embeddings import Row, merge_parts, part_is_whole, part_path, window_row, write_part
from tasks.lost_shards import POISON, LostShard, record_lost
from tasks.runtime import Runtime
from tasks.shard_folder import shard_name
from tasks.step import Step
from tasks.window_source import WindowPiece, WindowSource, pieces_of, samples_of, source_of


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How a context and a stem become what APA hears: preset, windows, and whether each window is levelled alone."""

    preset: str
    window_s: float
    level_each_window: bool

    @classmethod
    def of(cls, protocol: Protocol) -> Mixing:
        """The slice of a protocol that determines mixtures."""
        return cls(
            preset=protocol.mix, window_s=protocol.mixture_window_s, level_each_window=protocol.level_each_window
        )


@dataclass(frozen=True, kw_only=True)
class EmbedWindows(Step):
    """Embeddings by window: `stem_NE` (the target), `style_NKE`, `text_NE` and, with a mixing, `mixture_NWE`."""

    stage: ClassVar[str] = "embed"
    version: ClassVar[int] = 2
    resumable: ClassVar[bool] = True

    windows: WindowSource
    clap: Artifact
    mixing: Mixing | None

    def describe(self) -> str:
        return "embed windows and mixtures" if self.mixing else "embed windows"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        name = f"clap-{self.key()}"
        pieces = [
            (name, number, windows, self.mixing, str(part_path(out, number)))
            for number, windows in enumerate(pieces_of(self.windows))
        ]
        resident = clap_and_cache_resident(name, self.clap, runtime)
        outcomes = fan_out(runtime, _embed_shard, pieces, title=self.describe(), resident=resident)
        lost = record_lost(out, [outcome for outcome in outcomes if outcome], pieces=len(pieces))
        return merge_parts(out, clap_space(self.clap)) | {"lost": lost}


def _embed_shard(piece: tuple[str, int, WindowPiece, Mixing | None, str]) -> LostShard | None:
    """Embed the windows of one shard, or say why not."""
    name, number, windows, mixing, part = piece
    if part_is_whole(Path(part)):
        return None
    clap, cache = resident_model(name)
    try:
        arrays, rows = _embedded_windows(clap, cache, windows, mixing)
    except POISON as error:
        return LostShard.of(shard_name(number), error, source_of(windows))
    write_part(Path(part), arrays, rows)
    return None


def _embedded_windows(
    clap: Clap, cache: EmbeddingCache, windows: WindowPiece, mixing: Mixing | None
) -> tuple[dict[str, np.ndarray], list[Row]]:
    rows: list[Row] = []
    stems, styles, mixtures = [], [], []
    for sample in samples_of(windows):  # one window's audio at a time
        rows.append(window_row(sample))
        stems.append(embedded_stem(clap, cache, sample["target.flac"]))
        styles.append(_embedded_styles(clap, cache, sample))
        if mixing:
            mixtures.append(embedded_mixture(clap, cache, sample["context.flac"], sample["target.flac"], mixing))
    arrays = {
        "stem_NE": np.stack(stems),
        "style_NKE": np.stack(styles),
        "text_NE": clap.embed_text([row.text for row in rows]).cpu().numpy(),
        **({"mixture_NWE": np.stack(mixtures)} if mixing else {}),
    }
    return arrays, rows


def embedded_stem(clap: Clap, cache: EmbeddingCache, flac: bytes) -> np.ndarray:
    return cache.found_or_made([flac], "stem", lambda: embed_one(clap, decode_flac(flac)))


def _embedded_styles(clap: Clap, cache: EmbeddingCache, sample: dict[str, Any]) -> np.ndarray:
    """Embeddings (K, E) of the style segments of a window, which lie one after the other in one member."""
    flac, count = sample["style.flac"], len(json.loads(sample["json"])["style_starts_samples"])

    def embed() -> np.ndarray:
        return np.stack([embed_one(clap, segment_SN) for segment_SN in np.split(decode_flac(flac), count, axis=1)])

    return cache.found_or_made([flac], f"{count} segments", embed)


def embedded_mixture(clap: Clap, cache: EmbeddingCache, context: bytes, stem: bytes, mixing: Mixing) -> np.ndarray:
    def embed() -> np.ndarray:
        return embed_mixture(clap, decode_flac(context), decode_flac(stem), mixing)

    return cache.found_or_made([context, stem], repr(mixing), embed)


def embed_one(clap: Clap, audio_SN: np.ndarray) -> np.ndarray:
    """The embedding (E,) of one clip's first ten seconds."""
    heard_BSN = torch.from_numpy(np.ascontiguousarray(audio_SN[:, :HEARD_SAMPLES]))[None]
    with torch.inference_mode():
        return clap.embed_audio(heard_BSN)[0].cpu().numpy()


def embed_mixture(clap: Clap, context_SN: np.ndarray, stem_SN: np.ndarray, mixing: Mixing) -> np.ndarray:
    """The embeddings (W, E) of a context and a stem mixed at matched loudness, window by window, as APA hears them."""
    context_N, stem_N = (audio_SN[:, :HEARD_SAMPLES].mean(axis=0) for audio_SN in (context_SN, stem_SN))
    mixtures = window_mixes(
        context_N,
        stem_N,
        rate_hz=48_000,
        window_s=mixing.window_s,
        level_each_window=mixing.level_each_window,
        preset=mixing.preset,
    )
    return np.stack([embed_one(clap, mixture_N[None]) for mixture_N in mixtures])


@dataclass(frozen=True, kw_only=True)
class EmbedNoise(Step):
    """Gaussian white noise at one loudness: `stem_NE`, the lower bound of the quality metrics."""

    stage: ClassVar[str] = "noise"
    version: ClassVar[int] = 2

    clap: Artifact
    clips: int
    samples: int
    lufs: float
    seed: int

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        clap = load_clap(self.clap.location, runtime.local_files, runtime.device)
        random = np.random.default_rng(self.seed)
        noise = (random.standard_normal(self.samples, dtype=np.float32) for _ in range(self.clips))
        stems = [embed_one(clap, at_loudness(audio_N, rate_hz=48_000, lufs=self.lufs)[None]) for audio_N in noise]
        rows = [Row(key=f"noise-{index:08d}", track="noise", role="other", text="") for index in range(self.clips)]
        write_part(part_path(out, 0), {"stem_NE": np.stack(stems)}, rows)
        return merge_parts(out, clap_space(self.clap))
