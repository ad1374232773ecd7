"""The store of results: the only place where one comes into being, whole or not at all.

A result is a directory `artifacts/<stage>/<key>` with its `record.json`. It is built in a scratch directory beside
it, the record is written last, and one rename makes it exist. Finding the directory is a hit; a directory whose
files are missing or of another size is not.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.artifact import Artifact
from tasks.runtime import Runtime, code_version, package_versions
from tasks.shard_folder import ELSEWHERE, files_elsewhere, remove_elsewhere, sizes_elsewhere
from tasks.step import Step
from tasks.whole_files import file_sha256, write_whole

RECORD = "record.json"


@dataclass(frozen=True)
class Store:
    """The results of one workspace."""

    root: Path

    def find(self, step: Step) -> Artifact | None:
        """The finished result of a step, or None where there is none or where it is damaged."""
        if step.waits:
            return None
        return self._read(self._home(step.stage, step.key()))

    def build(self, step: Step, runtime: Runtime) -> Artifact:
        """The result of a step: found, or made and then found. One process builds, others wait for it."""
        home = self._home(step.stage, step.key())
        home.parent.mkdir(parents=True, exist_ok=True)
        with _locked(home.with_name(f".{home.name}.lock")):
            found = self._read(home)
            return found or self._make(step, home, runtime)

    def records(self, stage: str | None = None) -> Iterator[dict[str, Any]]:
        """The records of all finished results, by stage and key."""
        for path in sorted(self.root.glob(f"{stage or '*'}/*/{RECORD}")):
            yield json.loads(path.read_text(encoding="utf-8"))

    def record(self, artifact: Artifact) -> dict[str, Any]:
        """The record of one finished result."""
        return json.loads((artifact.path / RECORD).read_text(encoding="utf-8"))

    def remove(self, stage: str, key: str) -> None:
        """Forget one result. The rename comes first, so that no half of it is ever found."""
        home = self._home(stage, key)
        doomed = home.with_name(f".removed-{key}-{os.getpid()}")
        home.rename(doomed)
        remove_elsewhere(doomed)
        shutil.rmtree(doomed)

    def _home(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def _read(self, home: Path) -> Artifact | None:
        sizes = sizes_elsewhere(home)  # a store that cannot be asked is an error, not a damaged result
        try:
            record = json.loads((home / RECORD).read_text(encoding="utf-8"))
            whole = all(
                (sizes[name] if name in sizes else (home / name).stat().st_size) == entry["bytes"]
                for name, entry in record["files"].items()
            )
        except (OSError, ValueError, KeyError):
            return None
        if not whole:
            return None
        return Artifact(stage=record["stage"], key=record["key"], location=str(home), digest=record["digest"])

    def _make(self, step: Step, home: Path, runtime: Runtime) -> Artifact:
        scratch = home.with_name(f".building-{home.name}")
        if not step.resumable:
            shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(exist_ok=True)
        started = time.monotonic()
        summary = step.run(scratch, runtime) or {}
        for stray in scratch.rglob("*.partial"):  # what a killed writer of an earlier try left in a resumed folder
            stray.unlink()
        _write_record(step, scratch, summary=summary, seconds=time.monotonic() - started, runtime=runtime)
        shutil.rmtree(home, ignore_errors=True)  # a damaged result, or nothing
        scratch.rename(home)
        _sync(home.parent)
        artifact = self._read(home)
        assert artifact is not None, f"{home} was just built and cannot be read back"
        return artifact


def _write_record(step: Step, scratch: Path, *, summary: dict[str, Any], seconds: float, runtime: Runtime) -> None:
    files = _files(scratch)
    record = {
        "key": step.key(),
        "digest": _content_digest(files),
        "stage": step.stage,
        "version": step.version,
        "describe": step.describe(),
        "identity": step.canonical_identity(),
        "inputs": {name: {"stage": item.stage, "key": item.key, "digest": item.digest} for name, item in step.needs()},
        "files": files,
        "summary": summary,
        "code": code_version(),
        "packages": package_versions(),
        "runtime": runtime.record(),
        "seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_whole(scratch / RECORD, json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode())


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Name, size and sha256 of everything a result holds, here or under a shard root."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in (RECORD, ELSEWHERE)]
    here = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in paths
    }
    return dict(sorted((here | files_elsewhere(folder)).items()))


def _content_digest(files: dict[str, dict[str, Any]]) -> str:
    """The digest of a result; what was only observed on the way (`log/`: times, rates) is no part of it."""
    named = sorted((name, entry["sha256"]) for name, entry in files.items() if not name.startswith("log/"))
    lines = "".join(f"{name}\0{sha256}\n" for name, sha256 in named)
    return hashlib.sha256(lines.encode()).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that the kernel frees if the holder dies."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sync(folder: Path) -> None:
    """Make a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
