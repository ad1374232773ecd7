"""What is drawn for a step of a training: its rows, its noise; functions of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.denoiser import Objective
from models.training import TrainingRecipe

# Shapes: B batch, K conditions.


def batch_indices(seed: int, step: int, batch_size: int, windows: int) -> NDArray[np.int64]:
    """The rows (B,) of one step: every epoch is a permutation of its own, and batches run across their borders."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // windows
    parts = [(int(epoch), positions[epochs == epoch] % windows) for epoch in np.unique(epochs)]
    return np.concatenate([_epoch(seed, epoch, windows)[places] for epoch, places in parts])


class Draws(NamedTuple):
    """What is drawn for items of a step: a chance per condition (K, B), the place on the noise scale, the noise."""

    chance_KB: Tensor
    t_B: Tensor
    noise: Tensor

    def of(self, rows: slice) -> Draws:
        """Those of some rows."""
        return Draws(self.chance_KB[:, rows], self.t_B[rows], self.noise[rows])


def step_draws(
    objective: Objective,
    shape: Sequence[int],
    training: TrainingRecipe,
    step: int,
    device: torch.device,
    *,
    conditions: int,
) -> Draws:
    """The draws of the whole batch of a step, in every process; `shape` is that of one item."""
    generator = step_generator(training.seed, step, device)
    chance_KB = torch.rand(conditions, training.batch_size, generator=generator, device=device)
    t_B = objective.draw_t(training.batch_size, generator)
    return Draws(chance_KB, t_B, torch.randn(training.batch_size, *shape, generator=generator, device=device))


def step_generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The randomness of one step, on the device that uses it: noise is a function of seed, step and kind of device."""
    word = np.random.SeedSequence([seed, step, 2]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(word >> np.uint64(1)))


@lru_cache(maxsize=2)
def _epoch(seed: int, epoch: int, windows: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, 0]).permutation(windows)
