"""CLAP_beta, the bridge over the modality gap: audio CLAP embeddings out of text CLAP embeddings, or out of nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.batch import require_finite
from models.data_parallel import ForwardPass, averaged_over_processes, own_rows
from models.dit import modulated_norm
from models.edm import EdmObjective, per_item, precondition
from models.noise_embedding import noise_embedding
from models.sampling import HeunSampler, noise_of, run_sampler
from models.telemetry import LossByNoiseLevel
from models.training import Log, Save, State, TrainingRecipe, fit
from models.training_cost import COUNTED_ITEMS, TrainingCost, cost_of
from models.training_draws import Draws, batch_indices, step_draws
from models.weights import load_into

# Shapes: B batch, N set size, K style segments, E CLAP width, D hidden width, M conditioning width.


@dataclass(frozen=True, kw_only=True)
class BridgeRecipe:
    """All that determines a bridge, but for the data: about 32 million parameters with a 512-wide CLAP.

    Departure: the paper gives the hidden width and the eight blocks; the conditioning width, the dropout of the text
    (which makes the unconditional rows possible), the EDM objective and the batch are ours. So are 200,000 steps, where
    the paper trains "all models" for a million: a batch eight times that of the transformer sees more pairs in them.
    """

    width: int = 1024
    blocks: int = 8
    conditioning_width: int = 512
    text_dropout: float = 0.2
    objective: EdmObjective = field(default_factory=EdmObjective)
    training: TrainingRecipe = field(default_factory=lambda: TrainingRecipe(steps=200_000, batch_size=1024))


@dataclass(frozen=True, kw_only=True, eq=False)
class BridgeStatistics:
    """Mean and standard deviation (E,) of the audio and text embeddings that a bridge was trained on.

    CLAP embeddings lie in a narrow cone, so that without its mean the noise would be told mostly about the cone.
    """

    audio_mean_E: Tensor
    audio_std_E: Tensor
    text_mean_E: Tensor
    text_std_E: Tensor


class Bridge(nn.Module):
    """A diffusion MLP over standardised audio embeddings; its blocks are told the noise level and the text by AdaLN."""

    audio_mean_E: Tensor
    audio_std_E: Tensor
    text_mean_E: Tensor
    text_std_E: Tensor

    def __init__(self, recipe: BridgeRecipe, statistics: BridgeStatistics) -> None:
        super().__init__()
        self.recipe = recipe
        self.clap_width = len(statistics.audio_mean_E)
        told = recipe.conditioning_width
        for name, values_E in vars(statistics).items():
            self.register_buffer(name, values_E.float().clone())
        self.null_text = nn.Parameter(torch.randn(self.clap_width))
        self.text = nn.Linear(self.clap_width, told)
        self.enter = nn.Linear(self.clap_width, recipe.width)
        self.blocks = nn.ModuleList(DenseBlock(recipe.width, told) for _ in range(recipe.blocks))
        self.final_modulation = nn.Linear(told, 2 * recipe.width)
        self.leave = nn.Linear(recipe.width, self.clap_width)
        for layer in (self.final_modulation, self.leave):
            _zero(layer)

    def raw(self, noisy_BE: Tensor, sigma_B: Tensor, text_BE: Tensor, has_text_B: Tensor) -> Tensor:
        """The network's output F (B, E); `text_BE` holds unit vectors, never read where `has_text_B` is false."""
        scales = self.recipe.objective.scales(sigma_B)
        text_BE = torch.where(has_text_B[:, None], (text_BE - self.text_mean_E) / self.text_std_E, self.null_text)
        told_BM = functional.silu(noise_embedding(scales.noise, self.recipe.conditioning_width) + self.text(text_BE))
        hidden_BD = self.enter(per_item(scales.input, noisy_BE) * noisy_BE)
        for block in self.blocks:
            hidden_BD = block(hidden_BD, told_BM)
        shift, scale = self.final_modulation(told_BM).chunk(2, dim=1)
        return self.leave(modulated_norm(hidden_BD, shift, scale)).float()

    @torch.no_grad()
    def sample(
        self,
        text_BE: Tensor | None,
        generators: Sequence[torch.Generator],
        *,
        sampler: HeunSampler | None = None,
        text_guidance: float = 1.0,
    ) -> Tensor:
        """Audio embeddings (B, E), unit vectors, one per generator; without text, of nothing in particular (CLAP_A*).

        `sampler` None is the house's 30 Heun steps.
        """
        if text_BE is not None and len(text_BE) != len(generators):
            raise ValueError(f"{len(text_BE)} texts need as many generators, got {len(generators)}")
        like_BE = self.audio_mean_E.expand(len(generators), -1)
        sampler = sampler or HeunSampler()
        noise = noise_of(like_BE, generators)
        denoise = self._guided(like_BE if text_BE is None else text_BE, text_BE is not None, text_guidance)
        standard_BE = run_sampler(sampler, denoise, sampler.levels[0] * noise(), sampler.levels, noise=noise)
        return functional.normalize(self.restore(standard_BE), dim=1)

    def standardise(self, audio_BE: Tensor) -> Tensor:
        """Audio embeddings to mean 0 and standard deviation sigma_data per dimension."""
        return (audio_BE - self.audio_mean_E) / self.audio_std_E * self.recipe.objective.sigma_data

    def restore(self, standard_BE: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return standard_BE / self.recipe.objective.sigma_data * self.audio_std_E + self.audio_mean_E

    def _guided(self, text_BE: Tensor, given: bool, scale: float) -> Callable[[Tensor, Tensor], Tensor]:
        def told(has_text: bool) -> Callable[[Tensor, Tensor], Tensor]:
            mask_B = torch.full((len(text_BE),), has_text, device=text_BE.device)
            raw = partial(self.raw, text_BE=text_BE, has_text_B=mask_B)
            return precondition(raw, self.recipe.objective.scales)

        if not given or scale == 1:
            return told(given)
        with_text, without = told(True), told(False)
        return lambda noisy, sigma_B: torch.lerp(without(noisy, sigma_B), with_text(noisy, sigma_B), scale)


class DenseBlock(nn.Module):
    """h + gate * W2 SiLU(W1 AdaLN(h)); the identity before training."""

    def __init__(self, width: int, told: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(told, 3 * width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        _zero(self.modulation)

    def forward(self, hidden_BD: Tensor, told_BM: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(told_BM).chunk(3, dim=1)
        inner = functional.silu(self.first(modulated_norm(hidden_BD, shift, scale)))
        return torch.addcmul(hidden_BD, gate, self.second(inner))


def bridge_statistics(text_NE: Tensor, audio_NKE: Tensor) -> BridgeStatistics:
    """The statistics of a training set of texts (N, E) and K audio segments of each (N, K, E)."""
    require_finite(np.arange(len(text_NE)), texts=text_NE, embeddings=audio_NKE)
    audio_ME = audio_NKE.flatten(0, 1)
    return BridgeStatistics(
        audio_mean_E=audio_ME.mean(0),
        audio_std_E=_spread(audio_ME),
        text_mean_E=text_NE.mean(0),
        text_std_E=_spread(text_NE),
    )


def train_bridge(
    recipe: BridgeRecipe,
    text_NE: Tensor,
    audio_NKE: Tensor,
    *,
    resume: Mapping[str, Tensor] | None = None,
    save: Save | None = None,
    save_every: int = 1_000,
    log: Log | None = None,
    log_every: int = 50,
    stop: Callable[[], bool] | None = None,
    device: str | torch.device = "cpu",
) -> State:
    """The averaged weights of a bridge, its statistics among them; `load_bridge` makes a bridge of them.

    Row i of both arrays is one stem: the embedding of its tags, and of K of its segments, one of which is drawn.
    """
    _check_sets(text_NE, audio_NKE)
    text_NE, audio_NKE = text_NE.float(), audio_NKE.float()
    where, training, objective = torch.device(device), recipe.training, recipe.objective
    bridge = build_bridge(recipe, bridge_statistics(text_NE, audio_NKE), seed=training.seed).to(where)
    by_level = LossByNoiseLevel(where)

    def own_losses(text_BE: Tensor, audio_BE: Tensor, draws: Draws, progress: float) -> Tensor:
        raw = partial(bridge.raw, text_BE=text_BE, has_text_B=draws.chance_KB[0] >= recipe.text_dropout)
        return objective.losses(raw, bridge.standardise(audio_BE), draws.t_B, draws.noise, progress=progress)

    shared_losses = averaged_over_processes(ForwardPass(bridge, own_losses))
    rows = own_rows(training.batch_size)

    def loss(step: int) -> Tensor:
        stems = batch_indices(training.seed, step, training.batch_size, len(text_NE))
        segments = np.random.default_rng([training.seed, step, 1]).integers(audio_NKE.shape[1], size=len(stems))
        stem_B, segment_B = torch.from_numpy(stems[rows]), torch.from_numpy(segments[rows])
        draws = step_draws(objective, text_NE.shape[1:], training, step, where, conditions=1).of(rows)
        text_BE, audio_BE = text_NE[stem_B].to(where), audio_NKE[stem_B, segment_B].to(where)
        losses: Tensor = shared_losses(text_BE, audio_BE, draws, step / training.steps)
        by_level.hear(losses, objective.sigma(draws.t_B))
        return losses.mean()

    def told(step: int, values: dict[str, float]) -> None:
        assert log is not None  # else nobody is told
        pace = training.batch_size * values["steps_per_second"]
        log(step, values | by_level.report() | {"samples_per_second": pace})

    return fit(
        bridge,
        loss,
        training,
        resume=resume,
        save=save,
        save_every=save_every,
        log=told if log else None,
        log_every=log_every,
        stop=stop,
    )


def bridge_cost(recipe: BridgeRecipe, *, clap_width: int) -> TrainingCost:
    """The cost of a bridge's training, counted on the meta device, where nothing is computed."""
    with torch.device("meta"):
        vector_E, clean_BE = torch.empty(clap_width), torch.empty(COUNTED_ITEMS, clap_width)
        bridge = Bridge(recipe, _unset_statistics(vector_E))
        has_text_B, t_B = torch.ones(COUNTED_ITEMS, dtype=torch.bool), torch.empty(COUNTED_ITEMS)
    raw = partial(bridge.raw, text_BE=clean_BE, has_text_B=has_text_B)
    return cost_of(
        bridge, lambda: recipe.objective.losses(raw, clean_BE, t_B, clean_BE, progress=0.0), recipe.training.batch_size
    )


def build_bridge(recipe: BridgeRecipe, statistics: BridgeStatistics, *, seed: int) -> Bridge:
    """An untrained bridge whose weights are a function of `seed` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Bridge(recipe, statistics)


def load_bridge(
    recipe: BridgeRecipe, *, clap_width: int, weights: Mapping[str, Tensor], device: str | torch.device = "cpu"
) -> Bridge:
    """A trained bridge with its statistics. Raises WeightsError naming the tensors that do not fit."""
    bridge = build_bridge(recipe, _unset_statistics(torch.zeros(clap_width)), seed=0)
    load_into(bridge, weights, what=f"a bridge of {recipe}")
    return bridge.to(device).eval().requires_grad_(False)


def _unset_statistics(unset_E: Tensor) -> BridgeStatistics:
    return BridgeStatistics(audio_mean_E=unset_E, audio_std_E=unset_E, text_mean_E=unset_E, text_std_E=unset_E)


def _check_sets(text_NE: Tensor, audio_NKE: Tensor) -> None:
    if text_NE.ndim != 2 or audio_NKE.ndim != 3 or 0 in audio_NKE.shape:
        raise ValueError(
            f"a bridge needs texts (N, E) and audio (N, K, E), got {tuple(text_NE.shape)} and {tuple(audio_NKE.shape)}"
        )
    if (audio_NKE.shape[0], audio_NKE.shape[2]) != text_NE.shape:
        raise ValueError(f"texts {tuple(text_NE.shape)} and audio {tuple(audio_NKE.shape)} are not of the same stems")


def _spread(vectors_ND: Tensor) -> Tensor:
    """Standard deviation per dimension, kept above a thousandth of the mean one: a constant dimension has none."""
    std = vectors_ND.std(0, correction=0)
    return std.clamp(min=1e-6).maximum(1e-3 * std.mean())


def _zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
