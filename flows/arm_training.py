"""An arm trained, as steps: its codec, the latents, the denoiser and the bridge."""

from __future__ import annotations

from typing import NamedTuple

from flows.preparation import Prepared
from flows.study import Make, Study
from models.arms import Arm, DenoiserRecipe
from models.codecs import CodecRecipe
from tasks.artifact import Artifact
from tasks.encode import EncodeWindows
from tasks.fit_codec import FitCodec
from tasks.import_codec import ImportCodec
from tasks.pack import PackLatents
from tasks.train import TrainBridge, TrainDenoiser


class Coded(NamedTuple):
    """A fitted codec and what it made of the training windows and the prompts."""

    codec: Artifact
    train: Artifact
    prompts: Artifact


class Trained(NamedTuple):
    """An arm ready to play."""

    coded: Coded
    denoiser: Artifact
    bridge: Artifact | None


def code(study: Study, prepared: Prepared, recipe: CodecRecipe, make: Make) -> Coded:
    """A codec, fitted where none was brought, and the latents of the training windows and the prompts."""
    codec = fitted_codec(study, prepared, recipe, make)
    train = make(EncodeWindows(windows=prepared.windows.train, codec=codec))
    prompts = make(EncodeWindows(windows=prepared.windows.prompts, codec=codec))
    return Coded(
        codec=codec,
        train=make(PackLatents(latents=train, embeddings=prepared.train_embeddings)),
        prompts=make(PackLatents(latents=prompts, embeddings=prepared.prompt_embeddings)),
    )


def fitted_codec(study: Study, prepared: Prepared, recipe: CodecRecipe, make: Make) -> Artifact:
    """A codec that was brought, or one fitted on the training windows."""
    if weights := dict(study.brought).get(recipe):
        return make(ImportCodec(recipe=recipe, sha256=weights))
    windows, first = prepared.windows.train, study.codec_windows
    return make(FitCodec(recipe=recipe, windows=windows, first_windows=first, seed=study.seed))


def train_arm(study: Study, prepared: Prepared, arm: Arm, make: Make) -> Trained:
    """An arm's codec, denoiser and bridge. Arms that share a recipe share the result."""
    coded = code(study, prepared, arm.denoiser.codec, make)
    denoiser = _denoiser(arm.denoiser, coded, make)
    bridge = make(TrainBridge(data=coded.train, recipe=arm.bridge)) if arm.bridge else None
    return Trained(coded=coded, denoiser=denoiser, bridge=bridge)


def _denoiser(recipe: DenoiserRecipe, coded: Coded, make: Make) -> Artifact:
    start = _denoiser(recipe.start, coded, make) if recipe.start else None
    return make(TrainDenoiser.of(recipe, data=coded.train, start=start, heldout=coded.prompts, codec=coded.codec))
