"""A trained arm as a folder that can be given away: safetensors, `config.json` and a model card, each whole or not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_manifests.weights import where_to_get
from models.arms import Arm
from models.clap import LaionClapRecipe
from models.codecs import PretrainedRecipe
from models.exported import BRIDGE, CARD, CLAP, CODEC, CONFIG, DENOISER, SCHEMA, SCHEMA_VERSION
from models.pretrained_codicodec import PretrainedCoDiCodecRecipe
from models.weights import load_metadata
from tasks import clap as clap_task
from tasks import fit_codec, train
from tasks.artifact import Artifact
from tasks.clap import laion_places
from tasks.export_model_card import card_text
from tasks.fingerprint import canonical
from tasks.recipes import load_recipe
from tasks.store import RECORD
from tasks.whole_files import file_sha256, new_folder


class TrainedArm(NamedTuple):
    """All that an export is made of. `about` is what its card says of data, recipe and code, for people."""

    arm: Arm
    denoiser: Artifact
    bridge: Artifact | None
    codec: Artifact
    clap: Artifact
    window_samples: int
    about: Mapping[str, Any]


def export_model(trained: TrainedArm, out: Path, *, scores: Path | None) -> None:
    """Write the model folder `out`; `scores` is the long Parquet file of a report, for the card.

    Raises ValueError where `out` is there already, or a file of the training is not the one that its record tells of.
    """
    with new_folder(out) as scratch:
        config = _config(trained, scratch)
        (scratch / CARD).write_text(card_text(config, trained.arm, scores=scores), encoding="utf-8")
        config["files"][CARD] = _told_of(scratch / CARD)
        (scratch / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")


def _config(trained: TrainedArm, folder: Path) -> dict[str, Any]:
    """What `config.json` says of the weights, which are copied into the folder; those elsewhere are named."""
    clap_recipe = load_recipe((trained.clap.path / clap_task.RECIPE).read_text(encoding="utf-8"))
    codec = load_recipe((trained.codec.path / fit_codec.RECIPE).read_text(encoding="utf-8"))
    wanted = {DENOISER: trained.denoiser.path / train.WEIGHTS}
    elsewhere: dict[str, dict[str, Any]] = {}
    if trained.bridge:
        wanted[BRIDGE] = trained.bridge.path / train.WEIGHTS
    if isinstance(codec, PretrainedRecipe):
        elsewhere[CODEC] = _released(codec, trained.codec)
    else:
        wanted[CODEC] = trained.codec.path / fit_codec.WEIGHTS
    if isinstance(clap_recipe, LaionClapRecipe):
        elsewhere[CLAP] = {
            "source_sha256": clap_recipe.checkpoint_sha256,
            "tokenizer_sha256": clap_recipe.tokenizer_sha256,
            "int16": clap_recipe.int16,
            "where": laion_places(),
        }
    else:
        wanted[CLAP] = trained.clap.path / clap_task.WEIGHTS
    statistics = json.loads((trained.denoiser.path / "statistics.json").read_text(encoding="utf-8"))
    space = json.loads((trained.clap.path / clap_task.SPEC).read_text(encoding="utf-8"))
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "arm": canonical(trained.arm),
        "clap": space | {"recipe": canonical(clap_recipe) if CLAP in wanted else None},
        "latents": {name: statistics[name] for name in ("mean_C", "std_C")},
        "window_samples": trained.window_samples,
        "files": {name: _copied(source, folder / name) for name, source in wanted.items()},
        "elsewhere": elsewhere,
        "about": dict(trained.about),
    }


def _released(codec: PretrainedRecipe, artifact: Artifact) -> dict[str, Any]:
    """Where the weights of a released codec are to be had: they are CC BY-NC 4.0, and their owners' to give."""
    name = "codicodec.pt" if isinstance(codec, PretrainedCoDiCodecRecipe) else "music2latent.pt"
    weights = artifact.path / fit_codec.WEIGHTS
    return {
        "sha256": file_sha256(weights),
        "source_sha256": load_metadata(weights)["source_sha256"],
        "where": where_to_get(name),
    }


def _copied(source: Path, target: Path) -> dict[str, Any]:
    """A copy of a result's file, and what the config says of it. ValueError where it is not the recorded one."""
    shutil.copyfile(source, target)
    record = source.with_name(RECORD)
    told = _told_of(target)
    if record.exists():
        expected = json.loads(record.read_text(encoding="utf-8"))["files"][source.name]["sha256"]
        if told["sha256"] != expected:
            raise ValueError(
                f"{source} has sha256 {told['sha256']}, its record says {expected}; "
                "remove the result with stemwright invalidate, and train again"
            )
    return told


def _told_of(path: Path) -> dict[str, Any]:
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}
