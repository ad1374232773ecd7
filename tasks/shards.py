"""Webdataset shards that are written whole or not at all, byte for byte the same every time, and checked on reading.

A shard may come from anywhere. Its members are therefore read by their own headers: plain files that lie inside the
tar under the names that we give, nothing else. tarfile, and webdataset over it, would unpack compressed tars, follow
links and fill sparse files, so that a few bytes could ask for any amount of memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from tasks.npy_file import read_npy
from tasks.storage import Place, is_remote, local_copy, name_of, read_bytes, reading, size_of, write_bytes, writing
from tasks.whole_files import file_sha256

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


def write_shard(path: Place, samples: Iterable[Sample]) -> ShardIndex:
    """Write the samples in their order as a tar and, when it is in place, its index `<name>.json`.

    webdataset's TarWriter is not used: it encodes by extension (pickles included) and leaves atomicity to us.
    """
    keys: dict[str, None] = {}
    with writing(path) as file:
        counted = _Counted(file)
        with tarfile.open(fileobj=cast(BinaryIO, counted), mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                _add(tar, sample, keys)
                keys[sample["__key__"]] = None
        if not keys:
            raise ValueError(f"{path}: a shard needs at least one sample")
    index = ShardIndex(count=len(keys), bytes=counted.tell(), sha256=counted.sha256.hexdigest(), keys=tuple(keys))
    write_bytes(index_path(path), json.dumps(asdict(index), sort_keys=True).encode())
    return index


class _Counted:
    """A stream that counts and digests what goes through it, so that no shard is read back for its index."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._bytes, self.sha256 = file, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._bytes


def read_shard(path: Place, verify: bool = True) -> Iterator[dict[str, Any]]:
    """The samples in their order, undecoded; raises BrokenShard before the first one if the shard is not whole.

    `verify=False` spares the digest, for a shard that was verified before; size, keys and count are always checked.
    A shard of another machine is fetched first: only a whole one gives samples.
    """
    index = read_index(path)
    check_size(path, index)
    with local_copy(path) as copy:
        if verify:
            check_digest(path, copy, index)
        yield from _indexed_samples(path, copy, index)


def _indexed_samples(path: Place, copy: Path, index: ShardIndex) -> Iterator[dict[str, Any]]:
    keys = iter(index.keys)
    count = 0
    for sample in _samples(path, copy):
        if sample["__key__"] != next(keys, None):
            raise BrokenShard(f"{path}: sample {sample['__key__']!r} is not where the index has it; write it again")
        count += 1
        yield {name: value for name, value in sample.items() if name == "__key__" or not name.startswith("__")}
    if count != index.count:
        raise BrokenShard(f"{path}: {count} of {index.count} samples; the shard is cut short, write it again")


def read_index(path: Place) -> ShardIndex:
    """The index beside a shard."""
    try:
        return _index(json.loads(read_bytes(index_path(path))))
    except FileNotFoundError as error:
        raise BrokenShard(f"{path}: has no index {name_of(index_path(path))}: not finished; write it again") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BrokenShard(f"{index_path(path)}: not a shard's index ({error}); write the shard again") from error


def _index(record: dict[str, Any]) -> ShardIndex:
    """The index that a JSON object tells. Raises TypeError or KeyError where it tells none."""
    index = ShardIndex(**{**record, "keys": tuple(record["keys"])})
    if not all(isinstance(key, str) for key in index.keys) or (type(index.count), type(index.bytes)) != (int, int):
        raise TypeError("expected keys that are texts, and whole numbers of samples and bytes")
    return index


def shard_is_whole(path: Place) -> bool:
    """Whether the shard is there with the bytes that its index promises.

    A remote one is judged by its size: it was published by one request, and to read terabytes again before every
    resumed run would cost more than it finds. `verify_windows` reads them.
    """
    try:
        index = read_index(path)
        check_size(path, index)
        if not is_remote(path):
            with local_copy(path) as copy:
                check_digest(path, copy, index)
    except (BrokenShard, FileNotFoundError):
        return False
    return True


def read_members(
    path: Place, extensions: Collection[str] | None = None, keys: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and the named members (or all) of every sample (or of `keys` alone), in order, reading nothing but them."""
    with reading(path) as file:
        for key, entries in groupby(_entries(path, file), key=lambda entry: entry.name.split(".", 1)[0]):
            members = {entry.name.split(".", 1)[-1]: entry for entry in entries}
            wanted = [name for name in members if extensions is None or name in extensions]
            if wanted and (keys is None or key in keys):
                yield key, {name: _content(file, members[name]) for name in wanted}


def _entries(path: Place, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members in order, each a plain file of a shard's kind that lies inside the tar. Raises BrokenShard."""
    size, start = file.seek(0, io.SEEK_END), 0
    while True:
        file.seek(start)
        header = file.read(tarfile.BLOCKSIZE)
        if header == bytes(tarfile.BLOCKSIZE):  # the end of a tar
            return
        try:
            entry = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
        except (tarfile.TarError, ValueError) as error:
            raise BrokenShard(f"{path}: no member of a tar at byte {start} ({error}); write the shard again") from error
        entry.offset_data = start + tarfile.BLOCKSIZE
        _check_entry(path, entry, there=size - entry.offset_data)
        yield entry
        start = entry.offset_data + -(-entry.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _check_entry(path: Place, entry: tarfile.TarInfo, *, there: int) -> None:
    """Raise BrokenShard for a member that no shard of ours holds."""
    key, _, name = entry.name.partition(".")
    if name.rsplit(".", 1)[-1] in _EXECUTABLE:
        raise BrokenShard(f"{path}: sample {key} holds {name!r}, which could run code; refused")
    if entry.type != tarfile.REGTYPE or not _KEY.fullmatch(key) or not _EXTENSION.fullmatch(name):
        raise BrokenShard(f"{path}: {entry.name!r} is no plain file called <key>.<name>; a shard holds nothing else")
    if not 0 <= entry.size <= there:
        raise BrokenShard(f"{path}: {entry.name} claims {entry.size} bytes, {there} are there; write the shard again")


def _content(file: BinaryIO, entry: tarfile.TarInfo) -> bytes:
    file.seek(entry.offset_data)
    return file.read(entry.size)


def index_path(path: Place) -> str:
    """`windows-000000.tar` -> `windows-000000.json`."""
    return f"{str(path).removesuffix('.tar')}.json"


def npy_bytes(array: NDArray[Any]) -> bytes:
    """The array as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def load_npy(data: bytes) -> NDArray[Any]:
    """The array of a .npy member. Raises ValueError for pickled objects, and for less than its header promises."""
    return read_npy(io.BytesIO(data), "a .npy member")


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _add(tar: tarfile.TarFile, sample: Sample, earlier: Collection[str]) -> None:
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


def _samples(path: Place, copy: Path) -> Iterator[dict[str, Any]]:
    """The members grouped as webdataset groups them."""
    # Imported here: webdataset pulls in torch, and most users of this module only write.
    from webdataset.tariterators import group_by_keys

    with copy.open("rb") as file:
        members = (
            {"fname": entry.name, "data": _content(file, entry), "__url__": str(path)} for entry in _entries(path, file)
        )
        try:
            yield from group_by_keys(members)
        except BrokenShard:
            raise
        except ValueError as error:  # webdataset's, of a name that a sample has twice
            raise BrokenShard(f"{path}: {error.args[0]}; write the shard again") from error


def check_size(path: Place, index: ShardIndex) -> None:
    """Raise BrokenShard where the shard is missing or has other bytes than its index says."""
    try:
        size = size_of(path)
    except FileNotFoundError as error:
        raise BrokenShard(f"{path}: the shard is missing, only its index is there; write it again") from error
    if size != index.bytes:
        raise BrokenShard(
            f"{path}: {size} bytes, but the index says {index.bytes}: not the whole shard; write it again"
        )


def check_digest(path: Place, copy: Path, index: ShardIndex) -> None:
    if file_sha256(copy) != index.sha256:
        raise BrokenShard(f"{path}: its sha256 is not the index's: changed since it was written; write it again")
