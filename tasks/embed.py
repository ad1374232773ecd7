"""CLAP embeddings of windows: stems, style segments, tags, and mixtures true and mispaired."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save, save_file

from metrics.adherence import derangement
from metrics.embeddings import Space
from metrics.mixing import at_loudness, window_mixes
from metrics.protocol import Protocol
from models.clap import Clap
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.clap import HEARD_SAMPLES, clap_and_cache_resident, clap_space, load_clap
from tasks.cluster import fan_out, resident_model
from tasks.embedding_cache import EmbeddingCache
from tasks.lost_shards import POISON, LostShard, record_lost
from tasks.runtime import Runtime
from tasks.shard_folder import shard_name, shards_of
from tasks.shards import read_members, read_shard
from tasks.step import Step
from tasks.storage import name_of
from tasks.whole_files import write_whole
from tasks.window_source import WindowPiece, WindowSource, pieces_of, samples_of, source_of

EMBEDDINGS, ROWS, SPACE = "embeddings.safetensors", "rows.json", "space.json"


class Row(NamedTuple):
    """What the pair plan says of a window: its key, its track, the target's role and the text of its tags."""

    key: str
    track: str
    role: str
    text: str


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
        stems.append(_embedded_stem(clap, cache, sample["target.flac"]))
        styles.append(_embedded_styles(clap, cache, sample))
        if mixing:
            mixtures.append(_embedded_mixture(clap, cache, sample["context.flac"], sample["target.flac"], mixing))
    arrays = {
        "stem_NE": np.stack(stems),
        "style_NKE": np.stack(styles),
        "text_NE": clap.embed_text([row.text for row in rows]).cpu().numpy(),
        **({"mixture_NWE": np.stack(mixtures)} if mixing else {}),
    }
    return arrays, rows


def _embedded_stem(clap: Clap, cache: EmbeddingCache, flac: bytes) -> np.ndarray:
    return cache.found_or_made([flac], "stem", lambda: embed_one(clap, decode_flac(flac)))


def _embedded_styles(clap: Clap, cache: EmbeddingCache, sample: dict[str, Any]) -> np.ndarray:
    """Embeddings (K, E) of the style segments of a window, which lie one after the other in one member."""
    flac, count = sample["style.flac"], len(json.loads(sample["json"])["style_starts_samples"])

    def embed() -> np.ndarray:
        return np.stack([embed_one(clap, segment_SN) for segment_SN in np.split(decode_flac(flac), count, axis=1)])

    return cache.found_or_made([flac], f"{count} segments", embed)


def _embedded_mixture(clap: Clap, cache: EmbeddingCache, context: bytes, stem: bytes, mixing: Mixing) -> np.ndarray:
    def embed() -> np.ndarray:
        return embed_mixture(clap, decode_flac(context), decode_flac(stem), mixing)

    return cache.found_or_made([context, stem], repr(mixing), embed)


def window_row(sample: dict[str, Any]) -> Row:
    """The row that a window's JSON member describes."""
    told = json.loads(sample["json"])
    return Row(key=sample["__key__"], track=told["track_id"], role=told["role"], text=told["tags"])


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
class EmbedMispaired(Step):
    """Every context with the target of a window of another track: `stem_NE` (that target) and `mixture_NWE`.

    Only whole shards are paired: a window of a lost one is nobody's partner.
    """

    stage: ClassVar[str] = "mispaired"
    version: ClassVar[int] = 2

    windows: Artifact
    clap: Artifact
    mixing: Mixing
    seed: int

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        sources, lost = whole_windows(self.windows, out, runtime)
        partner = derangement([row.track for _, row in sources], seed=self.seed)
        pairs = [(own, sources[other]) for own, other in zip(sources, partner, strict=True)]
        embed_mispaired(pairs, f"clap-{self.key()}", self.clap, self.mixing, out, runtime)
        return merge_parts(out, clap_space(self.clap)) | {"lost": lost}


Source = tuple[str, Row]
"""A window and the shard that holds it."""


def whole_windows(windows: Artifact, out: Path, runtime: Runtime) -> tuple[list[Source], list[str]]:
    """The windows of whole shards in the plan's order, and what is told of the lost ones."""
    shards = shards_of(windows)
    found = fan_out(runtime, _whole_rows, shards, title="read windows")
    lost = record_lost(out, [shard for shard in found if isinstance(shard, LostShard)], pieces=len(shards))
    whole = ((shard, rows) for shard, rows in zip(shards, found, strict=True) if not isinstance(rows, LostShard))
    return [(shard, row) for shard, rows in whole for row in rows], lost


def embed_mispaired(
    pairs: Sequence[tuple[Source, Source]], name: str, clap: Artifact, mixing: Mixing, out: Path, runtime: Runtime
) -> None:
    """Write parts of `stem_NE` and `mixture_NWE` of each first window's context with the second's target."""
    parts = max(1, len({shard for (shard, _), _ in pairs}))
    bounds = np.linspace(0, len(pairs), parts + 1).astype(int)
    pieces = [
        (name, mixing, pairs[first:stop], str(part_path(out, number)))
        for number, (first, stop) in enumerate(pairwise(bounds))
    ]
    resident = clap_and_cache_resident(name, clap, runtime)
    fan_out(runtime, _embed_mispaired, pieces, title="embed mispaired mixtures", resident=resident)


def _whole_rows(shard: str) -> list[Row] | LostShard:
    """The rows of a shard of windows whose digest is right, or why they cannot be had."""
    try:
        return [window_row(sample) for sample in read_shard(shard)]
    except POISON as error:
        return LostShard.of(name_of(shard), error, shard)


def _embed_mispaired(piece: tuple[str, Mixing, Sequence[tuple[Source, Source]], str]) -> None:
    name, mixing, pairs, part = piece
    clap, cache = resident_model(name)
    stems, mixtures = [], []
    for (own_shard, own), (other_shard, other) in pairs:
        context, stem = _member(own_shard, own.key, "context.flac"), _member(other_shard, other.key, "target.flac")
        stems.append(_embedded_stem(clap, cache, stem))
        mixtures.append(_embedded_mixture(clap, cache, context, stem, mixing))
    rows = [own for (_, own), _ in pairs]
    write_part(Path(part), {"stem_NE": np.stack(stems), "mixture_NWE": np.stack(mixtures)}, rows)


def _member(shard: str, key: str, member: str) -> bytes:
    ((_, members),) = read_members(shard, (member,), keys={key})
    return members[member]


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


def part_path(folder: Path, number: int) -> Path:
    """Where one piece of an embedding artifact is written."""
    return folder / f"part-{number:06d}.safetensors"


def write_part(path: Path, arrays: dict[str, np.ndarray], rows: Sequence[Row]) -> None:
    """Write the arrays of one piece and, when they are there, its rows beside them."""
    write_whole(path, save({name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}))
    write_whole(path.with_suffix(".json"), json.dumps([row._asdict() for row in rows]).encode())


def part_is_whole(path: Path) -> bool:
    """Whether a piece was written by an earlier try: its arrays, and the rows that come after them."""
    return path.exists() and path.with_suffix(".json").exists()


def merge_parts(folder: Path, space: Space) -> dict[str, Any]:
    """Join the pieces in order into one set of arrays and one list of rows, name their space, and drop the pieces."""
    paths = [path for path in sorted(folder.glob("part-*.safetensors")) if part_is_whole(path)]
    parts = [load_file(path) for path in paths]
    rows = [row for path in paths for row in json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    save_file(joined, folder / EMBEDDINGS)
    write_whole(folder / ROWS, json.dumps(rows, ensure_ascii=False).encode())
    write_whole(folder / SPACE, json.dumps(asdict(space), indent=1).encode())
    for path in folder.glob("part-*"):
        path.unlink()
    return {"rows": len(rows), "arrays": sorted(joined)}


class Embeddings(NamedTuple):
    """The arrays of an embedding artifact by name, what each row is, and the space that all of them lie in."""

    arrays: dict[str, np.ndarray]
    rows: list[Row]
    space: Space

    def of(self, name: str, keys: Sequence[str]) -> np.ndarray:
        """One of the arrays for these windows, in this order."""
        place = {row.key: number for number, row in enumerate(self.rows)}
        return self.arrays[name][[place[key] for key in keys]]


def load_embeddings(artifact: Artifact) -> Embeddings:
    """The embeddings of a finished artifact."""
    arrays = load_file(artifact.path / EMBEDDINGS)
    rows = [Row(**row) for row in json.loads((artifact.path / ROWS).read_text(encoding="utf-8"))]
    space = Space(**json.loads((artifact.path / SPACE).read_text(encoding="utf-8")))
    return Embeddings(arrays=arrays, rows=rows, space=space)
