"""Classifier-free guidance with two conditions: fewer evaluations where the algebra allows, all in one forward."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

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

    Departure: Diff-A-Riff's companion page gives 1.25 for both and not the formula; at equal scales the nested one
    needs two evaluations, D0 + w (Dca - D0).
    """

    context: float = 1.25
    clap: float = 1.25
    kind: GuidanceKind = GuidanceKind.NESTED


class Term(NamedTuple):
    """One evaluation of a guided denoiser: which conditions it keeps, and its coefficient."""

    keeps_context: bool
    keeps_clap: bool
    coefficient: float


def terms(guidance: Guidance, *, has_context: bool, has_clap: bool) -> tuple[Term, ...]:
    """The evaluations that remain once equal ones are merged and those of coefficient 0 are dropped.

    Withholding a condition that was never given changes nothing, so such evaluations are equal.
    """
    context, clap = guidance.context, guidance.clap
    match guidance.kind:
        case GuidanceKind.NESTED:
            sums = ((False, False, 1 - context), (True, False, context - clap), (True, True, clap))
        case GuidanceKind.INDEPENDENT:
            sums = ((False, False, 1 - context - clap), (True, False, context), (False, True, clap))
    merged: dict[tuple[bool, bool], float] = {}
    for keeps_context, keeps_clap, coefficient in sums:
        kept = (keeps_context and has_context, keeps_clap and has_clap)
        merged[kept] = merged.get(kept, 0.0) + coefficient
    return tuple(Term(*kept, coefficient) for kept, coefficient in merged.items() if abs(coefficient) > ROUNDING)


def guided(denoiser: Denoiser, conditions: Conditions, guidance: Guidance) -> Denoise:
    """The guided denoiser of one batch, its evaluations batched into one forward pass.

    A row of the batch that lacks a condition is guided as if the whole batch lacked it.
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
        return (values * per_item(values.new_tensor([term.coefficient for term in wanted]), values)).sum(0)

    return denoise
