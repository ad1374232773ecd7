"""Fitting a codec on the training windows, and loading one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.codec import Codec
from models.codecs import CodecRecipe, build_codec, fit
from models.music2latent import Music2LatentRecipe
from models.music2latent2 import Music2Latent2Recipe
from models.pretrained_codicodec import PretrainedCoDiCodecRecipe
from models.pretrained_music2latent import PretrainedMusic2LatentRecipe
from models.spectral import SpectralRecipe
from models.weights import load_weights, save_weights
from tasks.audio import decode_flac
from tasks.fingerprint import canonical
from tasks.recipes import dump_recipe, load_recipe
from tasks.runtime import Runtime, use_threads
from tasks.step import Step
from tasks.training_session import training_session
from tasks.window_source import WindowSource, pieces_of, samples_of

WEIGHTS, RECIPE = "codec.safetensors", "codec.json"


@dataclass(frozen=True, kw_only=True)
class FitCodec(Step):
    """The weights of a codec, fitted on the targets and contexts of the first `first_windows` training windows.

    A closed-form codec has seen enough long before the last window; None takes them all.
    """

    stage: ClassVar[str] = "codec"
    version: ClassVar[int] = 2
    resumable: ClassVar[bool] = True

    recipe: CodecRecipe
    windows: WindowSource
    first_windows: int | None
    seed: int

    def describe(self) -> str:
        return f"codec {codec_name(self.recipe)}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        use_threads(runtime)
        with training_session(self, out, runtime, total=getattr(self.recipe, "steps", 1)) as session:
            state = fit(
                self.recipe,
                WindowAudio(self.windows, self.first_windows),
                seed=self.seed,
                device=torch.device(runtime.device),
                **session,
            )
        save_weights(out / WEIGHTS, state, {})
        (out / RECIPE).write_text(dump_recipe(self.recipe), encoding="utf-8")
        return {"recipe": canonical(self.recipe)}


@dataclass(frozen=True)
class WindowAudio:
    """Every window's target and context, one (1, 2, N) tensor at a time, in the plan's order; as often as asked."""

    windows: WindowSource
    first: int | None

    def __iter__(self) -> Iterator[Tensor]:
        samples = chain.from_iterable(samples_of(piece) for piece in pieces_of(self.windows))
        for sample in islice(samples, self.first):
            for member in ("target", "context"):
                yield torch.from_numpy(np.ascontiguousarray(decode_flac(sample[f"{member}.flac"])))[None]


def codec_name(recipe: CodecRecipe) -> str:
    """A codec as tables name it; the closed-form one is never called by a neural one's name."""
    match recipe:
        case SpectralRecipe():
            return f"spectral, {'stereo' if recipe.audio_channels == 2 else 'mono'}"
        case Music2LatentRecipe():
            return "Music2Latent (our training), mono"
        case Music2Latent2Recipe():
            return "Music2Latent2 (our open one), stereo"
        case PretrainedMusic2LatentRecipe():
            return "Music2Latent (released), mono"
        case PretrainedCoDiCodecRecipe():
            return "CoDiCodec (released), stereo"


def load_codec(location: str) -> Codec:
    """The codec of a finished codec artifact."""
    folder = Path(location)
    state, digest = load_weights(folder / WEIGHTS)
    return build_codec(load_recipe((folder / RECIPE).read_text(encoding="utf-8")), state, weights_sha256=digest)
