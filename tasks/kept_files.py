"""Files that are costly to make and cheap to make again, kept in a folder within a budget of bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BUDGET_BYTES = 20 * 10**9
"""By default; never more than half of what is free on the disk. A song of ten minutes decodes to about 100 MB."""


@dataclass(frozen=True, kw_only=True)
class KeptFiles:
    """A folder that any number of processes share; the file that was used longest ago goes first."""

    folder: Path
    budget_bytes: int = BUDGET_BYTES

    def of(self, source: Path, stream: int, write: Callable[[Path], None]) -> Path:
        """The kept file of one stream of `source` as it is now; `write` makes it where it is not there.

        Two processes that make the same file at the same time both make it whole, with the same bytes.
        """
        stat = source.stat()
        identity = json.dumps([str(source.resolve()), stat.st_size, stat.st_mtime_ns, stream])
        path = self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.kept"
        try:
            os.utime(path)
            return path
        except FileNotFoundError:
            pass
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            write(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        self._make_room(path)
        return path

    def _make_room(self, newest: Path) -> None:
        """Removes the files used longest ago, never the newest; who has one open goes on reading it."""
        files = []
        for path in self.folder.glob("*.kept"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # another process made room
            files.append((stat.st_mtime_ns, stat.st_size, path))
        budget = min(self.budget_bytes, shutil.disk_usage(self.folder).free // 2 + sum(size for _, size, _ in files))
        used = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if used <= budget:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                used -= size


def default_kept_files() -> KeptFiles:
    """In the system's folder for temporary files (TMPDIR), one folder a user."""
    return KeptFiles(folder=Path(tempfile.gettempdir()) / f"stemwright-decoded-{os.getuid()}")
