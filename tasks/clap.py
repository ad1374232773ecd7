"""The CLAP of a study: the small one that ships, one fitted on its training windows, or LAION's from local files."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

import models
from data_manifests.weights import mistaken_digest, where_to_get
from metrics.embeddings import Space
from models.clap import Clap, ClapSpec, LaionClapRecipe, listening_window
from models.laion import LaionClap
from models.mel import LogMel
from models.small_clap import SmallClap, SmallClapRecipe
from models.small_clap_fit import ClapWindows, fit_small_clap
from models.weights import load_weights, save_weights
from tasks.artifact import Artifact
from tasks.audio_bytes import decode_flac
from tasks.cluster import Resident, fan_out, resident_model
from tasks.embedding_cache import EmbeddingCache
from tasks.lost_shards import POISON, LostShard, record_lost
from tasks.progress import Progress
from tasks.recipes import dump_recipe, load_recipe
from tasks.runtime import Runtime, use_threads
from tasks.shard_folder import shard_name
from tasks.step import Step
from tasks.whole_files import file_sha256
from tasks.window_source import WindowPiece, WindowSource, pieces_of, samples_of, source_of

WEIGHTS, RECIPE, SPEC = "clap.safetensors", "recipe.json", "clap.json"
HEARD_SAMPLES = 480_000
SHIPPED = Path(models.__file__).parent / "shipped" / "small_clap"


LAION_DEFAULT = "music_audioset_epoch_15_esc_90.14.pt"
LAION_TOKENIZER = ("roberta-base/vocab.json", "roberta-base/merges.txt")


def laion_places() -> str:
    """Where the files of the default LAION-CLAP are to be had, for an error about their absence."""
    return "; ".join(where_to_get(name) for name in (LAION_DEFAULT, *LAION_TOKENIZER))


@dataclass(frozen=True, kw_only=True)
class ShippedClapRecipe:
    """The small CLAP that comes with the package, by the digest of its weights."""

    weights_sha256: str


def shipped_clap() -> ShippedClapRecipe:
    """The small CLAP of this version of the package; its model card lies beside the weights."""
    return ShippedClapRecipe(weights_sha256=file_sha256(SHIPPED / WEIGHTS))


@dataclass(frozen=True, kw_only=True)
class FitClap(Step):
    """A small CLAP fitted on the stems, contexts and tags of training windows."""

    stage: ClassVar[str] = "clap"

    recipe: SmallClapRecipe
    windows: WindowSource

    def describe(self) -> str:
        return f"clap small, {self.recipe.width}-d"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        use_threads(runtime)
        pictures, lost = self._pictures(out, runtime)
        losses: list[tuple[int, dict[str, float]]] = []
        with Progress(self.describe(), total=self.recipe.steps, live=runtime.progress) as bar:

            def log(step: int, values: dict[str, float]) -> None:
                bar.reach(step + 1, note=f"loss {values['loss']:.3f}")
                losses.append((step, values))

            state = fit_small_clap(self.recipe, pictures, log=log, device=runtime.device)
        digest = save_weights(out / WEIGHTS, state, {})
        (out / RECIPE).write_text(dump_recipe(self.recipe), encoding="utf-8")
        (out / "losses.json").write_text(json.dumps(losses), encoding="utf-8")
        _write_spec(out, SmallClap(self.recipe, state, digest).spec)
        return {"steps": self.recipe.steps, "loss": losses[-1][1]["loss"], "lost": lost}

    def _pictures(self, out: Path, runtime: Runtime) -> tuple[ClapWindows, list[str]]:
        """Log-mels of every stem and context, made on the workers and dropped after the fit; and the lost shards."""
        name = f"mel-{self.key()}"
        pieces = [
            (name, number, windows, str(out / f"mels-{number:06d}.npz"))
            for number, windows in enumerate(pieces_of(self.windows))
        ]
        resident = Resident(name, LogMel, self.recipe.mel)
        outcomes = fan_out(runtime, _draw_shard, pieces, title="log-mels", resident=resident)
        lost = record_lost(out, [shard for shard in outcomes if isinstance(shard, LostShard)], pieces=len(pieces))
        told = [texts for texts in outcomes if not isinstance(texts, LostShard)]
        paths = sorted(out.glob("mels-*.npz"))
        parts = [np.load(path, allow_pickle=False) for path in paths]
        stem_NMT, context_NMT = (np.concatenate([part[member] for part in parts]) for member in ("target", "context"))
        for path in paths:
            path.unlink()
        texts, tracks = zip(*chain.from_iterable(told), strict=True)
        return ClapWindows(stem_NMT=stem_NMT, context_NMT=context_NMT, texts=texts, song_ids=tracks), lost


def _draw_shard(piece: tuple[str, int, WindowPiece, str]) -> list[tuple[str, str]] | LostShard:
    """Write the log-mels (half precision) of one shard's targets and contexts; give back texts and tracks."""
    name, number, windows, destination = piece
    mel: LogMel = resident_model(name)
    try:
        samples = list(samples_of(windows))
        drawn = {
            member: np.stack([_picture(mel, sample[f"{member}.flac"]) for sample in samples])
            for member in ("target", "context")
        }
    except POISON as error:
        return LostShard.of(shard_name(number), error, source_of(windows))
    with Path(destination).open("wb") as handle:
        np.savez(handle, **drawn)
    told = [json.loads(sample["json"]) for sample in samples]
    return [(window["tags"], window["track_id"]) for window in told]


def _picture(mel: LogMel, flac: bytes) -> np.ndarray:
    heard_BN = listening_window(torch.from_numpy(np.ascontiguousarray(decode_flac(flac)))[None], HEARD_SAMPLES)
    with torch.inference_mode():
        return mel(heard_BN)[0].numpy().astype(np.float16)


@dataclass(frozen=True, kw_only=True)
class ImportShippedClap(Step):
    """The shipped small CLAP as a result like any other, so that a workspace keeps what judged it."""

    stage: ClassVar[str] = "clap"

    recipe: ShippedClapRecipe

    def describe(self) -> str:
        return "clap small, shipped"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        state, digest = load_weights(SHIPPED / WEIGHTS, expected_sha256=self.recipe.weights_sha256)
        recipe = load_recipe((SHIPPED / RECIPE).read_text(encoding="utf-8"))
        for name in (WEIGHTS, RECIPE):
            shutil.copyfile(SHIPPED / name, out / name)
        _write_spec(out, SmallClap(recipe, state, digest).spec)
        return {"weights": digest}


@dataclass(frozen=True, kw_only=True)
class ImportLaionClap(Step):
    """The identity of a LAION-CLAP whose files stay where the user has them."""

    stage: ClassVar[str] = "clap"

    recipe: LaionClapRecipe

    def describe(self) -> str:
        return "clap laion, int16" if self.recipe.int16 else "clap laion"

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        (out / RECIPE).write_text(dump_recipe(self.recipe), encoding="utf-8")
        clap = load_clap(str(out), runtime.local_files, runtime.device)
        _write_spec(out, clap.spec)
        digest = self.recipe.checkpoint_sha256
        remark = mistaken_digest(Path(runtime.local_files[digest]).name, digest)
        if remark:
            logging.getLogger("stemwright").warning("%s", remark)
        return {"checkpoint": digest, "remark": remark}


def _write_spec(out: Path, spec: ClapSpec) -> None:
    space = {
        "name": spec.name,
        "width": spec.width,
        "normalised": spec.normalised,
        "weights_sha256": spec.weights_sha256,
    }
    (out / SPEC).write_text(json.dumps(space, indent=1), encoding="utf-8")


def clap_space(artifact: Artifact) -> Space:
    """The identity of a CLAP's embedding space, as every score carries it."""
    return Space(**json.loads((artifact.path / SPEC).read_text(encoding="utf-8")))


def clap_resident(name: str, clap: Artifact, runtime: Runtime) -> Resident:
    """The CLAP of an artifact, to be loaded once a worker."""
    return Resident(name, load_clap, clap.location, dict(runtime.local_files), runtime.device)


def clap_and_cache_resident(name: str, clap: Artifact, runtime: Runtime) -> Resident:
    """The CLAP of an artifact and what this workspace keeps of its embeddings, to be loaded once a worker."""
    where = (clap.location, dict(runtime.local_files), runtime.device, str(runtime.root))
    return Resident(name, _load_clap_and_cache, *where)


def _load_clap_and_cache(
    location: str, local_files: Mapping[str, str], device: str, workspace: str
) -> tuple[Clap, EmbeddingCache]:
    clap = load_clap(location, local_files, device)
    return clap, EmbeddingCache(Path(workspace), spec=clap.spec, device=device)


def load_clap(location: str, local_files: Mapping[str, str], device: str) -> Clap:
    """The CLAP of a finished artifact. Raises ValueError when a local file it needs was not given."""
    folder = Path(location)
    recipe = load_recipe((folder / RECIPE).read_text(encoding="utf-8"))
    if isinstance(recipe, LaionClapRecipe):
        return _laion(recipe, local_files, device)
    state, digest = load_weights(folder / WEIGHTS)
    return SmallClap(recipe, state, digest, device=device)


def _laion(recipe: LaionClapRecipe, local_files: Mapping[str, str], device: str) -> Clap:
    try:
        checkpoint, vocabulary = (local_files[digest] for digest in (recipe.checkpoint_sha256, recipe.tokenizer_sha256))
    except KeyError as missing:
        raise ValueError(
            f"no local file has the sha256 {missing}; give --laion-checkpoint and --laion-tokenizer. Published are "
            f"{laion_places()}"
        ) from None
    return LaionClap(
        Path(checkpoint),
        tokenizer=Path(vocabulary).parent,
        weights_sha256=recipe.checkpoint_sha256,
        licence="CC0-1.0",
        int16=recipe.int16,
        device=device,
    )
