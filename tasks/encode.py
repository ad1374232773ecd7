"""Latents of windows, shard by shard on Dask, one codec a worker, with the statistics that standardise them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.codec import Codec
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.cluster import Resident, fan_out, resident_model
from tasks.fit_codec import load_codec
from tasks.lost_shards import POISON, LostShard, UnusableWindow, record_lost
from tasks.runtime import Runtime
from tasks.shard_folder import name_shards, shard_home, shard_path
from tasks.shards import npy_bytes, shard_is_whole, write_shard
from tasks.step import Step
from tasks.storage import exists, name_of, read_bytes, write_bytes
from tasks.whole_files import write_whole
from tasks.window_source import WindowPiece, WindowSource, label_of, pieces_of, samples_of, source_of

STATISTICS = "statistics.json"
MEMBERS = ("target", "context")


@dataclass(frozen=True, kw_only=True)
class EncodeWindows(Step):
    """Raw latents of the targets and contexts of windows, as webdataset shards, and their per-channel statistics.

    Latents are kept in half precision, whose error stands in the summary: the largest and the RMS of any channel, of
    which a standard deviation is 1. The statistics are those of the latents before they were rounded, and name the
    codec: what is made from latents would else be taken for that of any codec that gives the same numbers.
    """

    stage: ClassVar[str] = "encode"
    version: ClassVar[int] = 3
    resumable: ClassVar[bool] = True

    windows: WindowSource
    codec: Artifact

    def describe(self) -> str:
        return f"encode {label_of(self.windows)} with codec {self.codec.path.name[:6]}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        name = f"codec-{self.key()}"
        home = shard_home(out, self, runtime)
        pieces = [(name, piece, shard_path(home, number)) for number, piece in enumerate(pieces_of(self.windows))]
        outcomes = fan_out(
            runtime,
            _encode_shard,
            pieces,
            title=self.describe(),
            resident=Resident(name, load_codec, self.codec.location),
        )
        lost = record_lost(out, [outcome for outcome in outcomes if outcome], pieces=len(pieces))
        shards = [shard for (_, _, shard), outcome in zip(pieces, outcomes, strict=True) if not outcome]
        moments = [_moments_path(shard) for shard in shards]
        told = [json.loads(read_bytes(path)) for path in moments]
        statistics = _statistics(told)
        write_whole(out / STATISTICS, json.dumps(statistics | {"codec": self.codec.digest}).encode())
        name_shards(out, home, shards, beside=moments)
        summary = {"shards": len(shards), "frames": statistics["frames"], "lost": lost}
        return summary | _rounding(told, statistics)


def _moments_path(shard: str) -> str:
    return f"{shard.removesuffix('.tar')}.moments.json"


class _Latents(NamedTuple):
    """A window's key and record, and by member its raw latents (1, C, T) and what is kept of them."""

    key: str
    record: bytes
    latent_BCT: dict[str, Tensor]
    kept_BCT: dict[str, Tensor]


def _encode_shard(piece: tuple[str, WindowPiece, str]) -> LostShard | None:
    """Encode one shard, or say why not; its moments come first, so that a whole shard always has them."""
    name, windows, shard = piece
    if shard_is_whole(shard) and exists(_moments_path(shard)):
        return None
    codec: Codec = resident_model(name)
    try:
        encoded = [_encode_window(codec, sample) for sample in samples_of(windows)]  # one window's audio at a time
    except POISON as error:
        return LostShard.of(name_of(shard), error, source_of(windows))
    write_bytes(_moments_path(shard), json.dumps({member: _moments(encoded, member) for member in MEMBERS}).encode())
    write_shard(shard, map(_latent_members, encoded))
    return None


def _encode_window(codec: Codec, sample: dict[str, Any]) -> _Latents:
    latents = {member: _encode(codec, sample[f"{member}.flac"]) for member in MEMBERS}
    kept = {member: latent_BCT.half() for member, latent_BCT in latents.items()}
    for member, kept_BCT in kept.items():
        if not kept_BCT.isfinite().all():
            raise UnusableWindow(
                f"window {sample['__key__']}: latents of its {member} are NaN, infinite or beyond the 65,504 of half "
                "precision; expected finite numbers: fit the codec again, or leave the window out"
            )
    return _Latents(sample["__key__"], sample["json"], latents, kept)


def _latent_members(window: _Latents) -> dict[str, Any]:
    arrays = {f"{member}.npy": npy_bytes(window.kept_BCT[member][0].numpy()) for member in MEMBERS}
    return {"__key__": window.key, **arrays, "json": window.record}


def _encode(codec: Codec, flac: bytes) -> Tensor:
    with torch.inference_mode():
        return codec.encode(torch.from_numpy(decode_flac(flac))[None]).latent_BCT


def _moments(windows: list[_Latents], member: str) -> dict[str, Any]:
    """Count, sum, sum of squares, and largest and summed squared error of rounding by channel, in double precision."""
    exact_BCT = torch.cat([window.latent_BCT[member] for window in windows]).double()
    error_BCT = torch.cat([window.kept_BCT[member] for window in windows]).double() - exact_BCT
    return {
        "frames": exact_BCT.shape[0] * exact_BCT.shape[2],
        "sum": exact_BCT.sum((0, 2)).tolist(),
        "square": exact_BCT.square().sum((0, 2)).tolist(),
        "error_max": error_BCT.abs().amax((0, 2)).tolist(),
        "error_square": error_BCT.square().sum((0, 2)).tolist(),
    }


def _statistics(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation by channel over targets and contexts pooled, added up in the order of the shards."""
    parts = [shard[member] for shard in shards for member in MEMBERS]
    frames = sum(part["frames"] for part in parts)
    mean_C = np.sum([part["sum"] for part in parts], axis=0) / frames
    variance_C = np.sum([part["square"] for part in parts], axis=0) / frames - mean_C**2
    return {"frames": frames, "mean_C": mean_C.tolist(), "std_C": np.sqrt(np.maximum(variance_C, 1e-12)).tolist()}


def _rounding(shards: list[dict[str, Any]], statistics: dict[str, Any]) -> dict[str, float]:
    """The error of half precision in the channel that has most of it, in standard deviations of that channel."""
    parts = [shard[member] for shard in shards for member in MEMBERS]
    largest_C = np.max([part["error_max"] for part in parts], axis=0)
    rms_C = np.sqrt(np.sum([part["error_square"] for part in parts], axis=0) / statistics["frames"])
    std_C = np.array(statistics["std_C"])
    return {"rounding_max_std": float((largest_C / std_C).max()), "rounding_rms_std": float((rms_C / std_C).max())}
