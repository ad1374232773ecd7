"""A model folder as `stemwright export` leaves it: what must be in it, checked by digest, and its networks.

`config.json` tells everything that is needed to rebuild the networks, with the sha256 of every other file, so that its
own sha256 stands for the whole model. Nothing here is a pickle, and nothing but torch and safetensors reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.arms import Arm
from models.bridge import Bridge, load_bridge
from models.clap import Clap
from models.codec import Codec
from models.codecs import PretrainedRecipe, build_codec
from models.denoiser import Denoiser
from models.denoiser_training import load_denoiser
from models.laion import LaionClap
from models.quarantine import read_checkpoint
from models.recipes import recipe_of
from models.small_clap import SmallClap, SmallClapRecipe
from models.weights import load_weights

CONFIG, CARD = "config.json", "README.md"
DENOISER, BRIDGE, CODEC, CLAP = (f"{part}.safetensors" for part in ("denoiser", "bridge", "codec", "clap"))
SCHEMA, SCHEMA_VERSION = "stemwright-model", 1


class ModelError(ValueError):
    """A model folder that is incomplete, changed, or made by another version; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Brought:
    """Files that an export names and may not hold: a released codec, LAION-CLAP's checkpoint and tokenizer folder."""

    codec: Path | None = None
    clap: Path | None = None
    clap_tokenizer: Path | None = None


class Statistics(NamedTuple):
    """Mean and standard deviation (C,) of the latents that the denoiser was trained on."""

    mean_C: NDArray[np.float32]
    std_C: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportedModel:
    """The networks of an arm, ready to play. `clap` is None where LAION-CLAP is needed and was not brought.

    `digest` is the sha256 of `config.json`; `window_samples` is how much the denoiser hears at once.
    """

    arm: Arm
    denoiser: Denoiser
    bridge: Bridge | None
    codec: Codec
    clap: Clap | None
    statistics: Statistics
    window_samples: int
    digest: str
    about: Mapping[str, Any]


def load_model(folder: Path, device: str, brought: Brought) -> ExportedModel:
    """The networks of a model folder, every file checked. Raises ModelError for what is missing, altered or unknown."""
    told, digest = read_config(folder)
    arm, clap = recipe_of(told["arm"]), told["clap"]
    weights = {name: load_weights(folder / name)[0] for name in told["files"] if name.endswith(".safetensors")}
    bridge = (
        load_bridge(arm.bridge, clap_width=clap["width"], weights=weights[BRIDGE], device=device)
        if arm.bridge
        else None
    )
    return ExportedModel(
        arm=arm,
        denoiser=load_denoiser(
            arm.denoiser.network,
            arm.denoiser.objective,
            clap_width=clap["width"],
            weights=weights[DENOISER],
            device=device,
        ),
        bridge=bridge,
        codec=_codec(told, weights, brought),
        clap=_clap(told, weights, brought, device),
        statistics=Statistics(*(np.array(told["latents"][name], dtype=np.float32) for name in Statistics._fields)),
        window_samples=told["window_samples"],
        digest=digest,
        about=told["about"],
    )


def read_config(folder: Path) -> tuple[dict[str, Any], str]:
    """What `config.json` says and its sha256, after every file that it names was found to be the one exported."""
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(f"{folder} is no model: it has no {CONFIG}; give a folder that `stemwright export` wrote")
    text = path.read_bytes()
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{path} cannot be read ({error}); copy the model folder again") from error
    if not isinstance(told, dict) or told.get("schema") != SCHEMA:
        raise ModelError(f"{path} does not describe a Stemwright model; give a folder that `stemwright export` wrote")
    if told["schema_version"] != SCHEMA_VERSION:
        raise ModelError(
            f"{folder} has version {told['schema_version']} of the model format, and this Stemwright reads "
            f"{SCHEMA_VERSION}; use the Stemwright that its {CARD} names, or export the model again"
        )
    for name, file in told["files"].items():
        _check_file(folder / name, file["sha256"])
    return told, hashlib.sha256(text).hexdigest()


def _check_file(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise ModelError(f"the model in {path.parent} is not complete: {path.name} is missing; copy the folder again")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path.name} in {path.parent} is not the file that was exported: it has sha256 {found}, expected "
            f"{sha256}; copy the folder again"
        )


def _codec(told: Mapping[str, Any], weights: Mapping[str, dict[str, Tensor]], brought: Brought) -> Codec:
    """The codec of the folder, or a released one from the checkpoint that was brought."""
    recipe = recipe_of(told["arm"]).denoiser.codec
    if CODEC in weights:
        return build_codec(recipe, weights[CODEC], weights_sha256=told["files"][CODEC]["sha256"])
    assert isinstance(recipe, PretrainedRecipe)  # all others are exported
    absent = told["elsewhere"][CODEC]
    if brought.codec is None:
        raise ModelError(f"this model plays through a codec that may not be passed on; bring {absent['where']}")
    _check_brought(brought.codec, absent["source_sha256"])
    return build_codec(recipe, read_checkpoint(brought.codec), weights_sha256=absent["sha256"])


def _clap(
    told: Mapping[str, Any], weights: Mapping[str, dict[str, Tensor]], brought: Brought, device: str
) -> Clap | None:
    """The small CLAP of the folder, LAION's from the files that were brought, or None."""
    if CLAP in weights:
        recipe = recipe_of(told["clap"]["recipe"])
        assert isinstance(recipe, SmallClapRecipe)  # the only kind that is exported
        return SmallClap(recipe, weights[CLAP], told["files"][CLAP]["sha256"], device=device)
    if brought.clap is None or brought.clap_tokenizer is None:
        return None
    absent = told["elsewhere"][CLAP]
    _check_brought(brought.clap, absent["source_sha256"])
    return LaionClap(
        brought.clap,
        tokenizer=brought.clap_tokenizer,
        weights_sha256=absent["source_sha256"],
        licence="CC0-1.0",
        int16=absent["int16"],
        device=device,
    )


def _check_brought(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(f"{path} has sha256 {found}, and the model was trained with {sha256}; bring that file")
