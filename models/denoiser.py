"""The denoiser: a network with its conditions, its learned nulls and its preconditioning."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from models.codec import LATENT_WIDTH
from models.conditioning import Conditions
from models.consistency import ConsistencyObjective
from models.dit import DiT, DiTRecipe
from models.edm import EdmObjective, per_item, precondition
from models.unet import UNet, UNetRecipe

# Shapes: B batch, C latent width, T latent frames, E CLAP width.

NetworkRecipe = UNetRecipe | DiTRecipe
Objective = EdmObjective | ConsistencyObjective


class Denoiser(nn.Module):
    """D(x; sigma, context, clap) over standardised latents (standard deviation sigma_data), in its weights' precision.

    The clean context is concatenated with the noisy latent on the channel axis at unit variance: it carries no noise,
    so the noise level must not scale it. A withheld context or CLAP embedding is replaced by a learned null; zeros
    would not do, since zero is a legal latent after standardisation. The nulls are counted apart from the network.

    Departure: concatenation is read off Diff-A-Riff's companion page; unit variance and learned nulls are ours.
    """

    def __init__(
        self, recipe: NetworkRecipe, objective: Objective, *, clap_width: int, latent_width: int = LATENT_WIDTH
    ) -> None:
        super().__init__()
        self.objective = objective
        self.clap_width = clap_width
        self.latent_width = latent_width
        widths = {"in_channels": 2 * latent_width, "out_channels": latent_width, "clap_width": clap_width}
        match recipe:
            case DiTRecipe():
                self.network: DiT | UNet = DiT(recipe, **widths)
            case UNetRecipe():
                self.network = UNet(recipe, **widths)
        self.null_context = nn.Parameter(torch.randn(latent_width))
        self.null_clap = nn.Parameter(torch.randn(clap_width))

    def forward(self, noisy_BCT: Tensor, sigma_B: Tensor, conditions: Conditions) -> Tensor:
        """The clean latent (B, C, T) expected behind `noisy_BCT`; for a consistency objective, the map's value."""
        return precondition(partial(self.raw, conditions=conditions), self.objective.scales)(noisy_BCT, sigma_B)

    def raw(self, noisy_BCT: Tensor, sigma_B: Tensor, conditions: Conditions) -> Tensor:
        """The network's own output F, before it is scaled: what the EDM loss compares."""
        self._require_sizes(noisy_BCT, conditions)
        scales = self.objective.scales(sigma_B)
        features = torch.cat([per_item(scales.input, noisy_BCT) * noisy_BCT, self._context(conditions)], dim=1)
        return self.network(features, scales.noise, self._clap(conditions)).to(self.null_context.dtype)

    def _require_sizes(self, noisy_BCT: Tensor, conditions: Conditions) -> None:
        """Raise ValueError for latents or embeddings of other sizes than this denoiser was built for."""
        channels, frames = noisy_BCT.shape[1:]
        context, width = tuple(conditions.context_BCT.shape[1:]), conditions.clap_BE.shape[1]
        if (channels, context, width) != (self.latent_width, (self.latent_width, frames), self.clap_width):
            raise ValueError(
                f"a denoiser of {self.latent_width} channels and embeddings of {self.clap_width} was given latents of "
                f"{channels} channels and {frames} frames with a context of {context[0]} and {context[1]} and "
                f"embeddings of {width}; use the codec and the CLAP that it was trained with"
            )

    def _context(self, conditions: Conditions) -> Tensor:
        """The context (B, C, T) at unit variance, or the null broadcast over time."""
        given = conditions.context_BCT.to(self.null_context.dtype) / self.objective.sigma_data
        return torch.where(conditions.has_context_B[:, None, None], given, self.null_context[None, :, None])

    def _clap(self, conditions: Conditions) -> Tensor:
        """The CLAP embedding (B, E) at unit variance (unit vectors have 1 / E), or the null."""
        given = conditions.clap_BE.to(self.null_clap.dtype) * self.clap_width**0.5
        return torch.where(conditions.has_clap_B[:, None], given, self.null_clap[None])


def build_denoiser(
    recipe: NetworkRecipe, objective: Objective, *, clap_width: int, seed: int, latent_width: int = LATENT_WIDTH
) -> Denoiser:
    """An untrained denoiser whose weights are a function of `seed` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Denoiser(recipe, objective, clap_width=clap_width, latent_width=latent_width)
