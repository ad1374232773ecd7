"""Keys: the same for the same inputs everywhere, and refused for what has no stable identity."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import pytest

from tasks.artifact import Artifact, planned
from tasks.fingerprint import UnstableValueError, fingerprint
from tasks.recipes import dump_recipe, load_recipe


@dataclass(frozen=True, kw_only=True)
class Sizes:
    width: int
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Shape:
    width: int
    ratio: float


@dataclass
class Mutable:
    width: int


class Kind(Enum):
    ONE = 1


ARTIFACT = Artifact(stage="windows", key="k", location="/here", digest="d" * 64)


def test_a_key_does_not_depend_on_process_or_hash_seed() -> None:
    code = "from tasks.fingerprint import fingerprint; print(fingerprint('s', 1, a=(1, 2.5), b={'y': None, 'x': 'é'}))"
    keys = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert keys == {f"{fingerprint('s', 1, b={'x': 'é', 'y': None}, a=(1, 2.5))}\n"}


def test_stage_version_field_and_type_each_change_the_key() -> None:
    sizes = Sizes(width=1, ratio=0.5)
    keys = [
        fingerprint("a", 1, sizes=sizes),
        fingerprint("b", 1, sizes=sizes),
        fingerprint("a", 2, sizes=sizes),
        fingerprint("a", 1, sizes=replace(sizes, ratio=0.25)),
        fingerprint("a", 1, sizes=Shape(width=1, ratio=0.5)),
        fingerprint("a", 1, other=sizes),
    ]
    assert len(set(keys)) == len(keys)


def test_an_artifact_is_its_contents_wherever_it_lies() -> None:
    moved = replace(ARTIFACT, location="/there", key="other", stage="renamed")
    assert fingerprint("s", 1, windows=ARTIFACT) == fingerprint("s", 1, windows=moved)
    assert fingerprint("s", 1, windows=ARTIFACT) != fingerprint("s", 1, windows=replace(ARTIFACT, digest="e" * 64))


@pytest.mark.parametrize(
    "value",
    [Path("a"), {1, 2}, [1], Mutable(1), float("nan"), float("inf"), {1: "a"}, object(), b"bytes", planned("x"), Sizes],
)
def test_what_has_no_stable_identity_is_refused_by_name(value: object) -> None:
    with pytest.raises(UnstableValueError, match="identity"):
        fingerprint("s", 1, value=value)


def test_every_arm_survives_its_own_json() -> None:
    from models.arms import ARMS

    for arm in ARMS:
        assert load_recipe(dump_recipe(arm)) == arm
