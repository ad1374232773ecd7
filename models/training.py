"""The one training loop: for denoisers of either objective, for the bridge and for codecs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from models.data_parallel import in_any_process, mean_of_processes, state_of_process_0
from models.device_memory import within_memory
from models.telemetry import Pace, device_memory, relative_distance
from models.weights import check_names

State = dict[str, Tensor]
Log = Callable[[int, dict[str, float]], None]
Save = Callable[[State], None]
Preview = Callable[[int, State], None]
OptimizerOf = Callable[[nn.Module, "TrainingRecipe"], torch.optim.Optimizer]

KINDS = ("weights", "ema", "first_moment", "second_moment")
COUNTS = ("step", "updates", "skipped", "skipped_in_a_row")
SMALLER = "take a smaller batch, more processes or a smaller scale; what was saved stays"


class Precision(Enum):
    """The arithmetic of matrix products during training; weights, noise levels and losses are float32 in both."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"

    @property
    def dtype(self) -> torch.dtype:
        """Of the factors of a matrix product."""
        return torch.bfloat16 if self is Precision.BFLOAT16 else torch.float32


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


class TrainingStopped(KeyboardInterrupt):
    """Training was asked to stop and did between two steps: an interrupt, which nothing takes for a failure."""


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
    preview: Preview | None = None,
    preview_every: int = 1_000,
    stop: Callable[[], bool] | None = None,
) -> State:
    """Minimise `loss(step)` over the module's parameters; return its averaged weights as a state dict on the CPU.

    `loss` must be a function of the step and the weights alone: then a training resumed from a saved state continues
    as if it had never stopped, bit for bit on a CPU with as many threads. `save` gets a flat dict of tensors that
    safetensors can hold, `preview` the averaged weights. The module itself ends with the raw weights. `optimizer_of`
    gives another optimiser than AdamW, with Adam's two moments. `stop` is asked after every step: if true in any
    process, the state is saved and TrainingStopped raised. All processes of a group call this, with a log in all or in
    none; they resume where process 0 does.
    """
    run = _Run(module, recipe, optimizer_of or adamw)
    run.resume(resume)
    module.train()
    heard: list[Tensor] = []
    pace = Pace(run.step)
    while run.step < recipe.steps:
        value, norm = run.advance(loss)
        heard.append(value)
        done = run.step == recipe.steps
        if done or run.step % log_every == 0:
            if log is not None:
                log(run.step, run.report(heard, norm) | {"steps_per_second": pace.report(run.step)})
            heard = []
        if preview is not None and run.step % preview_every == 0:
            preview(run.step, run.averaged())
        stopping = in_any_process(stop is not None and stop(), run.device)
        if save is not None and not done and (stopping or run.step % save_every == 0):
            save(run.state())
        if stopping and not done:
            raise TrainingStopped(f"stopped after step {run.step} of {recipe.steps}")
    return run.averaged()


class _Run:
    """A training under way: parameters, their averages, the optimiser and the counts."""

    def __init__(self, module: nn.Module, recipe: TrainingRecipe, optimizer_of: OptimizerOf) -> None:
        self.module = module
        self.recipe = recipe
        parameters = dict(module.named_parameters())
        self.names = list(parameters)
        self.tensors: list[Tensor] = list(parameters.values())
        self.device = self.tensors[0].device
        self.ema = [parameter.detach().clone() for parameter in self.tensors]
        self.optimizer = optimizer_of(module, recipe)
        self.step = self.updates = self.skipped = self.skipped_in_a_row = 0

    def advance(self, loss: Callable[[int], Tensor]) -> tuple[Tensor, Tensor]:
        """One step: its loss and gradient norm. A step without a finite gradient changes no weight."""
        with within_memory(f"step {self.step}", self.device, remedy=SMALLER):
            value = self._gradients(loss)
            norm = torch.nn.utils.clip_grad_norm_(self.tensors, self.recipe.gradient_clip)
            if math.isfinite(norm):
                self._update()
            else:
                self._skip(value.item())
        self.optimizer.zero_grad()
        self.step += 1
        return value, norm

    def _gradients(self, loss: Callable[[int], Tensor]) -> Tensor:
        """The loss of this step, whose gradients are left with the parameters."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision is Precision.BFLOAT16):
            value = loss(self.step)
        value.backward()
        return value.detach()

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
            "loss": float(mean_of_processes(torch.stack(heard).mean())),
            "gradient_norm": float(norm),
            "learning_rate": self.recipe.rate(self.step - 1),
            "skipped_steps": float(self.skipped),
            "ema_distance": relative_distance(self.ema, self.tensors),
            **device_memory(self.device),
        }

    def state(self) -> State:
        """All that a resumed training needs, copied to the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self._live().items()}

    def resume(self, state: Mapping[str, Tensor] | None) -> None:
        """Continue from a state that `state` returned; without one, begin."""
        if state is not None:
            check_names(state, self._live(), what="this training")
        state = state_of_process_0(state, self._live(), self.device)
        if state is not None:
            self._restore(state)

    def _restore(self, state: Mapping[str, Tensor]) -> None:
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
