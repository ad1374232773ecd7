"""Trains a denoiser of either objective on latents, and loads one that was trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.batch import LatentBatch, LatentSet, StyleSource, require_finite
from models.consistency import ConsistencyObjective
from models.data_parallel import ForwardPass, averaged_over_processes, own_rows
from models.denoiser import Denoiser, NetworkRecipe, Objective, build_denoiser
from models.denoiser_telemetry import DenoiserTelemetry, watched_windows
from models.device_memory import within_memory
from models.training import SMALLER, Log, Precision, Preview, Save, State, TrainingRecipe, fit
from models.training_draws import batch_indices, step_draws
from models.weights import load_into

# Shapes: B batch, K conditions, C latent width, T latent frames.


def train_denoiser(
    network: NetworkRecipe,
    objective: Objective,
    training: TrainingRecipe,
    data: LatentSet,
    *,
    style: StyleSource,
    context_dropout: float = 0.25,
    clap_dropout: float = 0.25,
    channel_weighting: bool = False,
    start: Mapping[str, Tensor] | None = None,
    heldout: LatentSet | None = None,
    resume: Mapping[str, Tensor] | None = None,
    save: Save | None = None,
    save_every: int = 1_000,
    log: Log | None = None,
    log_every: int = 50,
    preview: Preview | None = None,
    preview_every: int = 1_000,
    stop: Callable[[], bool] | None = None,
    device: str | torch.device = "cpu",
    compiled: bool = False,
) -> State:
    """The averaged weights of a denoiser trained on `data`; `load_denoiser` makes a denoiser of them.

    `start` holds the weights of a trained denoiser of the same network, to tune from. The conditions are dropped
    independently of each other, because all four combinations are rows of Table 1. The log also tells the error on
    the first `heldout` windows and, for a consistency objective, how much of a step is rounding there. `compiled` runs
    the network through torch.compile, in place: the same weights under the same names, and the same numbers but for
    rounding.
    """
    where = torch.device(device)
    denoiser = _beginning(network, objective, training, data, start)
    with within_memory("the network", where, remedy=SMALLER):
        denoiser.to(where)
    if compiled:
        denoiser.network.compile()
    weight_C = data.channel_weights.to(where) if channel_weighting else None
    telemetry = DenoiserTelemetry(
        denoiser,
        watched_windows(heldout, data, style) if heldout else None,
        batch_size=training.batch_size,
        frames=data.target_NCT.shape[2],
        dtype=training.precision.dtype,
    )

    def own_losses(batch: LatentBatch, t_B: Tensor, noise_BCT: Tensor, progress: float) -> Tensor:
        raw = partial(denoiser.raw, conditions=batch.conditions)
        return objective.losses(raw, batch.target_BCT, t_B, noise_BCT, progress=progress, channel_weight_C=weight_C)

    shared_losses = averaged_over_processes(ForwardPass(denoiser, own_losses))
    rows = own_rows(training.batch_size)

    def loss(step: int) -> Tensor:
        draws = step_draws(objective, data.target_NCT.shape[1:], training, step, where, conditions=2).of(rows)
        batch = training_batch(data, style, training, step, rows).to(where)
        context_B, clap_B = draws.chance_KB
        batch = batch.with_conditions_dropped(context=context_B < context_dropout, clap=clap_B < clap_dropout)
        losses: Tensor = shared_losses(batch, draws.t_B, draws.noise, step / training.steps)
        telemetry.hear(losses, objective.sigma(draws.t_B))
        return losses.mean()

    def told(step: int, values: dict[str, float]) -> None:
        assert log is not None  # else nobody is told
        log(step, telemetry.added_to(values, progress=step / training.steps, seed=training.seed))

    return fit(
        denoiser,
        loss,
        training,
        resume=resume,
        save=save,
        save_every=save_every,
        log=told if log else None,
        log_every=log_every,
        preview=preview,
        preview_every=preview_every,
        stop=stop,
    )


def _beginning(
    network: NetworkRecipe,
    objective: Objective,
    training: TrainingRecipe,
    data: LatentSet,
    start: Mapping[str, Tensor] | None,
) -> Denoiser:
    """The denoiser before its first step. Raises ValueError for a precision that its objective cannot do with."""
    if isinstance(objective, ConsistencyObjective) and training.precision is not Precision.FLOAT32:
        raise ValueError(
            "consistency training compares two nearby outputs: in BFLOAT16 rounding is half of their difference in the "
            "middle of the schedule and four times it at the end (at sigma 2.5; models/rounding.py); use FLOAT32"
        )
    channels = data.target_NCT.shape[1]
    denoiser = build_denoiser(network, objective, clap_width=data.clap_width, seed=training.seed, latent_width=channels)
    if start is not None:
        load_into(denoiser, start, what="the denoiser to be tuned")
    return denoiser


def load_denoiser(
    network: NetworkRecipe,
    objective: Objective,
    *,
    clap_width: int,
    weights: Mapping[str, Tensor],
    device: str | torch.device = "cpu",
) -> Denoiser:
    """A trained denoiser, ready to sample from. Raises WeightsError naming the tensors that do not fit."""
    latent_width = len(weights["null_context"]) if "null_context" in weights else 0
    denoiser = build_denoiser(network, objective, clap_width=clap_width, seed=0, latent_width=max(latent_width, 1))
    load_into(denoiser, weights, what=f"a denoiser of {network}")
    return denoiser.to(device).eval().requires_grad_(False)


def training_batch(
    data: LatentSet, style: StyleSource, training: TrainingRecipe, step: int, rows: slice = slice(None)
) -> LatentBatch:
    """These rows of one step's windows, which are a function of the seed and the step.

    Raises ValueError naming windows that are not finite: every step with one of them would be skipped in silence.
    """
    indices = batch_indices(training.seed, step, training.batch_size, len(data))
    choice = np.random.default_rng([training.seed, step, 1]).integers(data.segments, size=len(indices))
    batch = data.batch(indices[rows], choice[rows], style)
    require_finite(indices[rows], targets=batch.target_BCT, contexts=batch.context_BCT, embeddings=batch.clap_BE)
    return batch
