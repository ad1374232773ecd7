"""Recipes from JSON: typed, closed, no code in it. What belongs to a recipe is a dataclass or enum of these modules."""

from __future__ import annotations

from dataclasses import is_dataclass
from enum import Enum
from importlib import import_module
from typing import Any

_HOMES = (
    *("arms", "batch", "bridge", "clap", "codec_consistency", "codecs", "conditioning", "consistency", "dit", "edm"),
    *("guidance", "sampling", "small_clap", "training"),
)
_TYPES: dict[str, type] = {
    name: value
    for home in _HOMES
    for name, value in vars(import_module(f"models.{home}")).items()
    if isinstance(value, type) and (is_dataclass(value) or issubclass(value, Enum))
}


def recipe_of(value: Any) -> Any:
    """The recipe that canonical JSON (`tasks.fingerprint.canonical`) tells of.

    Raises ValueError for a damaged one, and for a type that this version does not have.
    """
    try:
        return _built(value)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"a recipe cannot be read ({error!r}); make the result or the model again") from error


def _built(value: Any) -> Any:
    match value:
        case {"enum": kind, "name": name}:
            return _known(kind)[name]  # type: ignore[index]  # an Enum class is indexed by name
        case {"type": kind, **values}:
            return _known(kind)(**{str(name): _built(item) for name, item in values.items()})
        case dict():
            return {name: _built(item) for name, item in value.items()}
        case list():
            return tuple(_built(item) for item in value)
    return value


def _known(name: str) -> type:
    if name not in _TYPES:
        raise ValueError(
            f"a recipe names the type {name!r}, which this version of Stemwright does not have; "
            "make the result again, or use the version that made it"
        )
    return _TYPES[name]
