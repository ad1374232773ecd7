"""What a training will be and cost, before anything is built: `stemwright train ARM --dry-run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from statistics import median

import numpy as np
import torch

from flows.request import StudyRequest
from flows.study import ClapRecipe
from models.arms import DenoiserRecipe
from models.batch import LatentSet
from models.bridge import BridgeRecipe, bridge_cost, train_bridge
from models.codec import CHUNK_SAMPLES, LATENT_WIDTH, TOKENS_PER_CHUNK
from models.denoiser_training import train_denoiser
from models.laion import WIDTH as LAION_WIDTH
from models.small_clap import SmallClapRecipe
from models.training import Log, TrainingRecipe
from models.training_cost import TrainingCost, denoiser_cost
from tasks.clap import RECIPE, SHIPPED, ShippedClapRecipe
from tasks.recipes import dump_recipe, load_recipe
from tasks.runtime import use_threads

MEASURED_STEPS = 4  # after one that warms up
MEASURED_FLOP = {"cpu": 5e11, "cuda": 1e15}
"""The largest step that is tried: a few seconds on either kind of device."""


def estimate_lines(request: StudyRequest) -> Iterator[str]:
    """The resolved recipe of the request's one arm as JSON, then parameters, operations, memory and time."""
    study, runtime = request.study(), request.runtime()
    use_threads(runtime)
    (arm,) = study.arms
    frames = -(-study.rule.window_samples // CHUNK_SAMPLES) * TOKENS_PER_CHUNK
    clap_width = _clap_width(study.clap)
    yield dump_recipe({"denoiser": arm.denoiser, "bridge": arm.bridge})
    recipe: DenoiserRecipe | None = arm.denoiser
    while recipe:
        name = "denoiser" if recipe is arm.denoiser else "the denoiser that it is tuned from"
        cost = denoiser_cost(
            recipe.network,
            recipe.objective,
            batch_size=recipe.training.batch_size,
            clap_width=clap_width,
            latent_width=LATENT_WIDTH,
            frames=frames,
        )
        play = partial(_denoiser_steps, recipe, frames, clap_width, runtime.device)
        yield from _cost_lines(name, cost, recipe.training, play, runtime.device)
        recipe = recipe.start
    if arm.bridge:
        cost = bridge_cost(arm.bridge, clap_width=clap_width)
        play = partial(_bridge_steps, arm.bridge, clap_width, runtime.device)
        yield from _cost_lines("bridge", cost, arm.bridge.training, play, runtime.device)


def _cost_lines(
    name: str, cost: TrainingCost, training: TrainingRecipe, play: Callable[[Log], object], device: str
) -> Iterator[str]:
    yield f"{name}: {cost.parameters:,} parameters, {training.steps:,} steps of {training.batch_size} windows"
    whole_flop = cost.flop_per_step * training.steps
    yield f"  {cost.flop_per_step / 1e9:,.2f} GFLOP a step, {whole_flop / 1e12:,.2f} TFLOP in all"
    yield (
        f"  {cost.state_bytes / 2**20:,.0f} MiB of weights, gradients, moments and averages; activations, which grow "
        "with the batch, come on top"
    )
    if cost.flop_per_step > MEASURED_FLOP[torch.device(device).type]:
        yield f"  time: not measured, a step is too large to be tried on this {device}"
        return
    seconds = _seconds_per_step(play)
    yield f"  {seconds * 1e3:.1f} ms a step measured on this {device}, {_duration(seconds * training.steps)} in all"


def _seconds_per_step(play: Callable[[Log], object]) -> float:
    """The median over a few steps of the real loop, everything it does included."""
    rates: list[float] = []

    def log(step: int, values: dict[str, float]) -> None:
        rates.append(values["steps_per_second"])

    play(log)
    return 1 / median(rates[1:])


def _denoiser_steps(recipe: DenoiserRecipe, frames: int, clap_width: int, device: str, log: Log) -> None:
    train_denoiser(
        recipe.network,
        recipe.objective,
        replace(recipe.training, steps=MEASURED_STEPS + 1),
        _noise_windows(recipe.training.batch_size, frames, clap_width),
        style=recipe.style,
        log=log,
        log_every=1,
        device=device,
    )


def _bridge_steps(recipe: BridgeRecipe, clap_width: int, device: str, log: Log) -> None:
    data = _noise_windows(recipe.training.batch_size, 1, clap_width)
    train_bridge(
        replace(recipe, training=replace(recipe.training, steps=MEASURED_STEPS + 1)),
        torch.from_numpy(data.clap_leak_NE),
        torch.from_numpy(data.clap_audio_NKE),
        log=log,
        log_every=1,
        device=device,
    )


def _noise_windows(count: int, frames: int, clap_width: int) -> LatentSet:
    """Windows of the right shapes; what they hold does not change how long a step takes."""
    random = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32)

    return LatentSet(
        target_NCT=noise(count, LATENT_WIDTH, frames),
        context_NCT=noise(count, LATENT_WIDTH, frames),
        clap_audio_NKE=noise(count, 1, clap_width),
        clap_leak_NE=noise(count, clap_width),
        mean_C=np.zeros(LATENT_WIDTH, np.float32),
        std_C=np.ones(LATENT_WIDTH, np.float32),
    )


def _clap_width(recipe: ClapRecipe) -> int:
    match recipe:
        case SmallClapRecipe():
            return recipe.width
        case ShippedClapRecipe():
            return int(load_recipe((SHIPPED / RECIPE).read_text(encoding="utf-8")).width)
    return LAION_WIDTH


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s"
