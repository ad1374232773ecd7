"""What an accompanist is asked for, and what it gives: its controls, what it heard, and its takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from models.consistency import FIVE_LEVELS
from models.edm import karras_levels
from models.guidance import Guidance
from models.sampling import ConsistencySampler, Sampler

# Shapes: B variations, C latent width, L latent frames, E CLAP width, S audio channels, N samples,
# V variants of a candidate that become its channels.


Told = Callable[[float], None]
"""Is called with the share of a work that is done, up to 1."""


def untold(share: float) -> None:
    """Nobody asks how far it is."""


@dataclass(frozen=True, kw_only=True)
class Controls:
    """How an arm is sampled; `Accompanist.controls` are those of the arm.

    `stereo_width` is for mono arms (Diff-A-Riff's s_Stereo), and None for the others, which play stereo by themselves.
    """

    sampler: Sampler
    guidance: Guidance
    stereo_width: float | None

    def with_steps(self, steps: int) -> Controls:
        """The same with another number of sampling steps; those of a consistency model follow the paper's rule."""
        if steps < 1:
            raise ValueError(f"a part is made in at least one step, got {steps}")
        if not isinstance(self.sampler, ConsistencySampler):
            return replace(self, sampler=replace(self.sampler, steps=steps))
        grid = karras_levels(steps + 1, sigma_min=self.sampler.sigma_min, sigma_max=FIVE_LEVELS[0], rho=7.0)
        return replace(self, sampler=replace(self.sampler, levels=FIVE_LEVELS if steps == 5 else grid[:steps]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Wish:
    """How many variations, in what style, and how they are sampled.

    `style_BE` is one CLAP embedding, or one a variation; None is any style.
    """

    controls: Controls
    style_BE: Tensor | None = None
    variations: int = 1
    seed: int = 0
    told: Told = untold

    def __post_init__(self) -> None:
        if self.variations < 1:
            raise ValueError(f"{self.variations} variations were asked for; at least one can be played")
        if self.style_BE is not None and len(self.style_BE) not in (1, self.variations):
            raise ValueError(
                f"{len(self.style_BE)} styles for {self.variations} variations; give one for all, or one for each"
            )


class Heard(NamedTuple):
    """A context once it was encoded: its standardised latents (1, C, L), and its length; or only a length."""

    latent_1CL: Tensor
    samples: int
    given: bool


class Take(NamedTuple):
    """Variations as raw latents (B, V, C, L); `Accompanist.stem` makes audio of one of them.

    `samples` are decoded and then `finished`. `changed_s` is from where to where a given stem was made anew, None
    where all is new.
    """

    latent_BVCL: Tensor
    samples: int
    seed: int
    finished: Callable[[Tensor], Tensor]
    changed_s: tuple[float, float] | None
