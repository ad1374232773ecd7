"""How fast the arms train and sample on a CPU, each as a ratio to a plain yardstick of the same run.

    python benchmarks/denoiser_speed.py [--width 256] [--layers 6] [--heads 4] [--batch 4] [--rounds 7] [--threads 1]

float32, 120 latent frames of 64. The two sides of a ratio take turns, in seconds of this process' CPU; a ratio is the
median over the rounds. The exit status is 1 when a ratio is above its bound.

- DiT over encoder: forward and backward of the DiT over those of a stack of torch.nn.TransformerEncoderLayer of the
  same width, depth, heads and MLP (no modulation, no depth-wise convolutions, no rotary positions, no latents).
- two evaluations over one: guidance at equal scales over a single conditional evaluation.
- five steps over thirty: the five-step consistency sampler over 30 guided Heun steps.
- step over its parts: a step of the training loop (data, conditions, EMA, log) over forward, backward, optimiser.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from models.batch import LatentSet, StyleSource
from models.conditioning import Conditions
from models.consistency import ConsistencyObjective
from models.denoiser import Denoiser, build_denoiser
from models.denoiser_training import train_denoiser, training_batch
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.guidance import Guidance, guided
from models.sampling import ConsistencySampler, HeunSampler, Sampler, sample_latents
from models.training import TrainingRecipe, adamw

CHANNELS, FRAMES, CLAP_WIDTH = 64, 120, 512
NO_GUIDANCE = Guidance(context=1.0, clap=1.0)
STEPS = 8  # of the training loop, per round


class Contest(NamedTuple):
    """Two actions whose ratio of seconds, ours over the yardstick's, has a bound."""

    name: str
    bound: float
    ours: Callable[[], object]
    yardstick: Callable[[], object]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = (("width", 256), ("layers", 6), ("heads", 4), ("batch", 4), ("rounds", 7), ("threads", 1))
    for name, default in sizes:
        asked.add_argument(f"--{name}", type=int, default=default)
    told = asked.parse_args()
    torch.set_num_threads(told.threads)
    recipe = DiTRecipe(width=told.width, layers=told.layers, heads=told.heads, noise_width=min(512, told.width))
    print(f"torch {torch.__version__}, {told.threads} thread(s), batch {told.batch}, {recipe}")
    print(f"{'':28} {'ours':>11} {'yardstick':>11} {'ratio':>7} {'bound':>6}")
    verdicts = [judge(contest, told.rounds) for contest in contests(recipe, told.batch)]
    sys.exit(not all(verdicts))


def judge(contest: Contest, rounds: int) -> bool:
    """Prints the medians of both sides and of their ratio; whether the ratio keeps its bound."""
    contest.ours(), contest.yardstick()
    taken = [(seconds(contest.ours), seconds(contest.yardstick)) for _ in range(rounds)]
    ours_ms, yardstick_ms = (1e3 * median(side) for side in zip(*taken, strict=True))
    ratio = median(ours / yardstick for ours, yardstick in taken)
    print(
        f"{contest.name:28} {ours_ms:8.1f} ms {yardstick_ms:8.1f} ms {ratio:7.3f} {contest.bound:6.2f}"
        f"{'' if ratio <= contest.bound else '  ABOVE'}",
        flush=True,
    )
    return ratio <= contest.bound


def seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def contests(recipe: DiTRecipe, batch: int) -> list[Contest]:
    denoiser = build_denoiser(recipe, EdmObjective(), clap_width=CLAP_WIDTH, seed=0)
    consistent = build_denoiser(recipe, ConsistencyObjective(), clap_width=CLAP_WIDTH, seed=0)
    stack = encoder_stack(recipe)
    hidden_BND = torch.randn(batch, FRAMES, recipe.width)
    noisy_BCT, sigma_B = torch.randn(batch, CHANNELS, FRAMES), torch.full((batch,), 0.7)
    both = conditions(batch)
    evaluate = torch.no_grad()(guided(denoiser, both, Guidance(context=1.25, clap=1.25)))
    plain = torch.no_grad()(guided(denoiser, both, NO_GUIDANCE))
    data, training = latents(batch), TrainingRecipe(steps=STEPS, batch_size=batch)
    return [
        Contest(
            "DiT over encoder",
            1.25,
            lambda: step(denoiser.network, denoiser.network(torch.cat([noisy_BCT] * 2, 1), sigma_B, both.clap_BE)),
            lambda: step(stack, stack(hidden_BND)),
        ),
        Contest(
            "two evaluations over one",
            2.05,
            lambda: evaluate(noisy_BCT, sigma_B),
            lambda: plain(noisy_BCT, sigma_B),
        ),
        Contest(
            "five steps over thirty",
            1 / 20,
            partial(sampled, consistent, both, ConsistencySampler(), NO_GUIDANCE),
            partial(sampled, denoiser, both, HeunSampler(), Guidance(context=1.25, clap=1.25)),
        ),
        Contest("step over its parts", 1.15, partial(loop, recipe, training, data), bare_loop(recipe, training, data)),
    ]


def encoder_stack(recipe: DiTRecipe) -> nn.Module:
    """The yardstick: torch's own encoder layers, norms first as in a DiT."""
    layer = nn.TransformerEncoderLayer(
        recipe.width,
        recipe.heads,
        recipe.mlp_ratio * recipe.width,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
    return nn.TransformerEncoder(layer, recipe.layers, enable_nested_tensor=False)


def step(module: nn.Module, out: Tensor) -> None:
    out.square().mean().backward()
    module.zero_grad()


def sampled(denoiser: Denoiser, both: Conditions, sampler: Sampler, guidance: Guidance) -> Tensor:
    generators = [torch.Generator().manual_seed(number) for number in range(len(both.clap_BE))]
    return sample_latents(denoiser, both, sampler=sampler, guidance=guidance, generators=generators)


def loop(recipe: DiTRecipe, training: TrainingRecipe, data: LatentSet) -> object:
    return train_denoiser(
        recipe,
        EdmObjective(),
        training,
        data,
        style=StyleSource.OTHER_SEGMENT,
        log=lambda step, values: None,
        log_every=1,
    )


def bare_loop(recipe: DiTRecipe, training: TrainingRecipe, data: LatentSet) -> Callable[[], None]:
    """The parts of the same steps: the network built, forward and backward of the loss, and the optimiser."""
    batch = training_batch(data, StyleSource.OTHER_SEGMENT, training, 0)

    def run() -> None:
        denoiser = build_denoiser(recipe, EdmObjective(), clap_width=CLAP_WIDTH, seed=0)
        optimizer, generator = adamw(denoiser, training), torch.Generator().manual_seed(0)
        raw = partial(denoiser.raw, conditions=batch.conditions)
        for _ in range(training.steps):
            t_B = denoiser.objective.draw_t(len(batch.target_BCT), generator)
            noise_BCT = torch.randn(batch.target_BCT.shape, generator=generator)
            denoiser.objective.losses(raw, batch.target_BCT, t_B, noise_BCT, progress=0.0).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def conditions(batch: int) -> Conditions:
    clap_BE = torch.randn(batch, CLAP_WIDTH)
    given = torch.ones(batch, dtype=torch.bool)
    return Conditions(torch.randn(batch, CHANNELS, FRAMES), clap_BE / clap_BE.norm(dim=1, keepdim=True), given, given)


def latents(batch: int) -> LatentSet:
    random, windows = np.random.default_rng(0), 4 * batch
    latent_NCT = random.standard_normal((2, windows, CHANNELS, FRAMES)).astype(np.float32)
    clap_NKE = random.standard_normal((windows, 2, CLAP_WIDTH)).astype(np.float32)
    return LatentSet(
        target_NCT=latent_NCT[0],
        context_NCT=latent_NCT[1],
        clap_audio_NKE=clap_NKE,
        clap_leak_NE=clap_NKE[:, 0],
        mean_C=np.zeros(CHANNELS, np.float32),
        std_C=np.ones(CHANNELS, np.float32),
    )


if __name__ == "__main__":
    main()
