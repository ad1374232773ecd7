"""Latents and embeddings of a range of windows as plain memory-mapped arrays, for training and sampling."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from models.batch import LatentSet
from tasks.artifact import Artifact
from tasks.embeddings import load_embeddings
from tasks.encode import MEMBERS, STATISTICS
from tasks.lost_shards import LostShard, hand_on_lost, lost_shards
from tasks.runtime import Runtime
from tasks.shard_folder import shards_of
from tasks.shards import load_npy, read_index, read_shard
from tasks.step import Step

_ARRAYS = ("target_NCT", "context_NCT", "clap_audio_NKE", "clap_leak_NE", "clap_text_NE")


@dataclass(frozen=True, kw_only=True)
class PackLatents(Step):
    """One `.npy` an array; the rows of latents and embeddings are checked to be the same windows.

    A window that either was made without, and says so, is left out, and its shard named here too.
    """

    stage: ClassVar[str] = "pack"

    latents: Artifact
    embeddings: Artifact

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        shards = shards_of(self.latents)
        embedded = load_embeddings(self.embeddings)
        encoded_keys = [key for shard in shards for key in read_index(shard).keys]
        embedded_keys = [row.key for row in embedded.rows]
        keys = _common(encoded_keys, embedded_keys, excused=(lost_shards(self.latents), lost_shards(self.embeddings)))
        wanted = set(keys)
        samples = (sample for sample in chain.from_iterable(map(read_shard, shards)) if sample["__key__"] in wanted)
        _write_latents(out, samples, len(keys))
        rows = [row for row, key in enumerate(embedded_keys) if key in wanted]
        for array, name in (("clap_audio_NKE", "style_NKE"), ("clap_leak_NE", "stem_NE"), ("clap_text_NE", "text_NE")):
            np.save(out / f"{array}.npy", embedded.arrays[name][rows])
        (out / STATISTICS).write_bytes((self.latents.path / STATISTICS).read_bytes())
        (out / "keys.json").write_text(json.dumps(keys), encoding="utf-8")
        hand_on_lost(out, self.latents, self.embeddings)
        return {"windows": len(keys), "left_out": len(set(encoded_keys) ^ set(embedded_keys))}


def _common(encoded: list[str], embedded: list[str], *, excused: tuple[list[LostShard], list[LostShard]]) -> list[str]:
    """The windows that both hold, in order. One that is missing where no shard is known to be lost is an error."""
    both = set(encoded) & set(embedded)
    common, again = ([key for key in keys if key in both] for keys in (encoded, embedded))
    whole = [len(both) == len(other) for other in (embedded, encoded)]
    if common != again or not all(is_whole or lost for is_whole, lost in zip(whole, excused, strict=True)):
        raise ValueError(f"the latents hold {len(encoded)} windows that are not the {len(embedded)} embedded ones")
    return common


def _write_latents(out: Path, samples: Iterable[dict[str, Any]], count: int) -> None:
    """The members as `.npy` files, row by row: a million pairs do not fit into memory.

    Written, not memory-mapped: on a full disk a mapped page ends the process instead of raising.
    """
    with ExitStack() as stack:
        files = {member: stack.enter_context((out / f"{member}_NCT.npy").open("wb")) for member in MEMBERS}
        for row, sample in enumerate(samples):
            for member, file in files.items():
                latent_CT = np.ascontiguousarray(load_npy(sample[f"{member}.npy"]))
                if row == 0:
                    header = np.lib.format.header_data_from_array_1_0(latent_CT)
                    np.lib.format.write_array_header_1_0(file, header | {"shape": (count, *latent_CT.shape)})
                file.write(latent_CT.data)


def load_latents(packed: Artifact) -> LatentSet:
    """The packed arrays, memory-mapped."""
    arrays = {name: np.load(packed.path / f"{name}.npy", mmap_mode="r") for name in _ARRAYS if name != "clap_text_NE"}
    mean_C, std_C = load_statistics(packed)
    return LatentSet(**arrays, mean_C=mean_C, std_C=std_C)


def load_statistics(artifact: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) by channel of encoded or packed latents; ValueError where they are missing."""
    path = artifact.path / STATISTICS
    if not path.exists():
        raise ValueError(f"{path} is missing: latents are trained on by their statistics; encode the windows again")
    told = json.loads(path.read_text(encoding="utf-8"))
    return np.asarray(told["mean_C"], dtype=np.float32), np.asarray(told["std_C"], dtype=np.float32)


def load_text(packed: Artifact) -> np.ndarray:
    """The text embeddings (N, E) of the packed windows."""
    return np.load(packed.path / "clap_text_NE.npy")


def load_keys(packed: Artifact) -> list[str]:
    """The keys of the packed windows, in order."""
    return json.loads((packed.path / "keys.json").read_text(encoding="utf-8"))
