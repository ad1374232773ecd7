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
from tasks.artifact import Artifact
from tasks.audio_folder import AudioFile, audio_files, random_windows
from tasks.fit_codec import CodecFit
from tasks.runtime import Runtime

WINDOW_SAMPLES = 4 * CHUNK_SAMPLES
"""Room for a training crop of two chunks to be tried at several places until one sounds."""


@dataclass(frozen=True, kw_only=True)
class FitCodecOnAudio(CodecFit):
    """The weights of a codec, fitted on random stretches of the files below a folder.

    `windows` is how many a closed-form codec hears; a trained one hears as many as its steps need (None).
    """

    version: ClassVar[int] = 2

    folder: Artifact
    windows: int | None

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        heard = self.audio()
        return self.fit_on(heard, out, runtime) | {"files": len(heard.files)}

    def audio(self) -> Stretches:
        """The stretches that it is fitted on."""
        return Stretches(audio_files([self.folder.path]), self.windows, self.seed)


@dataclass(frozen=True)
class Stretches:
    """Random windows (1, 2, N) of the files, the same again whenever it is gone through."""

    files: Sequence[AudioFile]
    count: int | None
    seed: int

    def __iter__(self) -> Iterator[Tensor]:
        for audio_SN in islice(random_windows(self.files, WINDOW_SAMPLES, seed=self.seed), self.count):
            yield torch.from_numpy(audio_SN)[None]
