"""The state of a training on disk: the newest saves, each whole, and which of them counts with its digest."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from models.weights import WeightsError, load_weights, save_weights
from tasks.whole_files import write_whole

POINTER = "state.json"
KEPT = 2  # the one that counts, and the one before it should somebody damage that


def save_state(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state beside the older ones and then, in one rename, make it the one that counts."""
    step = int(state["step"])
    path = folder / f"state-{step:09d}.safetensors"
    told = {"file": path.name, "step": step, "sha256": save_weights(path, state, {})}
    before = _pointer(folder)
    if before:
        told["before"] = {name: value for name, value in before.items() if name != "before"}
    write_whole(folder / POINTER, json.dumps(told).encode())
    for old in _states(folder)[:-KEPT]:
        old.unlink()


def load_state(folder: Path) -> dict[str, Tensor] | None:
    """The state that counts, or None where nothing was saved.

    One that is damaged gives way to the one before it, with a warning. Raises WeightsError where there is none.
    """
    told = _pointer(folder)
    if told is None:
        return None
    path = folder / told["file"]
    try:
        return load_weights(path, told["sha256"])[0]
    except (WeightsError, FileNotFoundError) as error:
        if "before" not in told:
            raise WeightsError(
                f"the saved state of this training cannot be used: {error}; put the file back, or remove "
                f"{folder / POINTER} to begin anew"
            ) from error
        logging.getLogger("stemwright").warning("%s; going on from the state before it", error)
    path.unlink(missing_ok=True)
    write_whole(folder / POINTER, json.dumps(told["before"]).encode())
    return load_state(folder)


def drop_states(folder: Path) -> None:
    """Forget them all: the training has ended."""
    for path in (folder / POINTER, *_states(folder)):
        path.unlink(missing_ok=True)


def _pointer(folder: Path) -> dict[str, Any] | None:
    """What is known of the state that counts, with the one before it. Raises WeightsError where it is damaged."""
    path = folder / POINTER
    if not path.exists():
        return None
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for state in (told, told["before"]) if "before" in told else (told,):
            if Path(state["file"]).name != state["file"] or not isinstance(state["sha256"], str):
                raise ValueError(f"it names {state['file']!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged ({error!r}); put it back, or remove it to begin anew") from error
    return told


def _states(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("state-*.safetensors"))
