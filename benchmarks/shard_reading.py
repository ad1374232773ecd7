"""Batches of latents for training: streamed from shards, and from packed memory-mapped arrays.

    python benchmarks/shard_reading.py [--pairs 4000]

One thread; all read the same pairs, written first, so that they come from the page cache.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from models.batch import LatentBatch, LatentSet, StyleSource
from tasks.artifact import Artifact
from tasks.embeddings import EMBEDDINGS, ROWS, Row
from tasks.encode import STATISTICS
from tasks.latent_stream import stream_batches
from tasks.shard_folder import shard_path
from tasks.shards import npy_bytes, write_shard

CHANNELS, FRAMES, WIDTH = 64, 120, 512  # design.md section 7: 120 frames of 64; LAION-CLAP's width
SHARD_ROWS, BATCH = 1000, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4000)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        latents, embeddings = _write(root, pairs)
        half, single = (_packed(root, kind) for kind in ("half", "single"))
        checked = _rate("shards, digest checked", pairs, lambda: _stream(latents, embeddings, verify=True))
        streamed = _rate("shards, digest not checked", pairs, lambda: _stream(latents, embeddings, verify=False))
        cached = _rate("packed half precision, random batches", pairs, lambda: _batches(half))
        _rate("packed single precision", pairs, lambda: _batches(single))
    print(
        f"packed against shards: {cached / streamed:.0f} times the pairs a CPU second ({cached / checked:.0f} checked)"
    )


def _write(root: Path, pairs: int) -> tuple[Artifact, Artifact]:
    """Latents in shards, their embeddings, and the same latents as arrays in two precisions."""
    rng = np.random.default_rng(0)
    exact_MNCT = rng.standard_normal((2, pairs, CHANNELS, FRAMES), dtype=np.float32)
    half_MNCT = exact_MNCT.astype(np.float16)
    keys = [f"train-{row:08d}" for row in range(pairs)]
    for number, first in enumerate(range(0, pairs, SHARD_ROWS)):
        samples = (
            {"__key__": key, "target.npy": npy_bytes(target_CT), "context.npy": npy_bytes(context_CT), "json": b"{}"}
            for key, target_CT, context_CT in list(zip(keys, *half_MNCT, strict=True))[first : first + SHARD_ROWS]
        )
        write_shard(shard_path(root, number), samples)
    (root / STATISTICS).write_text(json.dumps({"mean_C": [0.0] * CHANNELS, "std_C": [1.0] * CHANNELS}))
    arrays = {"stem_NE": np.zeros((pairs, WIDTH), np.float32), "style_NKE": np.zeros((pairs, 1, WIDTH), np.float32)}
    save_file(arrays, root / EMBEDDINGS)
    (root / ROWS).write_text(json.dumps([Row(key, "track", "bass", "")._asdict() for key in keys]))
    for kind, latents_MNCT in (("half", half_MNCT), ("single", exact_MNCT)):
        for member, latent_NCT in zip(("target", "context"), latents_MNCT, strict=True):
            np.save(root / f"{member}-{kind}.npy", latent_NCT)
    made = Artifact(stage="encode", key=None, location=str(root), digest="0")
    return made, replace(made, stage="embed")


def _packed(root: Path, kind: str) -> LatentSet:
    target_NCT, context_NCT = (np.load(root / f"{name}-{kind}.npy", mmap_mode="r") for name in ("target", "context"))
    return LatentSet(
        target_NCT=target_NCT,
        context_NCT=context_NCT,
        clap_audio_NKE=np.zeros((len(target_NCT), 1, WIDTH), np.float32),
        clap_leak_NE=np.zeros((len(target_NCT), WIDTH), np.float32),
        mean_C=np.zeros(CHANNELS, np.float32),
        std_C=np.ones(CHANNELS, np.float32),
    )


def _stream(latents: Artifact, embeddings: Artifact, *, verify: bool) -> Iterator[LatentBatch]:
    random = np.random.default_rng(1)
    return stream_batches(
        latents, embeddings, batch_size=BATCH, style=StyleSource.OTHER_SEGMENT, random=random, verify=verify
    )


def _batches(packed: LatentSet) -> Iterator[LatentBatch]:
    order = np.random.default_rng(1).permutation(len(packed))
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        yield packed.batch(rows, np.zeros(len(rows), int), StyleSource.OTHER_SEGMENT)


def _rate(name: str, pairs: int, read: Callable[[], Iterator[LatentBatch]]) -> float:
    """Pairs a second of CPU time, the best of three; prints that and the wall-clock rate."""
    best_wall_s = best_cpu_s = float("inf")
    for _ in range(3):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        assert sum(len(batch.target_BCT) for batch in read()) == pairs
        best_wall_s = min(best_wall_s, time.perf_counter() - wall_s)
        best_cpu_s = min(best_cpu_s, time.process_time() - cpu_s)
    print(f"{name:38s} {pairs / best_wall_s:10,.0f} pairs/s   {pairs / best_cpu_s:10,.0f} pairs per CPU second")
    return pairs / best_cpu_s


if __name__ == "__main__":
    main()
