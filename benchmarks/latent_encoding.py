"""Encoding windows as latents: the whole pipeline over its bare forward passes, and two workers against one.

    python benchmarks/latent_encoding.py [--windows 32]

Bare is `codec.encode` of the same windows, decoded before. The pipeline is `EncodeWindows` in this process, on one
thread: reading shards and their digests, FLAC, forward passes, statistics, rounding, and shards written and digested.
CPU seconds of one run in which the two take turns; scaling is wall-clock time and needs an idle machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from models import music2latent2
from models.music2latent2 import Music2Latent2, Music2Latent2Recipe
from models.spectral import SpectralRecipe, fit_spectral
from models.weights import save_weights
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac, flac_bytes
from tasks.encode import EncodeWindows
from tasks.fit_codec import RECIPE, WEIGHTS, codec_name, load_codec
from tasks.recipes import dump_recipe
from tasks.runtime import Runtime
from tasks.shard_folder import shard_path, shards_of
from tasks.shards import json_bytes, read_shard, write_shard

RATE_HZ, WINDOW_SAMPLES = 48_000, 15 * 32_768
SHARD_ROWS = 2  # few, so that two workers can share the shards evenly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=32)
    count = parser.parse_args().windows
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        windows = _windows(root, count)
        for recipe in (SpectralRecipe(audio_channels=2), music2latent2.TINY):
            codec = _codec(root, recipe, windows)
            _overhead(root, windows, codec, codec_name(recipe))
            _scaling(root, windows, codec, codec_name(recipe))


def _windows(root: Path, count: int) -> Artifact:
    """Shards of windows: noise under slow envelopes, about as hard for FLAC as music."""
    random = np.random.default_rng(0)
    envelope_N = 0.2 * np.sin(np.arange(WINDOW_SAMPLES) * 2 * np.pi / RATE_HZ) ** 2
    for number, first in enumerate(range(0, count, SHARD_ROWS)):
        samples = [
            {"__key__": f"train-{row:08d}", "json": json_bytes({"row": row})}
            | {f"{name}.flac": _noise(random, envelope_N) for name in ("target", "context", "style")}
            for row in range(first, min(first + SHARD_ROWS, count))
        ]
        write_shard(shard_path(root / "windows", number), samples)
    return Artifact(stage="windows", key=None, location=str(root / "windows"), digest="windows")


def _noise(random: np.random.Generator, envelope_N: np.ndarray) -> bytes:
    white_SN = random.standard_normal((2, WINDOW_SAMPLES)) * envelope_N
    audio_SN = np.cumsum(white_SN - np.roll(white_SN, 20, axis=1), axis=1) / 20  # mostly below 2 kHz, as music is
    return flac_bytes(audio_SN.clip(-0.9, 0.9).astype(np.float32))


def _codec(root: Path, recipe: SpectralRecipe | Music2Latent2Recipe, windows: Artifact) -> Artifact:
    """A codec artifact: components of the first windows, or a network with its first weights."""
    home = root / type(recipe).__name__
    home.mkdir()
    if isinstance(recipe, SpectralRecipe):
        state = fit_spectral(recipe, _audio(windows)[:2])
    else:
        torch.manual_seed(0)
        state = Music2Latent2(recipe).state_dict()
    save_weights(home / WEIGHTS, state, {})
    (home / RECIPE).write_text(dump_recipe(recipe), encoding="utf-8")
    return Artifact(stage="codec", key=None, location=str(home), digest=home.name)


def _audio(windows: Artifact) -> list[torch.Tensor]:
    """Targets and contexts (1, 2, N), decoded."""
    samples = [sample for shard in shards_of(windows) for sample in read_shard(shard)]
    return [torch.from_numpy(decode_flac(s[f"{name}.flac"]))[None] for s in samples for name in ("target", "context")]


def _overhead(root: Path, windows: Artifact, codec: Artifact, name: str) -> None:
    """The medians of three turns each."""
    network, audio = load_codec(codec.location), _audio(windows)
    runtime = Runtime(workspace=str(root), workers=1, torch_threads=1, progress=False)

    def bare() -> None:
        with torch.inference_mode():
            for audio_BSN in audio:
                network.encode(audio_BSN)

    decoding, bare_s, pipeline_s = [], [], []
    bare()  # to warm up
    for turn in range(3):
        out = root / f"{name}-{turn}"
        bare_s.append(_cpu_s(bare))
        pipeline_s.append(_cpu_s(partial(_encode, out, windows, codec, runtime)))
        decoding.append(_cpu_s(partial(_audio, windows)))
    passes, whole, flac = (float(np.median(spent)) for spent in (bare_s, pipeline_s, decoding))
    print(
        f"{name}: {1000 * passes / len(audio):.1f} ms a forward pass; pipeline over bare {whole / passes:.3f}, "
        f"of it reading and FLAC {flac / passes:.3f}, all else {(whole - passes - flac) / passes:.3f}",
        flush=True,
    )


def _scaling(root: Path, windows: Artifact, codec: Artifact, name: str) -> None:
    spent = []
    for workers in (1, 2):
        runtime = Runtime(workspace=str(root), workers=workers, torch_threads=1, progress=False)
        _encode(root / f"{name}-warm-{workers}", windows, codec, runtime)
        started = time.perf_counter()
        _encode(root / f"{name}-{workers}-workers", windows, codec, runtime)
        spent.append(time.perf_counter() - started)
    print(f"{name}: two workers do {spent[0] / spent[1]:.2f} times the work of one", flush=True)


def _encode(out: Path, windows: Artifact, codec: Artifact, runtime: Runtime) -> None:
    out.mkdir()
    EncodeWindows(windows=windows, codec=codec).run(out, runtime)


def _cpu_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
