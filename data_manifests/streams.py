"""Independent random streams for the parts of one song, each addressed by words rather than by order of use."""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, *address: str | int) -> np.random.Generator:
    """The generator of one purpose, e.g. `stream(7, 3, "notes", "bass")`: the bass player of song 3 under seed 7.

    The address becomes the spawn key of a `SeedSequence` child. Words are hashed rather than counted, so a new role
    or a new purpose moves no other stream: adding a player leaves the bytes of the others alone.
    """
    key = tuple(zlib.crc32(word.encode()) if isinstance(word, str) else word for word in address)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
