"""Fitting a codec on the training windows, and loading one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from models.codec import Codec
from models.codecs import CodecRecipe, build_codec, fit
from models.data_parallel import processes
from models.music2latent import Music2LatentRecipe
from models.music2latent2 import Music2Latent2Recipe
from models.pretrained_codicodec import PretrainedCoDiCodecRecipe
from models.pretrained_music2latent import PretrainedMusic2LatentRecipe
from models.spectral import SpectralRecipe
from models.weights import load_weights, save_weights
from tasks.audio_bytes import decode_flac
from tasks.fingerprint import canonical
from tasks.lost_shards import POISON, LostShard, record_lost, refuse_too_many
from tasks.process_group import call_assistants
from tasks.recipes import dump_recipe, load_recipe
from tasks.runtime import Runtime, use_threads
from tasks.shard_folder import shard_name
from tasks.step import Step
from tasks.training_session import helping_session, training_session
from tasks.whole_files import write_whole
from tasks.window_source import WindowPiece, WindowSource, pieces_of, samples_of, source_of

WEIGHTS, RECIPE = "codec.safetensors", "codec.json"


@dataclass(frozen=True, kw_only=True)
class CodecFit(Step):
    """A fit of a codec on audio; which audio is for each kind of it to say."""

    stage: ClassVar[str] = "codec"
    resumable: ClassVar[bool] = True

    recipe: CodecRecipe
    seed: int

    @abstractmethod
    def audio(self) -> Iterable[Tensor]:
        """Windows (B, 2, N), the same again whenever they are gone through, which is what a resumed fit needs."""

    def describe(self) -> str:
        return f"codec {codec_name(self.recipe)}"

    def fit_on(self, audio: Iterable[Tensor], out: Path, runtime: Runtime) -> dict[str, Any]:
        """Write weights and recipe into `out`, with states on the way; what the record says of the fit."""
        use_threads(runtime)
        call_assistants()
        with training_session(self, out, runtime, total=getattr(self.recipe, "steps", 1)) as session:
            state = fit(self.recipe, audio, seed=self.seed, device=torch.device(runtime.device), **session)
        save_weights(out / WEIGHTS, state, {})
        write_whole(out / RECIPE, dump_recipe(self.recipe).encode())
        return {"recipe": canonical(self.recipe), "processes": processes().size}

    def assist(self, runtime: Runtime) -> None:
        """Batches are shared out, so that so many processes fit the same recipe in so much less time.

        Crops and noise are drawn by each process for itself: the weights are as good as those of one process, and not
        the same.
        """
        use_threads(runtime)
        with helping_session(runtime) as session:
            fit(self.recipe, self.audio(), seed=self.seed, device=torch.device(runtime.device), **session)


@dataclass(frozen=True, kw_only=True)
class FitCodec(CodecFit):
    """The weights of a codec, fitted on the targets and contexts of the first `first_windows` training windows.

    A closed-form codec has seen enough long before the last window; None takes them all.
    """

    version: ClassVar[int] = 3

    windows: WindowSource
    first_windows: int | None

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        heard = self.audio()
        told = self.fit_on(heard, out, runtime)
        return told | {"lost": record_lost(out, list(heard.lost.values()), pieces=len(heard.pieces))}

    def audio(self) -> WindowAudio:
        """The windows that it is fitted on."""
        return WindowAudio(pieces_of(self.windows), self.first_windows)


class WindowAudio:
    """Every window's target and context, one (1, 2, N) tensor at a time, in the plan's order; as often as asked.

    A shard is left out from where it cannot be read, and gathered in `lost` by its number: to look for such shards
    before fitting would be to read them all, and a fit may need a few. Raises ValueError when they become too many.
    """

    def __init__(self, pieces: Sequence[WindowPiece], first: int | None) -> None:
        self.pieces, self._first = pieces, first
        self.lost: dict[int, LostShard] = {}

    def __iter__(self) -> Iterator[Tensor]:
        return chain.from_iterable(islice(self._windows(), self._first))

    def _windows(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number, piece in enumerate(self.pieces):
            if number in self.lost:
                continue
            try:
                for sample in samples_of(piece):
                    yield _decoded(sample["target.flac"]), _decoded(sample["context.flac"])
            except POISON as error:
                self.lost[number] = LostShard.of(shard_name(number), error, source_of(piece))
                refuse_too_many(list(self.lost.values()), pieces=len(self.pieces))


def _decoded(flac: bytes) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(decode_flac(flac)))[None]


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
