"""A codec that the user brought along: a released checkpoint, or one that `stemwright codec fit` made."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from models.codecs import CodecRecipe, PretrainedRecipe, build_codec, is_mono
from models.pretrained_codicodec import PretrainedCoDiCodecRecipe
from models.pretrained_music2latent import PretrainedMusic2LatentRecipe
from models.quarantine import read_checkpoint, require_acceptance
from models.weights import load_weights, save_weights
from tasks.fit_codec import RECIPE, WEIGHTS, codec_name
from tasks.recipes import dump_recipe, load_recipe
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.whole_files import file_sha256


class BroughtCodec(NamedTuple):
    """What a codec is, and the file of its weights with its digest."""

    recipe: CodecRecipe
    sha256: str
    path: Path


def brought_codec(place: Path, *, mono: bool, accept_noncommercial: bool) -> BroughtCodec:
    """The codec in a folder of `codec fit`, or in a released checkpoint: Music2Latent's if mono, else CoDiCodec's.

    Raises ValueError when there is none, when it has the other number of channels, or when its licence is not accepted.
    """
    recipe: CodecRecipe
    if place.is_dir():
        missing = [name for name in (RECIPE, WEIGHTS) if not (place / name).is_file()]
        if missing:
            raise ValueError(f"{place} has no {' and no '.join(missing)}; expected what `stemwright codec fit` wrote")
        recipe, path = load_recipe((place / RECIPE).read_text(encoding="utf-8")), place / WEIGHTS
    elif place.is_file():
        released = PretrainedMusic2LatentRecipe if mono else PretrainedCoDiCodecRecipe
        recipe, path = released(accept_noncommercial=accept_noncommercial), place
        require_acceptance(codec_name(recipe), accept_noncommercial)
    else:
        raise ValueError(f"there is no codec at {place}; give a folder of `codec fit` or a released checkpoint")
    if is_mono(recipe) != mono:
        wanted, option = ("mono", "--stereo-codec") if mono else ("stereo", "--mono-codec")
        raise ValueError(f"{place} is {codec_name(recipe)}, and a {wanted} codec is wanted there; give it as {option}")
    return BroughtCodec(recipe, file_sha256(path), path)


@dataclass(frozen=True, kw_only=True)
class ImportCodec(Step):
    """A brought codec as a result like any other, kept as safetensors, from the local file of this sha256.

    A released checkpoint is read once, without running its pickle. Raises ValueError when the file was not given, is
    another one, or does not fit the recipe.
    """

    stage: ClassVar[str] = "codec"

    recipe: CodecRecipe
    sha256: str

    def describe(self) -> str:
        return f"codec {codec_name(self.recipe)}, brought"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        source = self._source(runtime)
        if isinstance(self.recipe, PretrainedRecipe):
            require_acceptance(codec_name(self.recipe), self.recipe.accept_noncommercial)
            state = read_checkpoint(source)
            digest = save_weights(out / WEIGHTS, state, {"source_sha256": self.sha256})
        else:
            shutil.copyfile(source, out / WEIGHTS)
            state, digest = load_weights(out / WEIGHTS, self.sha256)
        build_codec(self.recipe, state, weights_sha256=digest)  # weights that do not fit are refused here
        (out / RECIPE).write_text(dump_recipe(self.recipe), encoding="utf-8")
        return {"source": self.sha256, "weights": digest}

    def _source(self, runtime: Runtime) -> Path:
        path = runtime.local_files.get(self.sha256)
        if path is None:
            raise ValueError(f"no local file was given with the sha256 {self.sha256} of {self.describe()}")
        found = file_sha256(Path(path))
        if found != self.sha256:
            raise ValueError(f"{path} has the sha256 {found}, expected {self.sha256}; give the same file")
        return Path(path)
