"""Weights on disk: safetensors with their digest, and errors that name the keys."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

METADATA_KEY = "metadata"
NAMES_SHOWN = 8


class WeightsError(ValueError):
    """Weights that are damaged, or are not those of this network."""


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write `tensors` as safetensors and return the file's sha256; equal contents give equal bytes.

    The file appears whole or not at all. The metadata is one JSON text, since safetensors writes several entries in
    no fixed order.
    """
    scratch = path.with_name(path.name + ".partial")
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(plain, scratch, metadata={METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)})
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
    except (SafetensorError, OSError) as error:  # safetensors tells a full disk by an error of its own
        scratch.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error}; make room, and run again") from error
    digest = _sha256(scratch)
    scratch.replace(path)
    return digest


def load_weights(path: Path, expected_sha256: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The tensors of a safetensors file, on the CPU, and its sha256. WeightsError on damage or another digest."""
    digest = _sha256(path)
    if expected_sha256 is not None and digest != expected_sha256:
        raise WeightsError(f"{path} has sha256 {digest}, expected {expected_sha256}; build or fetch it again")
    try:
        return load_file(path), digest
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); build or fetch it again") from error


def load_metadata(path: Path) -> dict[str, str]:
    """The metadata that `save_weights` was given. Raises WeightsError for a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(json.loads((file.metadata() or {}).get(METADATA_KEY, "{}")))
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} has no metadata of ours ({error}); build or fetch it again") from error


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Set all of a module's state. Raises WeightsError naming every missing, unexpected or misshapen tensor.

    `what` says whose weights they are, for the message.
    """
    check_names(tensors, module.state_dict(), what=what)
    module.load_state_dict(dict(tensors))


def check_names(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, what: str) -> None:
    """Raise WeightsError unless `found` has exactly the names and shapes of `wanted`."""
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & found.keys())
        if found[name].shape != wanted[name].shape
    ]
    complaints = [
        f"{label}: {_listed(names)}"
        for label, names in (
            ("missing", sorted(wanted.keys() - found.keys())),
            ("unexpected", sorted(found.keys() - wanted.keys())),
            ("of another shape", shapes),
        )
        if names
    ]
    if complaints:
        raise WeightsError(f"the weights do not fit {what}; {'; '.join(complaints)}; was it another recipe?")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
