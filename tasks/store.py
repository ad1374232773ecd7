"""The store of results: the only place where one comes into being, whole or not at all.

A result is a directory `artifacts/<stage>/<key>` with its `record.json`. It is built in a scratch directory beside
it, the record is written last, and one rename makes it exist. Finding the directory is a hit; a directory whose
files are missing or of another size is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.artifact import Artifact
from tasks.code_digest import code_behind
from tasks.file_lock import locked
from tasks.leftovers import LOCK, REMOVED, UNBUILT
from tasks.runtime import Runtime, code_version, package_versions
from tasks.shard_folder import ELSEWHERE, BadShardList, files_elsewhere, remove_elsewhere, remove_files, sizes_elsewhere
from tasks.step import Step
from tasks.whole_files import file_sha256, write_whole

RECORD = "record.json"


class BadRecord(ValueError):
    """A record that is damaged; its result is no finished one."""


class Flawed(Exception):
    """What keeps a directory from being a result."""


@dataclass(frozen=True)
class Store:
    """The results of one workspace."""

    root: Path

    def find(self, step: Step) -> Artifact | None:
        """The finished result of a step, or None where there is none or where it is damaged."""
        if step.waits:
            return None
        record = self.look(step.stage, step.key())
        return self.artifact(record) if record else None

    def look(self, stage: str, key: str) -> dict[str, Any] | None:
        """The record of a finished result, read once; None where there is none or where it is damaged."""
        try:
            return _whole(self._home(stage, key))
        except Flawed:
            return None

    def artifact(self, record: dict[str, Any]) -> Artifact:
        """The finished result of a record."""
        home = self._home(record["stage"], record["key"])
        return Artifact(stage=record["stage"], key=record["key"], location=str(home), digest=record["digest"])

    def build(self, step: Step, runtime: Runtime) -> Artifact:
        """The result of a step: found, or made and then found. One process builds, others wait for it."""
        home = self._home(step.stage, step.key())
        home.parent.mkdir(parents=True, exist_ok=True)
        with locked(_lock(home)):
            found = self.look(step.stage, step.key())
            return self.artifact(found) if found else self._make(step, home, runtime)

    def records(self, stage: str | None = None) -> Iterator[dict[str, Any]]:
        """The records of all finished results, by stage and key; one that cannot be read is no finished result."""
        for path in sorted(self.root.glob(f"{stage or '*'}/[!.]*/{RECORD}")):
            with suppress(BadRecord):
                yield _told(path.parent)

    def record(self, artifact: Artifact) -> dict[str, Any]:
        """The record of one finished result."""
        return _told(artifact.path)

    def flaw(self, stage: str, key: str) -> str | None:
        """What is wrong with a result that has a directory; None where it is whole, or where there is none."""
        home = self._home(stage, key)
        if not home.exists():
            return None
        try:
            _whole(home)
        except Flawed as flaw:
            return str(flaw)
        return None

    def remove(self, stage: str, key: str) -> None:
        """Forget one result. The rename comes first, so that no half of it is ever found."""
        home = self._home(stage, key)
        doomed = home.with_name(f"{REMOVED}{key}-{os.getpid()}")
        with locked(_lock(home)):
            home.rename(doomed)
        remove_elsewhere(doomed, stage, key)
        shutil.rmtree(doomed)

    def begin_anew(self, step: Step) -> None:
        """Forget what an interrupted build of a step left to go on from."""
        home = self._home(step.stage, step.key())
        home.parent.mkdir(parents=True, exist_ok=True)
        with locked(_lock(home)):
            shutil.rmtree(_scratch(home), ignore_errors=True)

    def reopen(self, stage: str, key: str, *, without: str) -> list[str]:
        """Make a result unfinished again, without its files of this prefix, and name them.

        A resumable step makes just those again; any other starts over.
        """
        home = self._home(stage, key)
        scratch = _scratch(home)
        with locked(_lock(home)):
            doomed = [name for name in _told(home)["files"] if name.startswith(without)]
            shutil.rmtree(scratch, ignore_errors=True)
            home.rename(scratch)
            (scratch / RECORD).unlink()
            remove_files(scratch, doomed)
        return doomed

    def rewrite(self, record: dict[str, Any]) -> None:
        """Put a record in the place of the one that the same result has; the contents stay what they are."""
        home = self._home(record["stage"], record["key"])
        with locked(_lock(home)):
            _write(home / RECORD, record)

    def _home(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def _make(self, step: Step, home: Path, runtime: Runtime) -> Artifact:
        scratch = _scratch(home)
        if not step.resumable:
            shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(exist_ok=True)
        modules = code_behind(step.made_by)  # as it is now: it may be edited while the step runs
        started = time.monotonic()
        summary = step.run(scratch, runtime) or {}
        for stray in scratch.rglob("*.partial"):  # what a killed writer of an earlier try left in a resumed folder
            stray.unlink()
        seconds = time.monotonic() - started
        _write(scratch / RECORD, _record(step, _files(scratch), summary, modules, seconds=seconds, runtime=runtime))
        shutil.rmtree(home, ignore_errors=True)  # a damaged result, or nothing
        scratch.rename(home)
        _sync(home.parent)
        made = self.look(step.stage, step.key())
        assert made is not None, f"{home} was just built and cannot be read back"
        return self.artifact(made)


def _record(
    step: Step,
    files: dict[str, dict[str, Any]],
    summary: dict[str, Any],
    modules: dict[str, str],
    *,
    seconds: float,
    runtime: Runtime,
) -> dict[str, Any]:
    return {
        "key": step.key(),
        "digest": _content_digest(files),
        "stage": step.stage,
        "version": step.version,
        "describe": step.describe(),
        "identity": step.canonical_identity(),
        "inputs": {name: {"stage": item.stage, "key": item.key, "digest": item.digest} for name, item in step.needs()},
        "files": files,
        "summary": summary,
        "made_by": step.made_by,
        "modules": modules,
        "code": code_version(),
        "packages": package_versions(),
        "runtime": runtime.record(),
        "seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def _write(path: Path, record: dict[str, Any]) -> None:
    write_whole(path, json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False).encode())


def _whole(home: Path) -> dict[str, Any]:
    """The record of a result whose files are all there in their size; no byte of them is read. Raises Flawed."""
    try:
        sizes = sizes_elsewhere(home)  # a store that cannot be asked is an error, not a damaged result
    except BadShardList as error:
        raise Flawed(str(error)) from error
    try:
        record = _told(home)
        for name, entry in record["files"].items():
            found = sizes[name] if name in sizes else (home / name).stat().st_size
            if found != entry["bytes"]:
                raise Flawed(f"{name} has {found:,} bytes, not {entry['bytes']:,}")
    except FileNotFoundError as error:
        raise Flawed(f"{Path(error.filename).relative_to(home)} is gone") from error
    except (OSError, ValueError) as error:
        raise Flawed(f"{RECORD} cannot be read: {error}") from error
    return record


_FIELDS = {"key": str, "digest": str, "stage": str, "describe": str, "made_by": str, "finished": str, "version": int}
_FIELDS |= {"identity": dict, "inputs": dict, "files": dict, "summary": dict}


def _told(home: Path) -> dict[str, Any]:
    """The record of a finished result. Raises BadRecord where it is damaged, FileNotFoundError where there is none."""
    try:
        record = json.loads((home / RECORD).read_text(encoding="utf-8"))
        _check(record, key=home.name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadRecord(f"{home / RECORD} is damaged ({error!r}); run again, which makes the result again") from error
    return record


def _check(record: dict[str, Any], *, key: str) -> None:
    """Raise ValueError, KeyError or TypeError for what is no record of that result: others may write to the folder."""
    for name, kind in _FIELDS.items():
        if not isinstance(record[name], kind):
            raise TypeError(f"{name} is {record[name]!r:.60}")
    if record["key"] != key:
        raise ValueError(f"it is the record of {record['key']}")
    for name, entry in record["files"].items():
        if name.startswith("/") or ".." in name.split("/") or not isinstance(entry["bytes"], int):
            raise ValueError(f"it names the file {name!r} with {entry!r:.60}")
    for name, entry in record["inputs"].items():
        if not isinstance(entry["digest"], str) or not isinstance(entry["key"], str | None):
            raise TypeError(f"its input {name} is {entry!r:.60}")


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


def _lock(home: Path) -> Path:
    return home.with_name(f".{home.name}{LOCK}")


def _scratch(home: Path) -> Path:
    return home.with_name(f"{UNBUILT}{home.name}")


def _sync(folder: Path) -> None:
    """Make a rename durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
