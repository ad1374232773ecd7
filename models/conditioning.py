"""What a model is told: one row of Table 1, and the conditions of one batch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

# Shapes: B batch, C latent width, T latent frames, E CLAP width.


class ClapSource(Enum):
    """Where the CLAP condition of a candidate comes from."""

    AUDIO = "CLAP_A"
    """The audio embedding of a random segment of the target stem."""
    TEXT = "CLAP_T"
    """The text embedding of the stem's tags (through the bridge, in the arm that has one)."""
    BRIDGE = "CLAP_A*"
    """An unconditional sample of the bridge: an audio embedding of nothing in particular."""


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Which conditions are given: one row of Table 1."""

    clap: ClapSource | None
    context: bool

    @property
    def label(self) -> str:
        """The row's name as the paper prints it: `CLAP_A,ctx`, `ctx`, `CLAP_T`, `uncond`."""
        parts = [self.clap.value] if self.clap else []
        return ",".join(parts + ["ctx"] * self.context) or "uncond"

    def conditions(self, context_BCT: Tensor, clap_BE: Tensor) -> Conditions:
        """The conditions of a batch under this row; what the row withholds gives only its shape.

        `context_BCT` is standardised as in training (`LatentStatistics`), `clap_BE` holds unit vectors.
        """
        return Conditions(
            context_BCT,
            clap_BE,
            torch.full((len(context_BCT),), self.context, device=context_BCT.device),
            torch.full((len(clap_BE),), self.clap is not None, device=clap_BE.device),
        )


@dataclass(frozen=True)
class Conditions:
    """The conditions of a batch. Absent items are masked and their values never read."""

    context_BCT: Tensor
    clap_BE: Tensor
    has_context_B: Tensor
    has_clap_B: Tensor

    def without(self, *, context: bool = False, clap: bool = False) -> Conditions:
        """The same batch with the context, the CLAP embedding or both withheld."""
        return Conditions(
            self.context_BCT,
            self.clap_BE,
            torch.zeros_like(self.has_context_B) if context else self.has_context_B,
            torch.zeros_like(self.has_clap_B) if clap else self.has_clap_B,
        )

    def stacked(self, *others: Conditions) -> Conditions:
        """This batch and the others one after the other, for evaluations that share one forward pass."""
        parts = (self, *others)
        return Conditions(
            torch.cat([part.context_BCT for part in parts]),
            torch.cat([part.clap_BE for part in parts]),
            torch.cat([part.has_context_B for part in parts]),
            torch.cat([part.has_clap_B for part in parts]),
        )

    def to(self, device: torch.device) -> Conditions:
        """The same conditions on another device."""
        return Conditions(
            self.context_BCT.to(device),
            self.clap_BE.to(device),
            self.has_context_B.to(device),
            self.has_clap_B.to(device),
        )
