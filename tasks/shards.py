"""Webdataset shards that are written whole or not at all, byte for byte the same every time, and checked on reading."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.whole_files import file_sha256, replacing

Sample = Mapping[str, Any]
"""`__key__` (text) and bytes per member, named by its extension: {"target.flac": b"...", "json": b"..."}."""

_KEY = re.compile(r"[a-z0-9_-]+")  # webdataset ends a key at its first dot
_EXTENSION = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_EXECUTABLE = ("pickle", "pkl", "pyd", "pth", "pt", "ckpt", "joblib")
"""Members that readers unpickle, and so run as code."""


class BrokenShard(ValueError):
    """A shard that is not what its index says, or holds what no shard may hold."""


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """What is written beside a shard, after it: a truncated tar reads short without an error."""

    count: int
    bytes: int
    sha256: str
    keys: tuple[str, ...]


def write_shard(path: Path, samples: Iterable[Sample]) -> ShardIndex:
    """Write the samples in their order as a tar and, when it is in place, its index `<name>.json`.

    webdataset's TarWriter is not used: it encodes by extension (pickles included) and leaves atomicity to us.
    """
    keys: list[str] = []
    with replacing(path) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                _add(tar, sample, set(keys))
                keys.append(sample["__key__"])
        if not keys:
            raise ValueError(f"{path}: a shard needs at least one sample")
    index = ShardIndex(count=len(keys), bytes=path.stat().st_size, sha256=file_sha256(path), keys=tuple(keys))
    with replacing(index_path(path)) as file:
        file.write(json.dumps(asdict(index), sort_keys=True).encode())
    return index


def read_shard(path: Path, verify: bool = True) -> Iterator[dict[str, Any]]:
    """The samples in their order, undecoded; raises BrokenShard before the first one if the shard is not whole.

    `verify=False` spares the digest, for a shard that was verified before; size, keys and count are always checked.
    """
    index = read_index(path)
    _check_file(path, index, verify=verify)
    keys = iter(index.keys)
    count = 0
    for sample in _samples(path):
        refused = [name for name in sample if name.rsplit(".", 1)[-1] in _EXECUTABLE]
        if refused:
            raise BrokenShard(f"{path}: sample {sample['__key__']} holds {refused[0]!r}, which could run code; refused")
        if sample["__key__"] != next(keys, None):
            raise BrokenShard(f"{path}: sample {sample['__key__']!r} is not where the index has it; write it again")
        count += 1
        yield {name: value for name, value in sample.items() if name == "__key__" or not name.startswith("__")}
    if count != index.count:
        raise BrokenShard(f"{path}: {count} of {index.count} samples; the shard is cut short, write it again")


def read_index(path: Path) -> ShardIndex:
    """The index beside a shard."""
    try:
        record = json.loads(index_path(path).read_text())
        return ShardIndex(**{**record, "keys": tuple(record["keys"])})
    except FileNotFoundError as error:
        raise BrokenShard(f"{path}: has no index {index_path(path).name}: not finished; write it again") from error
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenShard(f"{index_path(path)}: not a shard's index ({error}); write the shard again") from error


def shard_is_whole(path: Path) -> bool:
    """Whether the shard is there with the bytes that its index promises."""
    try:
        _check_file(path, read_index(path), verify=True)
    except (BrokenShard, OSError):
        return False
    return True


def read_members(
    path: Path, extensions: Collection[str], keys: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and the named members of every sample (or of `keys` alone), in order, reading nothing but them."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for entry in tar:
            key, extension = entry.name.split(".", 1)
            if extension in extensions and (keys is None or key in keys):
                member = tar.extractfile(entry)
                assert member is not None, "a shard holds plain files only"
                found.setdefault(key, {})[extension] = member.read()
    yield from found.items()


def index_path(path: Path) -> Path:
    """`windows-000000.tar` -> `windows-000000.json`."""
    return path.with_suffix(".json")


def npy_bytes(array: NDArray[Any]) -> bytes:
    """The array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def load_npy(data: bytes) -> NDArray[Any]:
    """The array of a .npy member; pickled objects are refused."""
    array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _add(tar: tarfile.TarFile, sample: Sample, earlier: set[str]) -> None:
    key = sample["__key__"]
    if not _KEY.fullmatch(key) or key in earlier:
        raise ValueError(f"the key {key!r} is not of [a-z0-9_-] or stands in the shard already")
    members = {name: data for name, data in sample.items() if name != "__key__"}
    if not members:
        raise ValueError(f"the sample {key!r} has no members")
    for name, data in sorted(members.items()):
        if not _EXTENSION.fullmatch(name) or name.rsplit(".", 1)[-1] in _EXECUTABLE:
            raise ValueError(f"the member {name!r} of {key!r}: expected lower-case letters and dots, and no pickle")
        member = tarfile.TarInfo(f"{key}.{name}")  # mtime, uid, gid 0 and no names: the same bytes on any machine
        member.size = len(data)
        member.mode = 0o644
        tar.addfile(member, io.BytesIO(data))


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    # Imported here: webdataset pulls in torch, and most users of this module only write.
    from webdataset.tariterators import group_by_keys, tar_file_expander

    with path.open("rb") as stream:
        yield from group_by_keys(tar_file_expander([{"url": str(path), "stream": stream}]))


def _check_file(path: Path, index: ShardIndex, *, verify: bool) -> None:
    if not path.is_file():
        raise BrokenShard(f"{path}: the shard is missing, only its index is there; write it again")
    size = path.stat().st_size
    if size != index.bytes:
        raise BrokenShard(
            f"{path}: {size} bytes, but the index says {index.bytes}: not the whole shard; write it again"
        )
    if verify and file_sha256(path) != index.sha256:
        raise BrokenShard(f"{path}: its sha256 is not the index's: changed since it was written; write it again")
