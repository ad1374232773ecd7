"""How fast a GPU trains and samples the paper's denoisers: utilisation, latency and memory, as one JSON report.

Latents are noise, so nothing is rendered or encoded: speed does not depend on them. Imports only `models`, so that it
runs where nothing but torch, numpy and safetensors is installed:

    python benchmarks/gpu_denoiser_speed.py --out DIR                              (the paper's sizes, on a GPU)
    python benchmarks/gpu_denoiser_speed.py --out DIR --size tiny --device cpu     (a rehearsal of the same code)

Utilisation is counted operations over what the device's own matrix products reach in the same arithmetic, measured at
the start. What cannot be measured says why. The report is written after every measurement: a cut run tells something.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.batch import LatentSet, StyleSource
from models.consistency import ConsistencyObjective
from models.denoiser import NetworkRecipe, Objective, build_denoiser
from models.denoiser_training import train_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.sampling import ConsistencySampler, Guidance, HeunSampler, Sampler, sample_latents
from models.training import Precision, TrainingRecipe
from models.training_cost import denoiser_cost, finish, measured_flop_per_s
from models.unet import UNetRecipe

GIB = 2**30
MODES: dict[str, str | None] = {"eager": None, "compiled": "default", "CUDA graphs": "reduce-overhead"}
"""How the network is run, and torch.compile's name for it."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training whose steps are timed, at its paper's batch (§4.3)."""

    network: NetworkRecipe
    objective: Objective
    batch: int
    precision: Precision


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    trained: dict[str, Trained]
    sampled: NetworkRecipe
    heun: HeunSampler
    frames: int
    clap_width: int
    steps: int
    every: int
    samplings: int
    product_width: int


def _trained(dit: DiTRecipe, unet: UNetRecipe, batches: tuple[int, int, int]) -> dict[str, Trained]:
    """C-DiT is float32: `models.rounding` says why."""
    edm, consistency = EdmObjective(), ConsistencyObjective()
    return {
        "DiT": Trained(network=dit, objective=edm, batch=batches[0], precision=Precision.BFLOAT16),
        "C-DiT": Trained(network=dit, objective=consistency, batch=batches[1], precision=Precision.FLOAT32),
        "U-Net": Trained(network=unet, objective=edm, batch=batches[2], precision=Precision.BFLOAT16),
    }


_TINY_DIT = DiTRecipe(width=32, layers=2, heads=2, noise_width=32)
_TINY_UNET = UNetRecipe(base=16, multipliers=(1, 2), blocks=1, attention_levels=(2,), embedding=16)
SIZES = {
    "paper": Size(
        trained=_trained(DiTRecipe(), UNetRecipe(), (128, 16, 256)),
        sampled=DiTRecipe(),
        heun=HeunSampler(),
        frames=120,
        clap_width=512,
        steps=60,
        every=10,
        samplings=20,
        product_width=8192,
    ),
    "tiny": Size(
        trained=_trained(_TINY_DIT, _TINY_UNET, (4, 2, 4)),
        sampled=_TINY_DIT,
        heun=HeunSampler(steps=3),
        frames=16,
        clap_width=8,
        steps=6,
        every=2,
        samplings=3,
        product_width=256,
    ),
}


def main() -> None:
    asked = _arguments()
    size, device = SIZES[asked.size], torch.device(asked.device)
    asked.out.mkdir(parents=True, exist_ok=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report: dict[str, Any] = {"size": asked.size, "device": name, "torch": torch.__version__}
    for part, value in measurements(size, device, asked.tf32):
        report.setdefault(part, {}).update(value)
        (asked.out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        print(part, json.dumps(value), flush=True)


def measurements(size: Size, device: torch.device, tf32: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure as soon as it is known, under the part of the report that it belongs to."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    yield "arithmetic", {"float32 is TF32": tf32}
    peaks = {
        precision: measured_flop_per_s(device, precision.dtype, size.product_width)
        for precision in (Precision.BFLOAT16, Precision.FLOAT32)
    }
    yield "measured_peak_tflop_per_s", {precision.value: peak / 1e12 for precision, peak in peaks.items()}
    for name, trained in size.trained.items():
        for mode in ("eager", "compiled"):
            action = partial(training_speed, size, trained, device, peaks[trained.precision], compiled=mode != "eager")
            yield "training", {f"{name}, batch {trained.batch}, {mode}": measured(action, mode, device)}
    for name, sampler, guidance in (
        ("30-step Heun, guided", size.heun, Guidance()),
        ("five steps", ConsistencySampler(), Guidance(context=1.0, clap=1.0)),
    ):
        for precision in Precision:
            for mode in MODES:
                action = partial(sampling_speed, size, sampler, guidance, precision, mode, device)
                yield "one_candidate", {f"{name}, {precision.value}, {mode}": measured(action, mode, device)}


def measured(action: Callable[[], dict[str, Any]], mode: str, device: torch.device) -> dict[str, Any]:
    """What the action tells, with its peak memory; or why it could not be had."""
    if mode != "eager" and device.type != "cuda":
        return {"skipped": f"{mode}: its speed is a question for a CUDA device, this is a {device.type}"}
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        told = action()
    except (RuntimeError, ValueError) as error:  # the other measurements are worth having
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    memory = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else None
    return told | {"peak_memory_gib": memory}


def training_speed(
    size: Size, trained: Trained, device: torch.device, peak_flop_per_s: float, *, compiled: bool
) -> dict[str, Any]:
    """Step time of the one training loop, all included, and its share of the peak; the first reports only warm up."""
    stamps: list[float] = []

    def log(step: int, values: dict[str, float]) -> None:
        finish(device)
        stamps.append(time.perf_counter())

    train_denoiser(
        trained.network,
        trained.objective,
        TrainingRecipe(steps=size.steps, batch_size=trained.batch, precision=trained.precision),
        noise_latents(size, windows=4 * trained.batch),
        style=StyleSource.OTHER_SEGMENT,
        log=log,
        log_every=size.every,
        device=device,
        compiled=compiled,
    )
    step_s = float(np.median(np.diff(stamps))) / size.every
    cost = denoiser_cost(
        trained.network,
        trained.objective,
        batch_size=trained.batch,
        clap_width=size.clap_width,
        latent_width=64,
        frames=size.frames,
    )
    return {
        "precision": trained.precision.value,
        "parameters": cost.parameters,
        "step_ms": 1e3 * step_s,
        "samples_per_s": trained.batch / step_s,
        "tflop_per_step": cost.flop_per_step / 1e12,
        "mfu_of_measured_peak": cost.flop_per_step / step_s / peak_flop_per_s,
    }


def sampling_speed(
    size: Size, sampler: Sampler, guidance: Guidance, precision: Precision, mode: str, device: torch.device
) -> dict[str, Any]:
    """Seconds of one candidate's latents alone, both conditions given; `first_s` has the compilation in it."""
    objective = ConsistencyObjective() if isinstance(sampler, ConsistencySampler) else EdmObjective()
    denoiser = build_denoiser(size.sampled, objective, clap_width=size.clap_width, seed=0).to(device).eval()
    if MODES[mode]:
        denoiser.network.compile(mode=MODES[mode])
    batch = noise_latents(size, windows=1).batch(np.array([0]), np.array([0]), StyleSource.OTHER_SEGMENT)

    def play() -> None:
        generators = [torch.Generator().manual_seed(0)]
        with torch.autocast(device.type, torch.bfloat16, enabled=precision is Precision.BFLOAT16):
            sample_latents(denoiser, conditions, sampler=sampler, guidance=guidance, generators=generators)

    conditions = batch.to(device).conditions
    first_s = _seconds(play, device)
    play()  # CUDA graphs are recorded on the second call
    taken_s = [_seconds(play, device) for _ in range(size.samplings)]
    p50_s, p95_s = np.percentile(taken_s, [50, 95])
    return {"p50_ms": 1e3 * float(p50_s), "p95_ms": 1e3 * float(p95_s), "first_s": first_s}


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    finish(device)
    started_s = time.perf_counter()
    action()
    finish(device)
    return time.perf_counter() - started_s


def noise_latents(size: Size, *, windows: int) -> LatentSet:
    """A training set of noise of the paper's shapes."""
    random = np.random.default_rng(0)
    latent_NCT = random.standard_normal((windows, 64, size.frames), dtype=np.float32)
    clap_NE = random.standard_normal((windows, size.clap_width), dtype=np.float32)
    clap_NE /= np.linalg.norm(clap_NE, axis=1, keepdims=True)
    return LatentSet(
        target_NCT=latent_NCT,
        context_NCT=latent_NCT,
        clap_audio_NKE=clap_NE[:, None],
        clap_leak_NE=clap_NE,
        mean_C=np.zeros(64, np.float32),
        std_C=np.ones(64, np.float32),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where report.json goes")
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tf32", action="store_true", help="let float32 matrix products be TF32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
