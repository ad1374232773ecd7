"""Digests of files, remembered by size and times, so that only files that changed are read again."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from data_manifests.schema import Quarantined
from tasks.whole_files import file_sha256, write_whole

Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


class FileDigests:
    """sha256 of files by path, size and times of change; kept in one JSON file when `save` is called."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, str] = {}
        self._is_changed = False
        if path is not None and path.exists():
            self._known = _remembered(path)

    def of(self, root: Path, names: Iterable[str], map_: Map = map) -> dict[str, str | Quarantined]:
        """name -> digest of each file below `root`, or why it has none. `map_` may spread the reading over workers."""
        top = f"{root.resolve()}{os.sep}"
        stamps = {name: stamp_of(top + name) for name in names}
        unknown = [
            name for name, stamp in stamps.items() if isinstance(stamp, str) and top + name + stamp not in self._known
        ]
        for name, digest in zip(unknown, map_(_digest, [top + name for name in unknown]), strict=True):
            if isinstance(digest, str) and stamp_of(top + name) == stamps[name]:
                self._known[top + name + str(stamps[name])] = digest
                self._is_changed = True
            else:
                reason = digest.reason if isinstance(digest, Quarantined) else CHANGED
                stamps[name] = Quarantined(path=name, reason=reason)
        return {
            name: self._known[top + name + stamp]
            if isinstance(stamp, str)
            else Quarantined(path=name, reason=stamp.reason)
            for name, stamp in stamps.items()
        }

    def save(self) -> None:
        if self._is_changed and self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(self._known, indent=0, sort_keys=True).encode())
            self._is_changed = False


def _remembered(path: Path) -> dict[str, str]:
    """What the file holds; nothing, with a warning, where it is damaged: all that is lost is the time to read again."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict) or not all(isinstance(digest, str) for digest in known.values()):
            raise ValueError("no names with digests")
    except (ValueError, RecursionError) as error:
        logging.getLogger("stemwright").warning("%s is damaged (%s): every file is read again", path, error)
        return {}
    return known


CHANGED = "changed while it was read; run again when it is whole"


def stamp_of(path: str) -> str | Quarantined:
    """What changes when a file's bytes do: its size and times. A pipe or a device would never end and has none."""
    try:
        found = Path(path).stat()
    except OSError as error:
        return Quarantined(path=path, reason=f"there is no such file ({error.strerror}); a link to nowhere?")
    if not stat.S_ISREG(found.st_mode):
        return Quarantined(path=path, reason="no regular file")
    return f"\n{found.st_size}\n{found.st_mtime_ns}\n{found.st_ctime_ns}"


def _digest(path: str) -> str | Quarantined:
    try:
        return file_sha256(Path(path))
    except OSError as error:
        return Quarantined(path=path, reason=f"cannot be read: {error.strerror}")
