"""Whether finished windows are still what was written: sizes, digests, counts, and a decode of every sample."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.artifact import Artifact
from tasks.audio import UnreadableAudio
from tasks.audio_bytes import decode_flac
from tasks.cluster import fan_out
from tasks.runtime import Runtime
from tasks.shard_folder import shards_in
from tasks.shards import BrokenShard, ShardIndex, check_digest, check_size, read_index, read_members
from tasks.storage import Place, is_remote, joined, local_copy, name_of, sizes_in

MEMBERS = ("target.flac", "context.flac", "style.flac", "json")


@dataclass(frozen=True, kw_only=True)
class ShardCheck:
    """One shard: the windows that were read from it, and what is wrong with it, each thing named."""

    shard: str
    windows: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class WindowsReport:
    """The shards of a result, checked one by one."""

    shards: tuple[ShardCheck, ...]

    @property
    def windows(self) -> int:
        return sum(shard.windows for shard in self.shards)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(problem for shard in self.shards for problem in shard.problems)

    @property
    def passed(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """The report as a terminal shows it: what is broken, and the sum."""
        broken = sum(bool(shard.problems) for shard in self.shards)
        said = f"{len(self.shards)} shards, {self.windows} windows read: "
        return [*self.problems, said + (f"{broken} shards are broken" if broken else "all whole")]


def verify_windows(windows: Artifact | Place, runtime: Runtime) -> WindowsReport:
    """Check every shard of a windows result, of its folder, or of a folder of shards such as s3://bucket/prefix.

    Raises ValueError where there are no shards.
    """
    folder = windows.path if isinstance(windows, Artifact) else windows
    shards = _expected_shards(folder)
    if not shards:
        raise ValueError(f"{folder}: no shards; expected the folder of a windows result, artifacts/windows/<key>")
    return WindowsReport(tuple(fan_out(runtime, check_shard, shards, title="verify windows")))


def _expected_shards(folder: Place) -> list[str]:
    """The shards that are there, and those that the result's record promises."""
    if is_remote(folder):
        return [joined(folder, name) for name in sorted(sizes_in(folder)) if name.endswith(".tar")]
    path = Path(folder)
    there = {name_of(shard): shard for shard in shards_in(path)}
    record = path / "record.json"
    promised = json.loads(record.read_text(encoding="utf-8"))["files"] if record.exists() else {}
    names = sorted({*there, *(name for name in promised if name.endswith(".tar"))})
    return [there.get(name, joined(path, name)) for name in names]


def check_shard(shard: str) -> ShardCheck:
    """What is wrong with one shard; one of another size or without an index is not looked into."""
    try:
        index = read_index(shard)
        check_size(shard, index)
    except BrokenShard as error:
        return ShardCheck(shard=shard, windows=0, problems=(str(error),))
    with local_copy(shard) as copy:
        return _check_copy(shard, copy, index)


def _check_copy(shard: str, copy: Path, index: ShardIndex) -> ShardCheck:
    """The digest first; where it differs, the samples tell which window it is."""
    problems: list[str] = []
    keys: list[str] = []
    try:
        check_digest(shard, copy, index)
    except BrokenShard as error:
        problems.append(str(error))
    try:
        for key, members in read_members(copy):
            keys.append(key)
            problems += [f"{shard}: window {key}: {problem}" for problem in _window_problems(members)]
    except (tarfile.TarError, ValueError) as error:
        problems.append(f"{shard}: not readable after {len(keys)} of {index.count} windows: {error}")
    else:
        if tuple(keys) != index.keys:
            problems.append(f"{shard}: {len(keys)} windows, which are not the {index.count} of its index")
    return ShardCheck(shard=shard, windows=len(keys), problems=tuple(problems))


def _window_problems(members: dict[str, bytes]) -> Iterator[str]:
    """What is wrong with one window: members, decoding, lengths."""
    if set(members) != set(MEMBERS):
        yield f"holds {', '.join(sorted(members))}; expected {', '.join(sorted(MEMBERS))}"
        return
    try:
        told = json.loads(members["json"])
        window, segments = told["window_samples"], len(told["style_starts_samples"])
    except (ValueError, KeyError, TypeError) as error:
        yield f"its record cannot be read ({error})"
        return
    expected = {"target.flac": window, "context.flac": window, "style.flac": window * segments}
    for name, samples in expected.items():
        try:
            found = decode_flac(members[name]).shape[1]
        except UnreadableAudio as error:
            yield f"{name}: {error}"
        else:
            if found != samples:
                yield f"{name}: {found} samples; expected {samples}"
