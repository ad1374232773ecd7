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
from tasks.audio import decode_flac
from tasks.cluster import Resident, fan_out, resident_model
from tasks.fit_codec import load_codec
from tasks.runtime import Runtime
from tasks.shard_folder import name_shards, shard_home, shard_path
from tasks.shards import npy_bytes, shard_is_whole, write_shard
from tasks.step import Step
from tasks.storage import exists, read_bytes, write_bytes
from tasks.whole_files import write_whole
from tasks.window_source import WindowPiece, WindowSource, label_of, pieces_of, samples_of

STATISTICS = "statistics.json"
MEMBERS = ("target", "context")


@dataclass(frozen=True, kw_only=True)
class EncodeWindows(Step):
    """Raw latents of the targets and contexts of windows, as webdataset shards, and their per-channel statistics."""

    stage: ClassVar[str] = "encode"
    resumable: ClassVar[bool] = True

    windows: WindowSource
    codec: Artifact

    def describe(self) -> str:
        return f"encode {label_of(self.windows)} with codec {self.codec.path.name[:6]}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        name = f"codec-{self.key()}"
        home = shard_home(out, self, runtime)
        shards = [(windows, shard_path(home, number)) for number, windows in enumerate(pieces_of(self.windows))]
        pieces = [(name, *piece) for piece in shards]
        fan_out(
            runtime,
            _encode_shard,
            pieces,
            title=self.describe(),
            resident=Resident(name, load_codec, self.codec.location),
        )
        moments = [_moments_path(shard) for _, shard in shards]
        statistics = _statistics([json.loads(read_bytes(path)) for path in moments])
        write_whole(out / STATISTICS, json.dumps(statistics).encode())
        name_shards(out, home, [shard for _, shard in shards], beside=moments)
        return {"shards": len(shards), "frames": statistics["frames"]}


def _moments_path(shard: str) -> str:
    return f"{shard.removesuffix('.tar')}.moments.json"


class _Latents(NamedTuple):
    """A window's key and record, and its raw latents (1, C, T) by member."""

    key: str
    record: bytes
    latent_BCT: dict[str, Tensor]


def _encode_shard(piece: tuple[str, WindowPiece, str]) -> None:
    """Encode one shard; its moments come first, so that a whole shard always has them."""
    name, windows, shard = piece
    if shard_is_whole(shard) and exists(_moments_path(shard)):
        return
    codec: Codec = resident_model(name)
    encoded = [_encode_window(codec, sample) for sample in samples_of(windows)]  # one window's audio at a time
    pooled = {member: torch.cat([window.latent_BCT[member] for window in encoded]) for member in MEMBERS}
    moments = {member: _moments(latent_BCT) for member, latent_BCT in pooled.items()}
    write_bytes(_moments_path(shard), json.dumps(moments).encode())
    write_shard(shard, map(_latent_members, encoded))


def _encode_window(codec: Codec, sample: dict[str, Any]) -> _Latents:
    latents = {member: _encode(codec, sample[f"{member}.flac"]) for member in MEMBERS}
    return _Latents(sample["__key__"], sample["json"], latents)


def _latent_members(window: _Latents) -> dict[str, Any]:
    arrays = {f"{member}.npy": npy_bytes(window.latent_BCT[member][0].numpy()) for member in MEMBERS}
    return {"__key__": window.key, **arrays, "json": window.record}


def _encode(codec: Codec, flac: bytes) -> Tensor:
    with torch.inference_mode():
        return codec.encode(torch.from_numpy(np.ascontiguousarray(decode_flac(flac)))[None]).latent_BCT


def _moments(latent_BCT: Tensor) -> dict[str, Any]:
    """Count, sum and sum of squares by channel, in double precision."""
    exact_BCT = latent_BCT.double()
    return {
        "frames": latent_BCT.shape[0] * latent_BCT.shape[2],
        "sum": exact_BCT.sum((0, 2)).tolist(),
        "square": exact_BCT.square().sum((0, 2)).tolist(),
    }


def _statistics(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation by channel over targets and contexts pooled, added up in the order of the shards."""
    parts = [shard[member] for shard in shards for member in MEMBERS]
    frames = sum(part["frames"] for part in parts)
    mean_C = np.sum([part["sum"] for part in parts], axis=0) / frames
    variance_C = np.sum([part["square"] for part in parts], axis=0) / frames - mean_C**2
    return {"frames": frames, "mean_C": mean_C.tolist(), "std_C": np.sqrt(np.maximum(variance_C, 1e-12)).tolist()}
