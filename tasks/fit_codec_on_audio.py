"""Fitting a codec on any folder of audio: recordings of which nothing is known, not even their stems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.codec import CHUNK_SAMPLES
from models.codecs import CodecRecipe, fit
from models.weights import save_weights
from tasks.artifact import Artifact
from tasks.audio_folder import AudioFile, audio_files, random_windows
from tasks.fingerprint import canonical
from tasks.fit_codec import RECIPE, WEIGHTS, codec_name
from tasks.recipes import dump_recipe
from tasks.runtime import Runtime, use_threads
from tasks.step import Step
from tasks.training_session import training_session
from tasks.whole_files import write_whole

WINDOW_SAMPLES = 4 * CHUNK_SAMPLES
"""Room for a training crop of two chunks to be tried at several places until one sounds."""


@dataclass(frozen=True, kw_only=True)
class FitCodecOnAudio(Step):
    """The weights of a codec, fitted on random stretches of the files below a folder.

    `windows` is how many a closed-form codec hears; a trained one hears as many as its steps need (None).
    """

    stage: ClassVar[str] = "codec"
    resumable: ClassVar[bool] = True

    recipe: CodecRecipe
    folder: Artifact
    windows: int | None
    seed: int

    def describe(self) -> str:
        return f"codec {codec_name(self.recipe)}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        use_threads(runtime)
        files = audio_files([self.folder.path])
        with training_session(self, out, runtime, total=getattr(self.recipe, "steps", 1)) as session:
            state = fit(
                self.recipe,
                _Stretches(files, self.windows, self.seed),
                seed=self.seed,
                device=torch.device(runtime.device),
                **session,
            )
        save_weights(out / WEIGHTS, state, {})
        write_whole(out / RECIPE, dump_recipe(self.recipe).encode())
        return {"recipe": canonical(self.recipe), "files": len(files)}


@dataclass(frozen=True)
class _Stretches:
    """Windows (1, 2, N), the same again whenever it is gone through, which is what a resumed training needs."""

    files: Sequence[AudioFile]
    count: int | None
    seed: int

    def __iter__(self) -> Iterator[Tensor]:
        for audio_SN in islice(random_windows(self.files, WINDOW_SAMPLES, seed=self.seed), self.count):
            yield torch.from_numpy(audio_SN)[None]
