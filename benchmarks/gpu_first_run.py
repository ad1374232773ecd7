"""What a GPU does with the paper's denoiser: one run of about ten minutes that answers most open questions.

Renders the embedded corpus in memory, fits the closed-form codec and a small CLAP, trains the DiT for some hundred
steps and reports step time, model FLOPs utilisation, memory and the latency of each sampler, as JSON. Imports only
`models`, `metrics` and `data_manifests`, so that it runs where nothing but torch, numpy and scipy is installed:

    python benchmarks/gpu_first_run.py --out DIR                       (the paper's size, on a GPU)
    python benchmarks/gpu_first_run.py --out DIR --size tiny --device cpu   (a rehearsal of the same code)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_manifests.composer import EmbeddedCorpus, compose, song_record
from data_manifests.renderer import render
from models.batch import LatentSet, StyleSource
from models.conditioning import Conditions
from models.denoiser_training import load_denoiser, train_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.mel import LogMel
from models.sampling import ConsistencySampler, Guidance, HeunSampler, Sampler, sample_latents
from models.small_clap import SmallClap, SmallClapRecipe
from models.small_clap_fit import ClapWindows, fit_small_clap
from models.spectral import SpectralCodec, SpectralRecipe, fit_spectral
from models.training import Precision, TrainingRecipe
from models.training_cost import denoiser_cost, finish, measured_flop_per_s
from models.weights import save_weights

CHUNK = 32_768


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    corpus: EmbeddedCorpus
    window: int
    windows: int
    network: DiTRecipe
    training: TrainingRecipe
    clap_steps: int
    heun: HeunSampler
    batches: tuple[int, ...]
    matmul: int


SIZES = {
    "paper": Size(
        corpus=EmbeddedCorpus(songs=96, seconds=24.0, seed=0, heldout=0),
        window=15 * CHUNK,
        windows=2000,
        network=DiTRecipe(),
        training=TrainingRecipe(
            steps=600, batch_size=128, warmup_steps=100, ema_decay=0.99, precision=Precision.BFLOAT16
        ),
        clap_steps=300,
        heun=HeunSampler(),
        batches=(1, 32),
        matmul=8192,
    ),
    "tiny": Size(
        corpus=EmbeddedCorpus(songs=2, seconds=8.0, seed=0, heldout=0),
        window=4 * CHUNK,
        windows=8,
        network=DiTRecipe(width=32, layers=2, heads=2, noise_width=32),
        training=TrainingRecipe(steps=6, batch_size=4, warmup_steps=2, ema_decay=0.9),
        clap_steps=3,
        heun=HeunSampler(steps=3),
        batches=(1, 2),
        matmul=256,
    ),
}


def main() -> None:
    """Run every part in turn and write `report.json` after each, so that a cut run still tells something."""
    asked = _arguments()
    size, device = SIZES[asked.size], torch.device(asked.device)
    if asked.precision:
        size = replace(size, training=replace(size.training, precision=Precision(asked.precision)))
    asked.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"size": asked.size, "device": _device_name(device), "torch": torch.__version__}

    def note(name: str, value: Any) -> None:
        report[name] = value
        (asked.out / "report.json").write_text(json.dumps(report, indent=1))
        print(name, json.dumps(value), flush=True)

    note("matmul_tflops_bf16", measured_flop_per_s(device, torch.bfloat16, size.matmul) / 1e12)
    songs, seconds = timed(partial(render_corpus, size))
    note("render_s", seconds)
    data, seconds = timed(partial(latent_set, size, songs, device))
    note("codec_clap_encode_s", seconds)
    weights, figures = train(size, data, device)
    note("training", figures | utilisation(size, data, figures["step_ms_median"], report["matmul_tflops_bf16"]))
    note("latency_ms", latencies(size, data, weights, device))
    save_weights(asked.out / "denoiser.safetensors", weights, {"size": asked.size})


def render_corpus(size: Size) -> list[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """Every song's stems and record, rendered on all cores."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(partial(_render, size.corpus), range(size.corpus.songs)))


def _render(corpus: EmbeddedCorpus, index: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    song = compose(corpus, index)
    return render(song), song_record(song)


def latent_set(
    size: Size, songs: list[tuple[dict[str, np.ndarray], dict[str, Any]]], device: torch.device
) -> LatentSet:
    """Latents and embeddings of random windows: a target stem, the sum of the others, another window of the stem."""
    random = np.random.default_rng(0)
    rows = [_window(songs, size.window, random) for _ in range(size.windows)]
    recipe = SpectralRecipe(audio_channels=2)
    state = fit_spectral(recipe, (torch.from_numpy(row[0])[None] for row in rows[:200]))
    codec = SpectralCodec(recipe, state, "")
    latents = [
        [codec.encode(torch.from_numpy(row[part])[None]).latent_BCT[0].numpy() for row in rows] for part in (0, 1)
    ]
    target_NCT, context_NCT = (np.stack(part) for part in latents)
    clap = _clap(size, rows, device)
    style_NKE, leak_NE = (
        torch.cat([clap.embed_audio(torch.from_numpy(row[part])[None]) for row in rows]).cpu().numpy()
        for part in (2, 0)
    )
    pooled_NCT = np.concatenate([target_NCT, context_NCT])
    return LatentSet(
        target_NCT=target_NCT,
        context_NCT=context_NCT,
        clap_audio_NKE=style_NKE[:, None],
        clap_leak_NE=leak_NE,
        mean_C=pooled_NCT.mean((0, 2)),
        std_C=pooled_NCT.std((0, 2)),
    )


def _window(
    songs: list[tuple[dict[str, np.ndarray], dict[str, Any]]], window: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str, str]:
    index = int(random.integers(len(songs)))
    stems, record = songs[index]
    targets = [stem for stem in record["stems"] if not stem["is_vocal"]]
    told = targets[int(random.integers(len(targets)))]
    name = told["file"].removesuffix(".flac")
    context_SN = np.sum([audio_SN for stem, audio_SN in stems.items() if stem != name], axis=0, dtype=np.float32)
    starts = random.integers(stems[name].shape[1] - window, size=2)
    target_SN, style_SN = (np.ascontiguousarray(stems[name][:, start : start + window]) for start in starts)
    return (
        target_SN,
        context_SN[:, starts[0] : starts[0] + window].copy(),
        style_SN,
        ", ".join(told["tags"]),
        str(index),
    )


def _clap(size: Size, rows: list[Any], device: torch.device) -> SmallClap:
    recipe = SmallClapRecipe(steps=size.clap_steps)
    mel = LogMel(recipe.mel)
    pictures = [
        np.stack(
            [mel(torch.from_numpy(row[part]).mean(0)[None, :480_000])[0].numpy().astype(np.float16) for row in rows]
        )
        for part in (0, 1)
    ]
    texts = [row[3] or "stem" for row in rows]
    windows = ClapWindows(stem_NMT=pictures[0], context_NMT=pictures[1], texts=texts, song_ids=[row[4] for row in rows])
    state = fit_small_clap(recipe, windows, log=lambda step, values: None, device=device)
    return SmallClap(recipe, state, device=device)


def train(size: Size, data: LatentSet, device: torch.device) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Train, and time every logged step; the median leaves out warm-up and compilation."""
    stamps: list[float] = []
    losses: list[float] = []

    def log(step: int, values: dict[str, float]) -> None:
        stamps.append(time.perf_counter())
        losses.append(values["loss"])

    every = max(1, size.training.steps // 20)
    weights = train_denoiser(
        size.network,
        EdmObjective(),
        size.training,
        data,
        style=StyleSource.OTHER_SEGMENT,
        log=log,
        log_every=every,
        device=device,
    )
    steps_ms = np.diff(stamps) / every * 1e3
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    figures = {
        "step_ms_median": float(np.median(steps_ms)),
        "batch": size.training.batch_size,
        "precision": size.training.precision.value,
        "peak_memory_gib": memory,
        "losses": losses,
    }
    return weights, figures


def utilisation(size: Size, data: LatentSet, step_ms: float, peak_tflops: float) -> dict[str, float]:
    """Operations of one step (counted, not run) and their share of the measured peak."""
    cost = denoiser_cost(
        size.network,
        EdmObjective(),
        batch_size=size.training.batch_size,
        clap_width=data.clap_width,
        latent_width=data.target_NCT.shape[1],
        frames=data.target_NCT.shape[2],
    )
    tflop = cost.flop_per_step / 1e12
    return {"tflop_per_step": tflop, "mfu_of_measured_peak": tflop / (step_ms / 1e3) / peak_tflops}


def latencies(
    size: Size, data: LatentSet, weights: dict[str, torch.Tensor], device: torch.device
) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of sampling one batch, by sampler and batch size."""
    denoiser = load_denoiser(size.network, EdmObjective(), clap_width=data.clap_width, weights=weights, device=device)
    samplers: dict[str, tuple[Sampler, Guidance]] = {
        "heun, guided": (size.heun, Guidance()),
        "heun, unguided": (size.heun, Guidance(context=1.0, clap=1.0)),
        "five steps, unguided": (ConsistencySampler(), Guidance(context=1.0, clap=1.0)),
    }
    measured = {}
    for name, (sampler, guidance) in samplers.items():
        for count in size.batches:
            conditions = _conditions(data, count, device)
            generators = [torch.Generator().manual_seed(index) for index in range(count)]
            play = partial(
                sample_latents, denoiser, conditions, sampler=sampler, guidance=guidance, generators=generators
            )
            measured[f"{name}, batch {count}"] = _percentiles(play, device)
    return measured


def _conditions(data: LatentSet, count: int, device: torch.device) -> Conditions:
    rows = np.arange(count) % len(data)
    batch = data.batch(rows, np.zeros(count, dtype=int), StyleSource.OTHER_SEGMENT)
    return batch.to(device).conditions


def _percentiles(play: Callable[[], Any], device: torch.device) -> dict[str, float]:
    play()
    taken = []
    for _ in range(10):
        finish(device)
        started = time.perf_counter()
        play()
        finish(device)
        taken.append((time.perf_counter() - started) * 1e3)
    return {"p50": float(np.percentile(taken, 50)), "p95": float(np.percentile(taken, 95))}


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """The result of an action and the seconds it took."""
    started = time.perf_counter()
    result = action()
    return result, round(time.perf_counter() - started, 2)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where report.json and the weights go")
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=[precision.value for precision in Precision], help="of the training")
    return parser.parse_args()


if __name__ == "__main__":
    main()
