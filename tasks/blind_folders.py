"""A blind listening test of stems of any origin: folders of candidates, of what they accompany, and of real stems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.audio import read_window
from tasks.blind_key import ANCHOR, REAL, AskedWindow, asked_windows
from tasks.blind_material import audible, low_passed
from tasks.evaluate_clips import named_files, track_of
from tasks.examples import HEARD_SAMPLES
from tasks.windows import level_db

# Shapes: S channels (2), N samples at 48 kHz.

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Folders:
    """The sounds of a test, read when they are asked for; each is the first ten seconds at its own level, (2, N).

    Files belong together as for `stemwright evaluate`: by their path below their folder without the extension, and
    those of one subfolder are of one song. `systems` are the folders of candidates by name.
    """

    systems: Mapping[str, Path]
    contexts: Path
    targets: Path

    def asked(self, items: int, *, seed: int) -> tuple[AskedWindow, ...]:
        """So many names that every folder has and that are audible, of as many songs as can be."""
        return asked_windows(list(self._audible()), items, seed=seed)

    def context(self, window: AskedWindow) -> Audio:
        return self._heard(self.contexts, window.key)

    def stem(self, system: str, window: AskedWindow) -> Audio:
        """What a system played to the window; REAL and ANCHOR are systems too."""
        if system == REAL:
            return self._heard(self.targets, window.key)
        if system == ANCHOR:
            return low_passed(self._heard(self.targets, window.anchor))
        return self._heard(self.systems[system], window.key)

    def _audible(self) -> Iterator[tuple[str, str]]:
        """Name and song of all that can be asked."""
        for name in sorted(set.intersection(*map(set, self._files.values()))):
            if all(audible(level_db(self._heard(folder, name))) for folder in (self.contexts, self.targets)):
                yield name, track_of(name)

    def _heard(self, folder: Path, name: str) -> Audio:
        return read_window(folder / self._files[folder][name], 0, HEARD_SAMPLES)

    @cached_property
    def _files(self) -> dict[Path, dict[str, str]]:
        """The audio files of every folder by name."""
        return {folder: named_files(folder) for folder in (*self.systems.values(), self.contexts, self.targets)}
