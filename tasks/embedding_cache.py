"""Embeddings that were computed before: a folder of the workspace, by the bytes that were heard and by the space.

A result of the store is found again only as a whole; here each window's audio is. So windows that two stages share,
that a larger set has in common with a smaller one, or that are mixed in another way are embedded once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.clap import ClapSpec
from tasks.npy_file import read_npy

VERSION = 1
"""Raised when one space's vectors of the same bytes come out otherwise than before."""

FOLDER = "embeddings"


class EmbeddingCache:
    """The embeddings of one space on one kind of device (their last digits differ), shared by all workers."""

    def __init__(self, workspace: Path, *, spec: ClapSpec, device: str) -> None:
        space = json.dumps({"version": VERSION, "device": device, **asdict(spec)}, sort_keys=True)
        self._folder = workspace / FOLDER / hashlib.sha256(space.encode()).hexdigest()[:24]

    def found_or_made(
        self, heard: Sequence[bytes], how: str, make: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Embeddings of the audio in the bytes `heard`, listened to as `how` says: those kept, or what `make` gives."""
        path = self._path(heard, how)
        try:
            with path.open("rb") as file:
                return read_npy(file, str(path))
        except (OSError, ValueError):  # not there, or torn by a loss of power
            array = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        with partial.open("wb") as file:  # no fsync: a lost one is made again
            np.save(file, array)
        partial.replace(path)
        return array

    def _path(self, heard: Sequence[bytes], how: str) -> Path:
        digests = [hashlib.sha256(data).hexdigest() for data in heard]
        name = hashlib.sha256("\0".join([how, *digests]).encode()).hexdigest()
        return self._folder / name[:2] / f"{name[2:]}.npy"
