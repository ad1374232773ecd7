"""Training batches straight from latent shards, for sets that are read once or are too large to be packed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from models.batch import LatentBatch, LatentSet, StyleSource
from tasks.artifact import Artifact
from tasks.embeddings import EMBEDDINGS, ROWS
from tasks.encode import MEMBERS
from tasks.pack import load_statistics
from tasks.shard_folder import shards_of
from tasks.shards import load_npy, read_index, read_shard


def stream_batches(
    latents: Artifact,
    embeddings: Artifact,
    *,
    batch_size: int,
    style: StyleSource,
    random: np.random.Generator,
    verify: bool = True,
) -> Iterator[LatentBatch]:
    """Every window once, shuffled within its shard and the shards among themselves; the last batch may be short.

    One shard is in memory at a time. `verify=False` spares the digests, for shards that were read before.
    """
    shards = _Shards(latents, embeddings, verify)
    rest: _Rows | None = None
    for shard in random.permutation(shards.names):
        rows = shards.read(str(shard))
        rows = rows if rest is None else _joined(rest, rows)
        order = random.permutation(len(rows.target_NCT))
        whole = len(order) - len(order) % batch_size
        for indices in np.split(order[:whole], whole // batch_size or 1):
            if len(indices):
                yield shards.batch(rows, indices, style, random)
        rest = _Rows(*(array[order[whole:]] for array in rows))
    if rest is not None and len(rest.target_NCT):
        yield shards.batch(rest, np.arange(len(rest.target_NCT)), style, random)


class _Rows(NamedTuple):
    """Some windows: raw latents and embeddings."""

    target_NCT: NDArray[np.float16]
    context_NCT: NDArray[np.float16]
    clap_audio_NKE: NDArray[np.float32]
    clap_leak_NE: NDArray[np.float32]


def _joined(first: _Rows, second: _Rows) -> _Rows:
    pairs: Iterator[tuple[NDArray[Any], NDArray[Any]]] = zip(first, second, strict=True)
    return _Rows(*map(np.concatenate, pairs))


class _Shards:
    """The shards of latents, and where the embeddings of each window are."""

    def __init__(self, latents: Artifact, embeddings: Artifact, verify: bool) -> None:
        self.names = shards_of(latents)
        self._verify, self._embeddings = verify, embeddings.path / EMBEDDINGS
        self._mean_C, self._std_C = load_statistics(latents)
        told = json.loads((embeddings.path / ROWS).read_text(encoding="utf-8"))
        self._row = {row["key"]: number for number, row in enumerate(told)}

    def read(self, shard: str) -> _Rows:
        """The windows of a shard that have embeddings. Raises ValueError where none has."""
        keys = [key for key in read_index(shard).keys if key in self._row]
        if not keys:
            raise ValueError(f"{shard}: no window of it is embedded; expected embeddings of the windows encoded there")
        wanted = set(keys)
        samples = [sample for sample in read_shard(shard, verify=self._verify) if sample["__key__"] in wanted]
        latents = (np.stack([load_npy(sample[f"{member}.npy"]) for sample in samples]) for member in MEMBERS)
        rows = [self._row[key] for key in keys]
        with safe_open(self._embeddings, framework="numpy") as file:
            embedded = [file.get_slice(name)[min(rows) : max(rows) + 1] for name in ("style_NKE", "stem_NE")]
        places = np.array(rows) - min(rows)
        return _Rows(*latents, *(array[places] for array in embedded))

    def batch(
        self, rows: _Rows, indices: NDArray[np.int64], style: StyleSource, random: np.random.Generator
    ) -> LatentBatch:
        data = LatentSet(**rows._asdict(), mean_C=self._mean_C, std_C=self._std_C)
        return data.batch(indices, random.integers(data.segments, size=len(indices)), style)
