"""A released codec as a result like any other: its checkpoint read once, without running its pickle, and kept safe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from models.codecs import PretrainedRecipe, build_codec
from models.quarantine import read_checkpoint, require_acceptance
from models.weights import save_weights
from tasks.fit_codec import RECIPE, WEIGHTS, codec_name
from tasks.recipes import dump_recipe
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.whole_files import file_sha256


@dataclass(frozen=True, kw_only=True)
class ImportCodec(Step):
    """The weights of a released codec as safetensors, from the local checkpoint of this sha256.

    `tasks.fit_codec.load_codec` takes it like a fitted one. Raises ValueError when the file was not given, is another
    one, or does not fit the package's network.
    """

    stage: ClassVar[str] = "codec"

    recipe: PretrainedRecipe
    checkpoint_sha256: str

    def describe(self) -> str:
        return f"codec {codec_name(self.recipe)}"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        require_acceptance(codec_name(self.recipe), self.recipe.accept_noncommercial)
        checkpoint = self._checkpoint(runtime)
        state = read_checkpoint(checkpoint)
        digest = save_weights(out / WEIGHTS, state, {"checkpoint_sha256": self.checkpoint_sha256})
        build_codec(self.recipe, state, weights_sha256=digest)  # weights that do not fit are refused here
        (out / RECIPE).write_text(dump_recipe(self.recipe), encoding="utf-8")
        return {"checkpoint": self.checkpoint_sha256, "weights": digest}

    def _checkpoint(self, runtime: Runtime) -> Path:
        path = runtime.local_files.get(self.checkpoint_sha256)
        if path is None:
            raise ValueError(f"no local file was given with the sha256 {self.checkpoint_sha256} of {self.describe()}")
        found = file_sha256(Path(path))
        if found != self.checkpoint_sha256:
            raise ValueError(f"{path} has the sha256 {found}, expected {self.checkpoint_sha256}; give the same file")
        return Path(path)
