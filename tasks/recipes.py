"""Recipes as JSON text and back: typed, closed, no code in it."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

from models import (
    arms,
    batch,
    bridge,
    codec_consistency,
    codecs,
    consistency,
    dit,
    edm,
    guidance,
    sampling,
    small_clap,
    training,
)
from tasks.fingerprint import canonical

_HOMES = (
    arms,
    batch,
    bridge,
    codec_consistency,
    codecs,
    consistency,
    dit,
    edm,
    guidance,
    sampling,
    small_clap,
    training,
)
_TYPES: dict[str, type] = {
    name: value
    for home in _HOMES
    for name, value in vars(home).items()
    if isinstance(value, type) and (is_dataclass(value) or issubclass(value, Enum))
}


def dump_recipe(recipe: Any) -> str:
    """The canonical JSON of a recipe, indented for people."""
    return json.dumps(canonical(recipe), indent=1, sort_keys=True, ensure_ascii=False)


def load_recipe(text: str) -> Any:
    """The recipe that `dump_recipe` wrote. Raises ValueError for a type that this version does not know."""
    return _build(json.loads(text))


def _build(value: Any) -> Any:
    match value:
        case {"enum": kind, "name": name}:
            return _known(kind)[name]  # type: ignore[index]  # an Enum class is indexed by name
        case {"type": kind, **values}:
            return _known(kind)(**{str(name): _build(item) for name, item in values.items()})
        case dict():
            return {name: _build(item) for name, item in value.items()}
        case list():
            return tuple(_build(item) for item in value)
    return value


def _known(name: str) -> type:
    if name not in _TYPES:
        raise ValueError(f"a recipe names the type {name!r}, which this version does not have; rebuild the artifact")
    return _TYPES[name]
