"""Latents of windows, shard by shard on Dask, one codec a worker, with the statistics that standardise them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.codec import Codec
from tasks.artifact import Artifact
from tasks.audio import decode_flac
from tasks.cluster import Resident, fan_out, resident_model
from tasks.cut import shard_path, shards_of
from tasks.fit_codec import load_codec
from tasks.runtime import Runtime
from tasks.shards import npy_bytes, read_shard, shard_is_whole, write_shard
from tasks.step import Step
from tasks.whole_files import write_whole

STATISTICS = "statistics.json"
MEMBERS = ("target", "context")


@dataclass(frozen=True, kw_only=True)
class EncodeWindows(Step):
    """Raw latents of the targets and contexts of windows, as webdataset shards, and their per-channel statistics."""

    stage: ClassVar[str] = "encode"
    resumable: ClassVar[bool] = True

    windows: Artifact
    codec: Artifact

    def describe(self) -> str:
        return f"encode {self.windows.path.name[:6]} with codec {self.codec.path.name[:6]}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        name = f"codec-{self.key()}"
        resident = Resident(name, load_codec, self.codec.location)
        sources = shards_of(self.windows)
        pieces = [(name, str(source), str(shard_path(out, number))) for number, source in enumerate(sources)]
        missing = [
            piece for piece in pieces if not (shard_is_whole(Path(piece[2])) and _moments_path(piece[2]).exists())
        ]
        fan_out(runtime, _encode_shard, missing, title=self.describe(), resident=resident)
        moments = [_moments_path(piece[2]) for piece in pieces]
        statistics = _statistics([json.loads(path.read_text(encoding="utf-8")) for path in moments])
        write_whole(out / STATISTICS, json.dumps(statistics).encode())
        return {"shards": len(pieces), "frames": statistics["frames"]}


def _moments_path(shard: str) -> Path:
    return Path(shard).with_suffix(".moments.json")


def _encode_shard(piece: tuple[str, str, str]) -> None:
    """Encode one shard; its moments come first, so that a whole shard always has them."""
    name, source, destination = piece
    codec: Codec = resident_model(name)
    samples = list(read_shard(Path(source)))
    latents = {
        member: torch.cat([_encode(codec, sample[f"{member}.flac"]) for sample in samples]) for member in MEMBERS
    }
    moments = {member: _moments(latent_BCT) for member, latent_BCT in latents.items()}
    write_whole(_moments_path(destination), json.dumps(moments).encode())
    encoded = [
        {
            "__key__": sample["__key__"],
            **{f"{member}.npy": npy_bytes(latents[member][row].numpy()) for member in MEMBERS},
            "json": sample["json"],
        }
        for row, sample in enumerate(samples)
    ]
    write_shard(Path(destination), encoded)


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
