"""Training an arm's denoiser and its bridge: the one loop, with its state on disk and its curves in MLflow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.arms import DenoiserRecipe
from models.batch import LatentSet, StyleSource
from models.bridge import Bridge, BridgeRecipe, load_bridge, train_bridge
from models.consistency import ConsistencyObjective
from models.denoiser import Denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.training import TrainingRecipe, load_denoiser, train_denoiser
from models.unet import UNetRecipe
from models.weights import load_weights, save_weights
from tasks.artifact import Artifact
from tasks.pack import load_latents, load_text
from tasks.recipes import dump_recipe, load_recipe
from tasks.runtime import Runtime, use_threads
from tasks.step import Step
from tasks.training_session import training_session

WEIGHTS, RECIPE = "weights.safetensors", "recipe.json"


@dataclass(frozen=True, kw_only=True)
class TrainDenoiser(Step):
    """The EMA weights of a denoiser, its recipe, the latent statistics it was trained with, and its losses.

    The slice of an arm's recipe that determines them: arms that share it share the checkpoint.
    """

    stage: ClassVar[str] = "denoiser"
    resumable: ClassVar[bool] = True

    data: Artifact
    network: UNetRecipe | DiTRecipe
    objective: EdmObjective | ConsistencyObjective
    training: TrainingRecipe
    style: StyleSource
    context_dropout: float
    clap_dropout: float
    weigh_channels_by_std: bool
    start: Artifact | None

    @classmethod
    def of(cls, recipe: DenoiserRecipe, *, data: Artifact, start: Artifact | None) -> TrainDenoiser:
        """The step that trains a recipe on packed latents."""
        return cls(
            data=data,
            network=recipe.network,
            objective=recipe.objective,
            training=recipe.training,
            style=recipe.style,
            context_dropout=recipe.context_dropout,
            clap_dropout=recipe.clap_dropout,
            weigh_channels_by_std=recipe.weigh_channels_by_std,
            start=start,
        )

    def describe(self) -> str:
        kinds = (type(self.network).__name__, type(self.objective).__name__)
        return "denoiser " + " ".join(kind.removesuffix("Recipe").removesuffix("Objective") for kind in kinds)

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        use_threads(runtime)
        data = load_latents(self.data)
        with training_session(self, out, runtime, total=self.training.steps) as session:
            weights = train_denoiser(
                self.network,
                self.objective,
                self.training,
                data,
                style=self.style,
                context_dropout=self.context_dropout,
                clap_dropout=self.clap_dropout,
                channel_weighting=self.weigh_channels_by_std,
                start=load_weights(self.start.path / WEIGHTS)[0] if self.start else None,
                device=runtime.device,
                **session,
            )
        self._save(out, weights, data)
        return {"steps": self.training.steps}

    def _save(self, out: Path, weights: dict[str, Tensor], data: LatentSet) -> None:
        save_weights(out / WEIGHTS, weights, {})
        statistics = {"mean_C": data.mean_C.tolist(), "std_C": data.std_C.tolist()}
        (out / "statistics.json").write_text(json.dumps(statistics), encoding="utf-8")
        recipe = {"network": self.network, "objective": self.objective, "clap_width": int(data.clap_leak_NE.shape[1])}
        (out / RECIPE).write_text(dump_recipe(recipe), encoding="utf-8")


def load_trained_denoiser(artifact: Artifact, device: str) -> Denoiser:
    """The denoiser of a finished artifact, in evaluation mode."""
    recipe = load_recipe((artifact.path / RECIPE).read_text(encoding="utf-8"))
    weights, _ = load_weights(artifact.path / WEIGHTS)
    return load_denoiser(
        recipe["network"], recipe["objective"], clap_width=recipe["clap_width"], weights=weights, device=device
    )


@dataclass(frozen=True, kw_only=True)
class TrainBridge(Step):
    """The bridge (CLAP_beta) from text to audio embeddings of the training windows."""

    stage: ClassVar[str] = "bridge"
    resumable: ClassVar[bool] = True

    data: Artifact
    recipe: BridgeRecipe

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        use_threads(runtime)
        data = load_latents(self.data)
        text_NE = torch.from_numpy(load_text(self.data))
        audio_NKE = torch.from_numpy(np.array(data.clap_audio_NKE))
        with training_session(self, out, runtime, total=self.recipe.training.steps) as session:
            weights = train_bridge(self.recipe, text_NE, audio_NKE, device=runtime.device, **session)
        save_weights(out / WEIGHTS, weights, {})
        (out / RECIPE).write_text(
            dump_recipe({"recipe": self.recipe, "clap_width": int(text_NE.shape[1])}), encoding="utf-8"
        )
        return {"steps": self.recipe.training.steps}


def load_trained_bridge(artifact: Artifact, device: str) -> Bridge:
    """The bridge of a finished artifact, in evaluation mode."""
    told = load_recipe((artifact.path / RECIPE).read_text(encoding="utf-8"))
    weights, _ = load_weights(artifact.path / WEIGHTS)
    return load_bridge(told["recipe"], clap_width=told["clap_width"], weights=weights, device=device)
