"""The identity of a result: equal inputs give equal keys, in every process and on every machine."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from tasks.artifact import Artifact

KEY_LENGTH = 24  # hexadecimal digits: 96 bits, readable in a path


class UnstableValueError(TypeError):
    """A value whose identity would differ between processes or machines was offered as part of a key."""


def fingerprint(stage: str, version: int, **identity: Any) -> str:
    """The key of a result: sha256 of the canonical JSON of its stage, version and identity, 24 hex digits.

    Raises UnstableValueError for anything but scalars, tuples, dicts with text keys, enums, frozen dataclasses and
    finished artifacts.
    """
    text = canonical_json({"stage": stage, "version": version, "identity": identity})
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def canonical_json(value: Any) -> str:
    """One spelling for one value: sorted keys, no spaces, shortest exact floats."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def canonical(value: Any, where: str = "identity") -> Any:  # noqa: PLR0911 - one return a kind of value
    """The JSON form of an identity; artifacts become their content digest, dataclasses carry their type's name."""
    match value:
        case None | bool() | int() | str() if not isinstance(value, Enum):
            return value
        case float():
            return _finite(value, where)
        case Enum():
            return {"enum": type(value).__name__, "name": value.name}
        case Artifact():
            return _digest(value, where)
        case tuple():
            return [canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
        case dict():
            return {_text(key, where): canonical(item, f"{where}.{key}") for key, item in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type) and type(value).__dataclass_params__.frozen:  # type: ignore[attr-defined]  # typeshed hides the flag
            named = {
                field.name: canonical(getattr(value, field.name), f"{where}.{field.name}") for field in fields(value)
            }
            return {"type": type(value).__name__, **named}
    raise UnstableValueError(
        f"{where} is {value!r}, a {type(value).__name__}, which has no stable identity; "
        "give scalars, tuples, text-keyed dicts, enums, frozen dataclasses or finished artifacts"
    )


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise UnstableValueError(f"{where} is {value}, and only finite numbers can be part of a key")
    return value


def _digest(artifact: Artifact, where: str) -> dict[str, str]:
    if artifact.digest is None:
        raise UnstableValueError(f"{where} is a planned {artifact.stage} artifact, which has no contents yet")
    return {"artifact": artifact.digest}


def _text(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise UnstableValueError(f"{where} has the key {key!r}; only text keys sort the same everywhere")
    return key
