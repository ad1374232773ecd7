"""Classifier-free guidance with two conditions: fewer evaluations where the algebra allows, all in one forward."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from models.conditioning import Conditions
from models.denoiser import Denoiser
from models.edm import Denoise, per_item

# Shapes: B batch.

ROUNDING = 1e-9  # what is left of a coefficient whose parts cancel


class GuidanceKind(Enum):
    """How the two conditions are pushed apart from their absence."""

    NESTED = "nested"
    """D0 + w_ctx (Dc - D0) + w_clap (Dca - Dc): at scales of 1 it is the conditional model itself."""
    INDEPENDENT = "independent"
    """D0 + w_ctx (Dc - D0) + w_clap (Da - D0): each condition alone, never both at once."""


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """The scales of guidance; 1 is none.

    `interval` (low, high) guides the noise levels low < sigma <= high alone, the rest costs one evaluation
    (Kynkäänniemi et al. 2024); None guides them all. `rescale` pulls the standard deviation of the guided prediction
    towards the conditional one's, from 0, not at all, to 1, all the way (Lin et al. 2023, who take 0.7).

    Departure: Diff-A-Riff's companion page gives 1.25 for both and not the formula; at equal scales the nested one
    needs two evaluations, D0 + w (Dca - D0).
    """

    context: float = 1.25
    clap: float = 1.25
    kind: GuidanceKind = GuidanceKind.NESTED
    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(
                f"a guidance interval holds two noise levels, 0 <= low < high, got {self.interval}; None is all"
            )
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"the rescaling of guidance lies between 0 and 1, got {self.rescale}")


class Term(NamedTuple):
    """One evaluation of a guided denoiser: which conditions it keeps, and its coefficient."""

    keeps_context: bool
    keeps_clap: bool
    coefficient: float


def terms(guidance: Guidance, *, has_context: bool, has_clap: bool) -> tuple[Term, ...]:
    """The evaluations that remain once equal ones are merged and those of coefficient 0 are dropped.

    Withholding a condition that was never given changes nothing, so such evaluations are equal. With `rescale` the
    evaluation that withholds nothing stays whatever its coefficient; where it is, it is the last.
    """
    context, clap = guidance.context, guidance.clap
    sums: tuple[tuple[bool, bool, float], ...]
    match guidance.kind:
        case GuidanceKind.NESTED:
            sums = ((False, False, 1 - context), (True, False, context - clap), (True, True, clap))
        case GuidanceKind.INDEPENDENT:
            sums = ((False, False, 1 - context - clap), (True, False, context), (False, True, clap), (True, True, 0.0))
    merged: dict[tuple[bool, bool], float] = {}
    for keeps_context, keeps_clap, coefficient in sums:
        kept = (keeps_context and has_context, keeps_clap and has_clap)
        merged[kept] = merged.get(kept, 0.0) + coefficient
    compared = (has_context, has_clap) if guidance.rescale > 0 else None
    return tuple(
        Term(*kept, coefficient)
        for kept, coefficient in merged.items()
        if abs(coefficient) > ROUNDING or kept == compared
    )


def guided(denoiser: Denoiser, conditions: Conditions, guidance: Guidance) -> Denoise:
    """The guided denoiser of one batch, its evaluations batched into one forward pass.

    Outside the interval of guidance it is the conditional denoiser, whatever the kind. A row of the batch that lacks a
    condition is guided as if the whole batch lacked it.
    """
    wanted = terms(
        guidance,
        has_context=bool(conditions.has_context_B.any()),
        has_clap=bool(conditions.has_clap_B.any()),
    )
    first, *others = [conditions.without(context=not term.keeps_context, clap=not term.keeps_clap) for term in wanted]
    stacked, count = first.stacked(*others), len(wanted)

    def denoise(noisy: Tensor, sigma_B: Tensor) -> Tensor:
        values = denoiser(noisy.repeat(count, 1, 1), sigma_B.repeat(count), stacked).unflatten(0, (count, -1))
        summed = (values * per_item(values.new_tensor([term.coefficient for term in wanted]), values)).sum(0)
        return rescaled(summed, values[-1], guidance.rescale) if guidance.rescale > 0 else summed

    if guidance.interval is None:
        return denoise
    return _within(guidance.interval, denoise, partial(denoiser, conditions=conditions))


def rescaled(guided_value: Tensor, conditional: Tensor, factor: float) -> Tensor:
    """The guided prediction (B, ...) times one number per item: its deviation moved by `factor` to the conditional's.

    Lin et al. 2023, section 3.4. Departure: their networks predict a velocity, and we rescale the clean latent.
    """
    ratio_B = conditional.flatten(1).std(1) / guided_value.flatten(1).std(1)
    return guided_value * per_item(torch.lerp(torch.ones_like(ratio_B), ratio_B, factor), guided_value)


def _within(interval: tuple[float, float], inside: Denoise, outside: Denoise) -> Denoise:
    """One denoiser for the levels low < sigma <= high and another for the rest; only the needed one is evaluated."""
    low, high = interval

    def denoise(noisy: Tensor, sigma_B: Tensor) -> Tensor:
        inside_B = (low < sigma_B) & (sigma_B <= high)
        if inside_B.all():
            return inside(noisy, sigma_B)
        if not inside_B.any():
            return outside(noisy, sigma_B)
        return torch.where(per_item(inside_B, noisy), inside(noisy, sigma_B), outside(noisy, sigma_B))

    return denoise
