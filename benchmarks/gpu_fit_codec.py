"""Trains Music2Latent or Music2Latent2 on a bare GPU box, in runs of ten minutes that continue one another.

Renders the embedded corpus in memory on all cores, fits the codec on its stems and mixtures, and judges round trips
of held-out songs. Imports only `models`, `metrics` and `data_manifests`, so torch, numpy, scipy and safetensors do:

    python benchmarks/gpu_fit_codec.py --codec music2latent2 --size small --steps 9000 --state build/m2l2 --out DIR
    python benchmarks/gpu_fit_codec.py --size tiny --steps 12 --device cpu --minutes 2 --out DIR       (a rehearsal)
    torchrun --nproc-per-node 8 benchmarks/gpu_fit_codec.py ...             (--batch counts crops of one process)

`--steps` is the length of the whole training, over all its runs: it fixes the consistency schedule, so every run must
be given the same. A run stops itself `--minutes` after its start. Where the machine's disk outlives a run, `--state`
continues it to the bit. Where only small files come back, `--resume` starts from the averaged weights (float16, in
pieces) of an earlier run: step, learning rate and schedule go on, optimiser and average begin anew. The whole state is
eight times as large: 370 MB at the size `small`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.codec_judging import heldout_windows, judged
from data_manifests.composer import EmbeddedCorpus, compose
from data_manifests.renderer import render
from models.codec import CHUNK_SAMPLES
from models.codec_consistency import NoiseLevels
from models.codec_training import fit_codec, restarted
from models.codecs import TRAINABLE, TrainedRecipe, build_codec, preset, round_and_round, untrained
from models.data_parallel import processes
from models.training import Precision, State
from models.weight_pieces import MANIFEST, join_pieces, split_file
from models.weights import load_metadata, load_weights, save_weights

# Shapes: S audio channels, N samples, W windows.

WEIGHTS, STATE = "codec.safetensors", "state.safetensors"
SAVE_EVERY_S = 90.0
MIXTURE_SHARE = 0.3  # of the training windows; the others are single stems
STRETCH_SAMPLES = 4 * CHUNK_SAMPLES  # room for a crop of two chunks to be tried at several places until one sounds


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much data; after how many steps the losses and the clock are looked at; the time kept for judging."""

    corpus: EmbeddedCorpus
    window_chunks: int
    judged: int
    decode_batch: int
    look_every: int
    keep_every: int
    judging_s: float


FULL = Size(
    corpus=EmbeddedCorpus(songs=200, seconds=24.0, seed=7, heldout=40),
    window_chunks=15,
    judged=160,
    decode_batch=16,
    look_every=25,
    keep_every=50,
    judging_s=75.0,
)
LEAST = Size(
    corpus=EmbeddedCorpus(songs=3, seconds=6.0, seed=7, heldout=1),
    window_chunks=3,
    judged=3,
    decode_batch=3,
    look_every=2,
    keep_every=2,
    judging_s=20.0,
)


class TimeIsUp(Exception):
    """The run ended itself before its limit; its state is saved."""


def main() -> None:
    """Render, train until the end or the limit, write the averaged weights in pieces, then judge them."""
    started, asked = time.perf_counter(), _arguments()
    device = _joined(torch.device(asked.device))
    recipe, size = _recipe(asked), LEAST if asked.size == "tiny" else FULL
    plan = {"codec": asked.codec, "size": asked.size, "steps": str(recipe.steps)}
    report: dict[str, Any] = plan | {"batch": recipe.batch, "precision": recipe.precision.value, "device": str(device)}
    songs = render_corpus(size)
    report["render_s"] = round(time.perf_counter() - started, 1)
    trained = size.corpus.songs - size.corpus.heldout
    run = Run(asked, plan, deadline=started + 60 * asked.minutes - size.judging_s, report=report)
    weights, step = run.train(recipe, songs[:trained], size, device)
    if processes().rank == 0:
        run.keep_weights(weights, step)
        codec = build_codec(recipe, {name: value.float() for name, value in weights.items()}, weights_sha256="")
        codec.to(device)  # type: ignore[attr-defined]  # both trainable codecs are modules
        real_WSN = heldout_windows(songs[trained:], samples=size.window_chunks * CHUNK_SAMPLES, count=size.judged)
        report |= judged(codec, real_WSN, batch=size.decode_batch, device=device, out=asked.out)
        report["run_s"] = round(time.perf_counter() - started, 1)
        run.write_report()


class Run:
    """One of the runs of a training: where it begins, what it keeps, and when it ends."""

    def __init__(
        self, asked: argparse.Namespace, plan: dict[str, str], *, deadline: float, report: dict[str, Any]
    ) -> None:
        self.asked, self.plan, self.deadline, self.report = asked, plan, deadline, report
        self.folder: Path = asked.state or asked.out / "state"
        self.last: State = {}
        self.saved_at = time.perf_counter()
        for folder in (asked.out, self.folder):
            folder.mkdir(parents=True, exist_ok=True)

    def train(
        self, recipe: TrainedRecipe, songs: list[list[np.ndarray]], size: Size, device: torch.device
    ) -> tuple[State, int]:
        """The averaged weights in float16, and the steps behind them."""
        codec = untrained(recipe, self.asked.seed).to(device)
        windows = training_windows(songs, self.asked.seed, device)
        resume, stamps = self._resume(), []
        curve: list[dict[str, float]] = []

        def log(step: int, values: dict[str, float]) -> None:
            stamps.append((step, time.perf_counter()))
            curve.append({"step": step} | {name: float(f"{value:.4g}") for name, value in values.items()})
            if processes().rank == 0:
                print(json.dumps(curve[-1]), flush=True)

        self.report["first_step"] = int(resume["step"]) if resume else 0
        try:
            averaged = fit_codec(
                codec,
                round_and_round(windows, recipe.batch),
                steps=recipe.steps,
                learning_rate=recipe.learning_rate,
                seed=self.asked.seed,
                precision=recipe.precision,
                resume=resume,
                save=self.save,
                save_every=size.keep_every,
                log=log,
                log_every=size.look_every,
            )
            step = recipe.steps
        except TimeIsUp:
            averaged = {name.removeprefix("ema/"): self.last[name] for name in self.last if name.startswith("ema/")}
            step = int(self.last["step"])
        self.report |= _speed(stamps, device) | {"last_step": step, "curve": curve}
        return {name: tensor.half() for name, tensor in averaged.items()}, step

    def _resume(self) -> State | None:
        """The whole state of an earlier run, or one made from its weights, or None to begin."""
        whole = self.folder / STATE
        if whole.exists():
            self._check_plan(whole)
            self.report["begins"] = "the whole state"
            return load_weights(whole)[0]
        if self.asked.resume is None:
            self.report["begins"] = "first weights"
            return None
        with tempfile.TemporaryDirectory() as scratch:
            joined = join_pieces(self.asked.resume / (WEIGHTS + MANIFEST), Path(scratch))
            step = self._check_plan(joined)
            self.report["begins"] = "averaged weights of an earlier run, fresh optimiser (a warm restart)"
            return restarted(load_weights(joined)[0], step)

    def _check_plan(self, path: Path) -> int:
        """The step at which `path` was written; a ValueError if it belongs to another training."""
        found = load_metadata(path)
        step = int(found.pop("step"))
        if found != self.plan:
            raise ValueError(
                f"{path} belongs to the training {found}, not {self.plan}; ask for the same, or start anew"
            )
        return step

    def save(self, state: State) -> None:
        """Keep the state now and then, and at the end of the time; all processes end together."""
        ends, rank = _agreed(time.perf_counter() > self.deadline), processes().rank
        if ends or time.perf_counter() - self.saved_at > SAVE_EVERY_S:
            self.saved_at = time.perf_counter()
            if rank == 0:
                save_weights(self.folder / STATE, state, self.plan | {"step": str(int(state["step"]))})
        if ends:
            self.last = state
            raise TimeIsUp

    def keep_weights(self, weights: State, step: int) -> None:
        """The averaged weights as pieces with their manifest in the folder that comes back."""
        with tempfile.TemporaryDirectory() as scratch:
            whole = Path(scratch) / WEIGHTS
            self.report["weights_sha256"] = save_weights(whole, weights, self.plan | {"step": str(step)})
            split_file(whole, self.asked.out)
        self.write_report()

    def write_report(self) -> None:
        """What is known so far."""
        (self.asked.out / "report.json").write_text(json.dumps(self.report, indent=1), encoding="utf-8")


def render_corpus(size: Size) -> list[list[np.ndarray]]:
    """The stems (2, N) of every song, int16: the grid that the renderer leaves them on."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(partial(_rendered, size.corpus), range(size.corpus.songs), chunksize=2))


def _rendered(corpus: EmbeddedCorpus, index: int) -> list[np.ndarray]:
    return [
        np.clip(stem_SN * 32_768, -32_768, 32_767).astype(np.int16)
        for stem_SN in render(compose(corpus, index)).values()
    ]


def training_windows(songs: list[list[np.ndarray]], seed: int, device: torch.device) -> Iterator[Tensor]:
    """Stretches (1, 2, N) of random stems and mixtures without end, on the device; the same ones for the same seed."""
    held = [[torch.from_numpy(stem_SN).to(device) for stem_SN in song] for song in songs]
    random = np.random.default_rng(seed)
    while True:
        stems = held[random.integers(len(held))]
        chosen = stems if random.random() < MIXTURE_SHARE else [stems[random.integers(len(stems))]]
        start = random.integers(stems[0].shape[1] - STRETCH_SAMPLES)
        heard = torch.stack([stem_SN[:, start : start + STRETCH_SAMPLES] for stem_SN in chosen])
        yield heard.sum(dim=0, dtype=torch.float32)[None] / 32_768


def _speed(stamps: list[tuple[int, float]], device: torch.device) -> dict[str, Any]:
    """Steps a second between log lines (their median, so that warm-up and saves count little), and peak memory."""
    rates = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(stamps)]
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {"steps_per_s": float(np.median(rates)) if rates else None, "peak_memory_gib": memory}


def _agreed(here: bool) -> bool:
    """What process 0 says; clocks differ, and processes that end apart would wait for each other."""
    said = [here]
    if processes().size > 1:
        distributed.broadcast_object_list(said, src=0)
    return said[0]


def _joined(device: torch.device) -> torch.device:
    """The device of this process, after joining the group if torchrun started several."""
    if "LOCAL_RANK" not in os.environ:
        return device
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type != "cuda":
        return device
    local = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(local)
    return local


def _recipe(asked: argparse.Namespace) -> TrainedRecipe:
    """The preset with what the command line says instead."""
    recipe = preset(asked.codec, asked.size)
    levels = NoiseLevels(asked.noise_levels)
    return replace(
        recipe,
        steps=asked.steps or recipe.steps,
        batch=asked.batch or recipe.batch,
        learning_rate=asked.learning_rate or recipe.learning_rate,
        precision=Precision(asked.precision),
        noise_levels=levels,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", choices=TRAINABLE, default="music2latent2")
    parser.add_argument("--size", choices=("tiny", "small", "base"), default="small")
    parser.add_argument("--steps", type=int, help="of all runs together (default: the preset's)")
    parser.add_argument("--batch", type=int, help="crops of a step (default: the preset's)")
    parser.add_argument("--learning-rate", type=float, help="(default: the preset's)")
    parser.add_argument("--precision", choices=[one.value for one in Precision], default=Precision.BFLOAT16.value)
    parser.add_argument("--noise-levels", choices=[one.value for one in NoiseLevels], default="time-grid")
    parser.add_argument("--minutes", type=float, default=9.5, help="after which this run has ended itself")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="where the whole state is kept and looked for (default: OUT/state)")
    parser.add_argument("--resume", type=Path, help="the pieces of an earlier run, where there is no whole state")
    parser.add_argument("--out", type=Path, required=True, help="for report.json, pictures.npz and the pieces")
    return parser.parse_args()


if __name__ == "__main__":
    main()
