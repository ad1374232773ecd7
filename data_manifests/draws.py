"""Random numbers that are functions of what they are for: no state, the same for one row as for a million."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

# Shapes: N rows.

Integers = NDArray[np.int64] | NDArray[np.uint64]

# SplitMix64 (Steele, Lea, Flood 2014): the golden-ratio increment and the two multipliers of its finaliser.
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def bits(seed: int, purpose: str, *identities: Integers) -> NDArray[np.uint64]:
    """64 random bits per row, from the seed, what they are for and the row's identities, arrays of integers.

    A chain of SplitMix64 finalisers: the same on every machine, in every process and at every position.
    """
    state_N = np.array([text_bits(f"{seed}/{purpose}")], dtype=np.uint64)
    for identity_N in identities:
        state_N = _mixed(_mixed(identity_N.astype(np.uint64) + _INCREMENT) ^ (state_N + _INCREMENT))
    return state_N


def below(size_N: Integers, seed: int, purpose: str, *identities: Integers) -> NDArray[np.int64]:
    """A whole number from 0 to size - 1 per row; sizes are at least 1."""
    return (bits(seed, purpose, *identities) % size_N.astype(np.uint64)).astype(np.int64)


def unit(seed: int, purpose: str, *identities: Integers) -> NDArray[np.float64]:
    """A number from 0 up to, never reaching, 1 per row."""
    return (bits(seed, purpose, *identities) >> np.uint64(11)) * 2.0**-53


def text_bits(text: str) -> int:
    """64 bits of a name, the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(value_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value_N = (value_N ^ (value_N >> np.uint64(30))) * _FIRST
    value_N = (value_N ^ (value_N >> np.uint64(27))) * _SECOND
    return value_N ^ (value_N >> np.uint64(31))
