"""Latents and embeddings of a range of windows as plain memory-mapped arrays, for training and sampling."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from models.batch import LatentSet
from tasks.artifact import Artifact
from tasks.cut import shards_of
from tasks.embed import load_embeddings
from tasks.encode import MEMBERS, STATISTICS
from tasks.runtime import Runtime
from tasks.shards import load_npy, read_shard
from tasks.step import Step

_ARRAYS = ("target_NCT", "context_NCT", "clap_audio_NKE", "clap_leak_NE", "clap_text_NE")


@dataclass(frozen=True, kw_only=True)
class PackLatents(Step):
    """One `.npy` an array; the rows of latents and embeddings are checked to be the same windows."""

    stage: ClassVar[str] = "pack"

    latents: Artifact
    embeddings: Artifact

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        samples = [sample for shard in shards_of(self.latents) for sample in read_shard(shard)]
        embedded = load_embeddings(self.embeddings)
        keys = [sample["__key__"] for sample in samples]
        if keys != [row.key for row in embedded.rows]:
            raise ValueError(
                f"the latents hold {len(keys)} windows that are not the {len(embedded.rows)} embedded ones"
            )
        for member in MEMBERS:
            np.save(out / f"{member}_NCT.npy", np.stack([load_npy(sample[f"{member}.npy"]) for sample in samples]))
        np.save(out / "clap_audio_NKE.npy", embedded.arrays["style_NKE"])
        np.save(out / "clap_leak_NE.npy", embedded.arrays["stem_NE"])
        np.save(out / "clap_text_NE.npy", embedded.arrays["text_NE"])
        (out / STATISTICS).write_bytes((self.latents.path / STATISTICS).read_bytes())
        (out / "keys.json").write_text(json.dumps(keys), encoding="utf-8")
        return {"windows": len(keys)}


def load_latents(packed: Artifact) -> LatentSet:
    """The packed arrays, memory-mapped."""
    arrays = {name: np.load(packed.path / f"{name}.npy", mmap_mode="r") for name in _ARRAYS if name != "clap_text_NE"}
    statistics = json.loads((packed.path / STATISTICS).read_text(encoding="utf-8"))
    mean_C, std_C = (np.asarray(statistics[name], dtype=np.float32) for name in ("mean_C", "std_C"))
    return LatentSet(**arrays, mean_C=mean_C, std_C=std_C)


def load_text(packed: Artifact) -> np.ndarray:
    """The text embeddings (N, E) of the packed windows."""
    return np.load(packed.path / "clap_text_NE.npy")


def load_keys(packed: Artifact) -> list[str]:
    """The keys of the packed windows, in order."""
    return json.loads((packed.path / "keys.json").read_text(encoding="utf-8"))
