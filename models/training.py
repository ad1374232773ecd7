"""The one training loop, for denoisers of either objective and for the bridge, and the training of denoisers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.batch import LatentBatch, LatentSet, StyleSource
from models.consistency import ConsistencyObjective
from models.denoiser import Denoiser, NetworkRecipe, Objective, build_denoiser
from models.weights import check_names, load_into

# Shapes: B batch, N windows.

State = dict[str, Tensor]
Log = Callable[[int, dict[str, float]], None]
Save = Callable[[State], None]
OptimizerOf = Callable[[nn.Module, "TrainingRecipe"], torch.optim.Optimizer]

KINDS = ("weights", "ema", "first_moment", "second_moment")
COUNTS = ("step", "updates", "skipped", "skipped_in_a_row")


class Precision(Enum):
    """The arithmetic of matrix products during training; weights, noise levels and losses are float32 in both."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How long and how weights are fitted. Steps, rate, betas, warm-up and cosine are the paper's (§4.3).

    Departure: the paper states no weight decay, clipping, averaging or precision; these are ours. `nonfinite_limit`
    steps in a row without a finite gradient end the training.
    """

    steps: int = 1_000_000
    batch_size: int
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 1_000
    weight_decay: float = 1e-2
    gradient_clip: float = 1.0
    ema_decay: float = 0.9999
    precision: Precision = Precision.FLOAT32
    nonfinite_limit: int = 10
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of update `step`: linear warm-up, then a cosine that reaches 0 at `steps`."""
        warm = min(self.warmup_steps, self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm))) / 2


class DivergedError(RuntimeError):
    """Training met non-finite gradients too many times in a row."""


def fit(
    module: nn.Module,
    loss: Callable[[int], Tensor],
    recipe: TrainingRecipe,
    *,
    resume: Mapping[str, Tensor] | None = None,
    save: Save | None = None,
    save_every: int = 1_000,
    log: Log | None = None,
    log_every: int = 50,
    optimizer_of: OptimizerOf | None = None,
) -> State:
    """Minimise `loss(step)` over the module's parameters; return its averaged weights as a state dict on the CPU.

    `loss` must be a function of the step and the weights alone: then a training resumed from a saved state continues
    as if it had never stopped, bit for bit on a CPU with as many threads. `save` gets a flat dict of tensors that
    safetensors can hold. The module itself ends with the raw weights. `optimizer_of` gives another optimiser than
    AdamW, with Adam's two moments.
    """
    run = _Run(module, recipe, optimizer_of or adamw)
    if resume is not None:
        run.restore(resume)
    module.train()
    heard: list[Tensor] = []
    while run.step < recipe.steps:
        value, norm = run.advance(loss)
        heard.append(value)
        done = run.step == recipe.steps
        if done or run.step % log_every == 0:
            if log is not None:
                log(run.step, run.report(heard, norm))
            heard = []
        if save is not None and not done and run.step % save_every == 0:
            save(run.state())
    return run.averaged()


class _Run:
    """A training under way: parameters, their averages, the optimiser and the counts."""

    def __init__(self, module: nn.Module, recipe: TrainingRecipe, optimizer_of: OptimizerOf) -> None:
        self.module = module
        self.recipe = recipe
        parameters = dict(module.named_parameters())
        self.names = list(parameters)
        self.tensors: list[Tensor] = list(parameters.values())
        self.ema = [parameter.detach().clone() for parameter in self.tensors]
        self.optimizer = optimizer_of(module, recipe)
        self.step = self.updates = self.skipped = self.skipped_in_a_row = 0

    def advance(self, loss: Callable[[int], Tensor]) -> tuple[Tensor, Tensor]:
        """One step: its loss and gradient norm. A step without a finite gradient changes no weight."""
        device = self.tensors[0].device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision is Precision.BFLOAT16):
            value = loss(self.step)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.tensors, self.recipe.gradient_clip)
        if math.isfinite(norm):
            self._update()
        else:
            self._skip(value.item())
        self.optimizer.zero_grad()
        self.step += 1
        return value.detach(), norm

    def _update(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        self.optimizer.step()
        # The average follows closely at first, so that it forgets the initial weights (Music2Latent's warm-up).
        decay = min(self.recipe.ema_decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.tensors, 1 - decay)
        self.updates += 1
        self.skipped_in_a_row = 0

    def _skip(self, value: float) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row >= self.recipe.nonfinite_limit:
            raise DivergedError(
                f"{self.skipped_in_a_row} steps in a row up to step {self.step} had no finite gradient (loss {value}); "
                f"lower the learning rate from {self.recipe.learning_rate}, or look for bad values in the data"
            )

    def report(self, heard: list[Tensor], norm: Tensor) -> dict[str, float]:
        """What a log gets: the mean loss since the last report, and the state of the optimisation."""
        return {
            "loss": float(torch.stack(heard).mean()),
            "gradient_norm": float(norm),
            "learning_rate": self.recipe.rate(self.step - 1),
            "skipped_steps": float(self.skipped),
        }

    def state(self) -> State:
        """All that a resumed training needs, copied to the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self._live().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state that `state` returned."""
        check_names(state, self._live(), what="this training")
        for count in COUNTS:
            setattr(self, count, int(state[count]))
        with torch.no_grad():
            for name, tensor, average in zip(self.names, self.tensors, self.ema, strict=True):
                tensor.copy_(state[f"weights/{name}"])
                average.copy_(state[f"ema/{name}"])
                self.optimizer.state[tensor] = {
                    "step": torch.tensor(float(self.updates), device=tensor.device),
                    "exp_avg": state[f"first_moment/{name}"].to(tensor, copy=True),
                    "exp_avg_sq": state[f"second_moment/{name}"].to(tensor, copy=True),
                }

    def averaged(self) -> State:
        """The module's state dict with its parameters replaced by their averages."""
        fixed = {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}
        return fixed | {name: tensor.cpu().clone() for name, tensor in zip(self.names, self.ema, strict=True)}

    def _live(self) -> State:
        """The state as it stands, not copied."""
        moments = self._moments("exp_avg"), self._moments("exp_avg_sq")
        tensors = {
            f"{kind}/{name}": tensor
            for kind, column in zip(KINDS, (self.tensors, self.ema, *moments), strict=True)
            for name, tensor in zip(self.names, column, strict=True)
        }
        return tensors | {count: torch.tensor(getattr(self, count)) for count in COUNTS}

    def _moments(self, key: str) -> list[Tensor]:
        return [self.optimizer.state[tensor].get(key, torch.zeros_like(tensor)) for tensor in self.tensors]


def adamw(module: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """AdamW with decay on matrices only."""
    groups = _decay_groups(module, recipe.weight_decay)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def _decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on the matrices of linear and convolutional layers only: not on biases, norms, taps or nulls."""
    matrices = {id(layer.weight) for layer in module.modules() if isinstance(layer, (nn.Linear, nn.Conv1d))}
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if id(p) in matrices], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in matrices], "weight_decay": 0.0},
    ]


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
    resume: Mapping[str, Tensor] | None = None,
    save: Save | None = None,
    save_every: int = 1_000,
    log: Log | None = None,
    log_every: int = 50,
    device: str | torch.device = "cpu",
) -> State:
    """The averaged weights of a denoiser trained on `data`; `load_denoiser` makes a denoiser of them.

    `start` holds the weights of a trained denoiser of the same network, to tune from. The conditions are dropped
    independently of each other, because all four combinations are rows of Table 1.
    """
    if isinstance(objective, ConsistencyObjective) and training.precision is not Precision.FLOAT32:
        raise ValueError(
            "consistency training compares two nearby outputs, whose difference bfloat16 rounds away; use FLOAT32"
        )
    where = torch.device(device)
    channels = data.target_NCT.shape[1]
    denoiser = build_denoiser(network, objective, clap_width=data.clap_width, seed=training.seed, latent_width=channels)
    if start is not None:
        load_into(denoiser, start, what="the denoiser to be tuned")
    denoiser.to(where)
    weight_C = data.channel_weights.to(where) if channel_weighting else None

    def loss(step: int) -> Tensor:
        generator = step_generator(training.seed, step, where)
        batch = _conditions_dropped(
            training_batch(data, style, training, step).to(where), context_dropout, clap_dropout, generator
        )
        return objective.loss(
            partial(denoiser.raw, conditions=batch.conditions),
            batch.target_BCT,
            generator=generator,
            progress=step / training.steps,
            channel_weight_C=weight_C,
        )

    return fit(denoiser, loss, training, resume=resume, save=save, save_every=save_every, log=log, log_every=log_every)


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


def training_batch(data: LatentSet, style: StyleSource, training: TrainingRecipe, step: int) -> LatentBatch:
    """The windows of one step: a function of the seed and the step."""
    indices = batch_indices(training.seed, step, training.batch_size, len(data))
    choice = np.random.default_rng([training.seed, step, 1]).integers(data.segments, size=len(indices))
    return data.batch(indices, choice, style)


def batch_indices(seed: int, step: int, batch_size: int, windows: int) -> NDArray[np.int64]:
    """The rows (B,) of one step: every epoch is a permutation of its own, and batches run across their borders."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // windows
    parts = [(int(epoch), positions[epochs == epoch] % windows) for epoch in np.unique(epochs)]
    return np.concatenate([_epoch(seed, epoch, windows)[places] for epoch, places in parts])


def step_generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The randomness of one step, on the device that uses it: noise is a function of seed, step and kind of device."""
    word = np.random.SeedSequence([seed, step, 2]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(word >> np.uint64(1)))


def _conditions_dropped(
    batch: LatentBatch, context_dropout: float, clap_dropout: float, generator: torch.Generator
) -> LatentBatch:
    draw = torch.rand(2, len(batch.target_BCT), generator=generator, device=generator.device)
    return batch.with_conditions_dropped(context=draw[0] < context_dropout, clap=draw[1] < clap_dropout)


@lru_cache(maxsize=2)
def _epoch(seed: int, epoch: int, windows: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, 0]).permutation(windows)
