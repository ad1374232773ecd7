"""What a training costs before it is begun: parameters, operations of a step, memory; and what a device can give."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.conditioning import Conditions
from models.denoiser import Denoiser, NetworkRecipe, Objective

# Shapes: B batch, C latent width, T latent frames, E CLAP width.

COUNTED_ITEMS = 2  # operations are counted for so many items and grow in proportion to the batch
FLOAT32_BYTES = 4
COPIES = 5  # weights, gradients, Adam's two moments, the moving average

BF16_PEAK_FLOP_PER_S = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 matrix products by device name, from NVIDIA's data sheets; the first name that fits counts."""
PRODUCT_WIDTH = 8192  # wide enough for a matrix product to reach the device's rate
PRODUCTS = 20


class TrainingCost(NamedTuple):
    """The size of a training; `state_bytes` is what stays in memory, activations are not in it."""

    parameters: int
    flop_per_step: float
    state_bytes: int


def denoiser_cost(
    network: NetworkRecipe, objective: Objective, *, batch_size: int, clap_width: int, latent_width: int, frames: int
) -> TrainingCost:
    """The cost of a denoiser's training, counted on the meta device, where nothing is computed."""
    with torch.device("meta"):
        denoiser = Denoiser(network, objective, clap_width=clap_width, latent_width=latent_width)
        clean_BCT = torch.empty(COUNTED_ITEMS, latent_width, frames)
        given_B = torch.ones(COUNTED_ITEMS, dtype=torch.bool)
        conditions = Conditions(clean_BCT, torch.empty(COUNTED_ITEMS, clap_width), given_B, given_B)
        t_B = torch.empty(COUNTED_ITEMS)
    raw = partial(denoiser.raw, conditions=conditions)
    return cost_of(denoiser, lambda: objective.losses(raw, clean_BCT, t_B, clean_BCT, progress=0.0), batch_size)


def cost_of(module: nn.Module, losses: Callable[[], Tensor], batch_size: int) -> TrainingCost:
    """The cost of a module on the meta device whose `losses` are those of `COUNTED_ITEMS` items.

    Operations are those of matrix products and convolutions, forward and backward, a multiply-add counted as two.
    """
    with FlopCounterMode(display=False) as counter:
        losses().mean().backward()
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return TrainingCost(
        parameters=parameters,
        flop_per_step=counter.get_total_flops() / COUNTED_ITEMS * batch_size,
        state_bytes=COPIES * FLOAT32_BYTES * parameters,
    )


def peak_flop_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """The device's rate of matrix products: from the table in bfloat16, else a square one measured on the spot."""
    if device.type == "cuda" and dtype is torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        for known, rate in BF16_PEAK_FLOP_PER_S.items():
            if known in name:
                return rate
    return measured_flop_per_s(device, dtype)


def measured_flop_per_s(device: torch.device, dtype: torch.dtype, width: int = PRODUCT_WIDTH) -> float:
    """The rate of a product of two square matrices, after one to warm up."""
    first, second = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    first @ second
    finish(device)
    started_s = time.perf_counter()
    for _ in range(PRODUCTS):
        first @ second
    finish(device)
    return PRODUCTS * 2 * width**3 / (time.perf_counter() - started_s)


def finish(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
