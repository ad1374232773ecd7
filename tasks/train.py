"""Training an arm's denoiser and its bridge: the one loop, with its state on disk and its figures in MLflow."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from models.arms import DenoiserRecipe
from models.batch import StyleSource
from models.bridge import Bridge, BridgeRecipe, load_bridge, train_bridge
from models.consistency import ConsistencyObjective
from models.denoiser import Denoiser
from models.denoiser_training import load_denoiser, train_denoiser
from models.dit import DiTRecipe
from models.edm import EdmObjective
from models.training import State, TrainingRecipe
from models.unet import UNetRecipe
from models.weights import load_weights, save_weights
from tasks.artifact import Artifact
from tasks.latent_origin import require_one_codec
from tasks.lost_shards import hand_on_lost
from tasks.pack import load_latents, load_text
from tasks.previews import Previews
from tasks.process_group import call_assistants
from tasks.recipes import dump_recipe, load_recipe
from tasks.runtime import Runtime, use_threads
from tasks.step import Step
from tasks.store import RECORD
from tasks.training_session import Heard, helping_session, training_session

WEIGHTS, RECIPE = "weights.safetensors", "recipe.json"


class Training(Step):
    """A step that trains a network: alone, or led by the first of several processes."""

    resumable: ClassVar[bool] = True

    data: Artifact

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many steps the training takes."""

    @abstractmethod
    def train(self, runtime: Runtime, session: Mapping[str, Any]) -> State:
        """The averaged weights."""

    def heard(self, runtime: Runtime) -> Heard | None:
        """What makes previews of averaged weights; None for what cannot be heard by itself."""
        return None

    @abstractmethod
    def write_recipe(self, out: Path) -> None:
        """What is needed beside the weights to use them."""

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        use_threads(runtime)
        call_assistants()
        heard = self.heard(runtime) if runtime.preview_every else None
        with training_session(self, out, runtime, total=self.steps, heard=heard) as session:
            weights = self.train(runtime, session)
        save_weights(out / WEIGHTS, weights, {})
        self.write_recipe(out)
        hand_on_lost(out, self.data)
        return {"steps": self.steps}

    def assist(self, runtime: Runtime) -> None:
        """This process' rows of every batch; the weights are those of one process but for rounding."""
        use_threads(runtime)
        with helping_session(runtime) as session:
            self.train(runtime, session)


@dataclass(frozen=True, kw_only=True)
class TrainDenoiser(Training):
    """The EMA weights of a denoiser, its recipe, the latent statistics it was trained with, and its figures.

    The slice of an arm's recipe that determines them: arms that share it share the checkpoint. `heldout` windows are
    only listened to, their error and through `codec` previews: neither is part of the identity.
    """

    stage: ClassVar[str] = "denoiser"
    version: ClassVar[int] = 2

    data: Artifact
    network: UNetRecipe | DiTRecipe
    objective: EdmObjective | ConsistencyObjective
    training: TrainingRecipe
    style: StyleSource
    context_dropout: float
    clap_dropout: float
    weigh_channels_by_std: bool
    start: Artifact | None
    heldout: Artifact | None = None
    codec: Artifact | None = None

    @classmethod
    def of(
        cls,
        recipe: DenoiserRecipe,
        *,
        data: Artifact,
        start: Artifact | None,
        heldout: Artifact | None = None,
        codec: Artifact | None = None,
    ) -> TrainDenoiser:
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
            heldout=heldout,
            codec=codec,
        )

    def describe(self) -> str:
        kinds = (type(self.network).__name__, type(self.objective).__name__)
        return "denoiser " + " ".join(kind.removesuffix("Recipe").removesuffix("Objective") for kind in kinds)

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in super().identity().items() if name not in ("heldout", "codec")}

    @property
    def steps(self) -> int:
        return self.training.steps

    def train(self, runtime: Runtime, session: Mapping[str, Any]) -> State:
        require_one_codec(
            {
                "the training windows": self.data,
                "the held-out ones": self.heldout,
                "the denoiser that is tuned": self.start,
                "the decoder of the previews": self.codec,
            }
        )
        return train_denoiser(
            self.network,
            self.objective,
            self.training,
            load_latents(self.data),
            style=self.style,
            context_dropout=self.context_dropout,
            clap_dropout=self.clap_dropout,
            channel_weighting=self.weigh_channels_by_std,
            start=_weights(self.start) if self.start else None,
            heldout=load_latents(self.heldout) if self.heldout else None,
            device=runtime.device,
            compiled=runtime.compiled,
            **session,
        )

    def heard(self, runtime: Runtime) -> Heard | None:
        if self.heldout is None or self.codec is None:
            raise ValueError("previews need held-out windows and a codec to decode with; give both, or ask for none")
        return Previews(
            self.network,
            self.objective,
            prompts=self.heldout,
            data=load_latents(self.data),
            codec=self.codec,
            device=runtime.device,
        )

    def write_recipe(self, out: Path) -> None:
        data = load_latents(self.data)
        statistics = {"mean_C": data.mean_C.tolist(), "std_C": data.std_C.tolist()}
        (out / "statistics.json").write_text(json.dumps(statistics), encoding="utf-8")
        recipe = {"network": self.network, "objective": self.objective, "clap_width": data.clap_width}
        (out / RECIPE).write_text(dump_recipe(recipe), encoding="utf-8")


def load_trained_denoiser(artifact: Artifact, device: str) -> Denoiser:
    """The denoiser of a finished artifact, in evaluation mode."""
    recipe = load_recipe((artifact.path / RECIPE).read_text(encoding="utf-8"))
    return load_denoiser(
        recipe["network"],
        recipe["objective"],
        clap_width=recipe["clap_width"],
        weights=_weights(artifact),
        device=device,
    )


@dataclass(frozen=True, kw_only=True)
class TrainBridge(Training):
    """The bridge (CLAP_beta) from text to audio embeddings of the training windows."""

    stage: ClassVar[str] = "bridge"
    version: ClassVar[int] = 2

    data: Artifact
    recipe: BridgeRecipe

    @property
    def steps(self) -> int:
        return self.recipe.training.steps

    def train(self, runtime: Runtime, session: Mapping[str, Any]) -> State:
        text_NE = torch.from_numpy(load_text(self.data))
        audio_NKE = torch.from_numpy(np.array(load_latents(self.data).clap_audio_NKE))
        return train_bridge(self.recipe, text_NE, audio_NKE, device=runtime.device, **session)

    def write_recipe(self, out: Path) -> None:
        recipe = {"recipe": self.recipe, "clap_width": load_latents(self.data).clap_width}
        (out / RECIPE).write_text(dump_recipe(recipe), encoding="utf-8")


def load_trained_bridge(artifact: Artifact, device: str) -> Bridge:
    """The bridge of a finished artifact, in evaluation mode."""
    told = load_recipe((artifact.path / RECIPE).read_text(encoding="utf-8"))
    return load_bridge(told["recipe"], clap_width=told["clap_width"], weights=_weights(artifact), device=device)


def _weights(artifact: Artifact) -> State:
    """The weights of a finished training. Raises WeightsError where they are not those that its record tells of."""
    record = artifact.path / RECORD
    told = json.loads(record.read_text(encoding="utf-8"))["files"][WEIGHTS]["sha256"] if record.exists() else None
    return load_weights(artifact.path / WEIGHTS, told)[0]
