"""Pairs of latents a second: streamed from shards, and from the packed memory-mapped arrays that training reads.

    python benchmarks/shard_reading.py [--pairs 4000]

One thread; both read the same pairs, written first, so that both come from the page cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from models.batch import LatentSet, StyleSource
from tasks.shard_folder import shard_path
from tasks.shards import load_npy, npy_bytes, read_shard, write_shard

CHANNELS, FRAMES, WIDTH = 64, 120, 512  # design.md section 7: 120 frames of 64; LAION-CLAP's width
SHARD_ROWS, BATCH = 1000, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4000)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shards, packed = _write(Path(folder), pairs)
        checked = _rate("shards, digest checked", pairs, lambda: _stream(shards, verify=True))
        streamed = _rate("shards, digest not checked", pairs, lambda: _stream(shards, verify=False))
        cached = _rate("packed arrays, random batches", pairs, lambda: _batches(packed, pairs))
    print(
        f"packed against shards: {cached / streamed:.0f} times the pairs a CPU second ({cached / checked:.0f} checked)"
    )


def _write(folder: Path, pairs: int) -> tuple[list[str], LatentSet]:
    rng = np.random.default_rng(0)
    target_NCT, context_NCT = (rng.standard_normal((pairs, CHANNELS, FRAMES), dtype=np.float32) for _ in range(2))
    shards = []
    for number, first in enumerate(range(0, pairs, SHARD_ROWS)):
        rows = range(first, min(first + SHARD_ROWS, pairs))
        samples = (
            {
                "__key__": f"train-{row:08d}",
                "target.npy": npy_bytes(target_NCT[row]),
                "context.npy": npy_bytes(context_NCT[row]),
                "json": b"{}",
            }
            for row in rows
        )
        shards.append(shard_path(folder, number))
        write_shard(shards[-1], samples)
    for name, array in (("target", target_NCT), ("context", context_NCT)):
        np.save(folder / f"{name}.npy", array)
    packed = LatentSet(
        target_NCT=np.load(folder / "target.npy", mmap_mode="r"),
        context_NCT=np.load(folder / "context.npy", mmap_mode="r"),
        clap_audio_NKE=np.zeros((pairs, 1, WIDTH), np.float32),
        clap_leak_NE=np.zeros((pairs, WIDTH), np.float32),
        mean_C=np.zeros(CHANNELS, np.float32),
        std_C=np.ones(CHANNELS, np.float32),
    )
    return shards, packed


def _stream(shards: list[str], *, verify: bool) -> Iterator[int]:
    for shard in shards:
        for sample in read_shard(shard, verify=verify):
            load_npy(sample["target.npy"])
            load_npy(sample["context.npy"])
            yield 1


def _batches(packed: LatentSet, pairs: int) -> Iterator[int]:
    order = np.random.default_rng(1).permutation(pairs)
    for first in range(0, pairs, BATCH):
        rows = order[first : first + BATCH]
        packed.batch(rows, np.zeros(len(rows), int), StyleSource.TARGET_WINDOW)
        yield len(rows)


def _rate(name: str, pairs: int, read: Callable[[], Iterator[int]]) -> float:
    """Pairs a second of CPU time, the best of three; prints that and the wall-clock rate."""
    best_wall_s = best_cpu_s = float("inf")
    for _ in range(3):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        assert sum(read()) == pairs
        best_wall_s = min(best_wall_s, time.perf_counter() - wall_s)
        best_cpu_s = min(best_cpu_s, time.process_time() - cpu_s)
    print(f"{name:32s} {pairs / best_wall_s:10,.0f} pairs/s   {pairs / best_cpu_s:10,.0f} pairs per CPU second")
    return pairs / best_cpu_s


if __name__ == "__main__":
    main()
