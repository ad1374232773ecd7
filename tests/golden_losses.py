"""Twenty losses of the tiny training of every arm's denoiser and of the bridge; run as a program, it renews the file.

python tests/golden_losses.py

Renew it only for a change that is meant to change training, and say in the commit which.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from flows.scales import study_at
from models.arms import Arm, DenoiserRecipe
from models.batch import LatentSet
from models.bridge import BridgeRecipe, train_bridge
from models.denoiser_training import train_denoiser
from models.training import Log, State, TrainingRecipe

GOLDEN = Path(__file__).with_suffix(".json")
STEPS = 20
WINDOWS, CHANNELS, FRAMES, CLAP_WIDTH = 24, 64, 24, 32


def golden_losses() -> dict[str, list[float]]:
    """The losses by arm; +CLAP_beta shares the denoiser of +DiT, so its line is its bridge's."""
    torch.set_num_threads(1)
    data = latents()
    return {arm.name: _losses(arm, data) for arm in study_at("tiny").arms}


def latents() -> LatentSet:
    """Targets that follow their context and are shifted by their embedding, so that every input moves the losses."""
    random = np.random.default_rng(0)
    context = random.standard_normal((WINDOWS, CHANNELS, FRAMES))
    clap = random.standard_normal((WINDOWS, 3, CLAP_WIDTH))
    clap /= np.linalg.norm(clap, axis=-1, keepdims=True)
    target = (
        0.7 * np.roll(context, 1, axis=1) + (clap[:, 0] @ random.standard_normal((CLAP_WIDTH, CHANNELS)))[..., None]
    )
    return LatentSet(
        target_NCT=target.astype(np.float32),
        context_NCT=context.astype(np.float32),
        clap_audio_NKE=clap[:, 1:].astype(np.float32),
        clap_leak_NE=clap[:, 0].astype(np.float32),
        mean_C=np.zeros(CHANNELS, np.float32),
        std_C=np.ones(CHANNELS, np.float32),
    )


def _losses(arm: Arm, data: LatentSet) -> list[float]:
    heard: list[float] = []

    def log(step: int, values: dict[str, float]) -> None:
        heard.append(values["loss"])

    if arm.bridge:
        _train_bridge(arm.bridge, data, log)
    else:
        _train(arm.denoiser, data, log)
    return heard


def _train(recipe: DenoiserRecipe, data: LatentSet, log: Log | None) -> State:
    return train_denoiser(
        recipe.network,
        recipe.objective,
        _in_twenty_steps(recipe.training),
        data,
        style=recipe.style,
        start=_train(recipe.start, data, None) if recipe.start else None,
        log=log,
        log_every=1,
    )


def _train_bridge(recipe: BridgeRecipe, data: LatentSet, log: Log) -> None:
    texts = torch.from_numpy(data.clap_leak_NE).roll(1, dims=1)
    recipe = replace(recipe, training=_in_twenty_steps(recipe.training))
    train_bridge(recipe, texts, torch.from_numpy(data.clap_audio_NKE), log=log, log_every=1)


def _in_twenty_steps(training: TrainingRecipe) -> TrainingRecipe:
    """A higher rate than the scale's, for which twenty steps are a beginning."""
    return replace(training, steps=STEPS, learning_rate=5e-3)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_losses(), indent=1) + "\n", encoding="utf-8")
