"""Places of large files: local paths, and URLs that fsspec knows, such as `s3://bucket/prefix` or `memory://x`.

A file appears at its place whole or not at all. Credentials, endpoints and patience come from the environment alone:
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_MAX_ATTEMPTS (botocore repeats a failed request with
growing pauses), FSSPEC_S3_KEY and its like (https://filesystem-spec.readthedocs.io/en/latest/features.html).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.core import url_to_fs

from tasks.whole_files import replacing

Place = str | Path
"""A local path or a URL. A URL is always text: `Path` would fold its two slashes."""

PART_BYTES = 32 * 2**20
"""What is buffered before a part of an upload leaves: S3 takes 10,000 parts, so that a file can have 320 GB."""


@contextmanager
def writing(place: Place) -> Iterator[BinaryIO]:
    """A file, written from front to end, that stands at `place` when all of it is there; nothing after an error."""
    local = _local(place)
    if local is not None:
        local.parent.mkdir(parents=True, exist_ok=True)
        with replacing(local) as file:
            yield file
        return
    system, path = _remote(place)
    if system.protocol == "memory":  # it shows a file from its first byte on
        buffer = BytesIO()
        yield buffer
        system.pipe_file(path, buffer.getvalue())
        return
    # Not committed by closing it: fsspec's own context manager would also publish a file that an error cut short.
    file = system.open(path, "wb", block_size=PART_BYTES, autocommit=False)
    try:
        yield cast(BinaryIO, file)
        file.close()
        file.commit()
    except BaseException:
        _discard(file)
        raise


def write_bytes(place: Place, data: bytes) -> None:
    """Write a small file: one rename, or one request."""
    if _local(place) is not None:
        with writing(place) as file:
            file.write(data)
    else:
        system, path = _remote(place)
        system.pipe_file(path, data)


@contextmanager
def reading(place: Place) -> Iterator[BinaryIO]:
    """The file, open for reading and seeking. Raises FileNotFoundError."""
    local = _local(place)
    if local is not None:
        with local.open("rb") as file:
            yield file
    else:
        system, path = _remote(place)
        with system.open(path, "rb") as remote:
            yield cast(BinaryIO, remote)


def read_bytes(place: Place) -> bytes:
    """All of a small file. Raises FileNotFoundError."""
    with reading(place) as file:
        return file.read()


@contextmanager
def local_copy(place: Place) -> Iterator[Path]:
    """The file on this machine: itself, or a copy in the temporary folder (TMPDIR) that goes when it was read."""
    local = _local(place)
    if local is not None:
        yield local
        return
    system, path = _remote(place)
    with tempfile.TemporaryDirectory(prefix="stemwright-") as folder:
        copy = Path(folder) / name_of(place)
        system.get_file(path, str(copy))
        yield copy


def size_of(place: Place) -> int:
    """Bytes of a file. Raises FileNotFoundError."""
    local = _local(place)
    if local is not None:
        return local.stat().st_size
    system, path = _remote(place)
    return int(system.info(path)["size"])


def exists(place: Place) -> bool:
    """Whether there is such a file."""
    try:
        size_of(place)
    except FileNotFoundError:
        return False
    return True


def sizes_in(folder: Place) -> dict[str, int]:
    """Name and bytes of every file that lies directly in a folder; none where there is no folder."""
    local = _local(folder)
    if local is not None:
        return {path.name: path.stat().st_size for path in sorted(local.glob("*")) if path.is_file()}
    system, path = _remote(folder)
    try:
        entries = system.ls(path, detail=True)
    except FileNotFoundError:
        return {}
    return {name_of(entry["name"]): int(entry["size"]) for entry in entries if entry["type"] == "file"}


def remove(folder: Place) -> None:
    """Remove a folder and what it holds, or a file; nothing where there is none."""
    local = _local(folder)
    if local is not None:
        local.unlink() if local.is_file() else shutil.rmtree(local, ignore_errors=True)
        return
    system, path = _remote(folder)
    with suppress(FileNotFoundError):
        system.rm(path, recursive=True)


def check_writable(root: Place) -> None:
    """Write a file there and remove it. Raises ValueError, one line, where that cannot be done."""
    folder = joined(root, f".stemwright-{os.getpid()}")
    try:
        write_bytes(joined(folder, "probe"), b"probe")
        remove(folder)
    except Exception as error:  # every store has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{root} cannot be written: {reason}. Check the address, the bucket and the credentials in the environment"
        ) from error


def joined(folder: Place, *names: str) -> str:
    """The place of `names` under a folder."""
    return "/".join([str(folder).rstrip("/"), *names])


def name_of(place: Place) -> str:
    """The last part of a place."""
    return str(place).rstrip("/").rsplit("/", 1)[-1]


def is_remote(place: Place) -> bool:
    """Whether a place is behind a file system of fsspec's, where a file is published by one request."""
    return _local(place) is None


def _local(place: Place) -> Path | None:
    """The path of a local place, None for any other."""
    text = str(place)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return None if "://" in text else Path(place)


def _remote(place: Place) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL and the path in it. No listing is kept: other processes write there too."""
    try:
        return url_to_fs(str(place), use_listings_cache=False)
    except ImportError as error:
        raise ValueError(f"{place}: {error}; for s3:// install stemwright[s3]") from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}; expected a local path or a URL such as s3://bucket/prefix") from error


def _discard(file: Any) -> None:
    """Give up an upload. The error that led here counts; a store that cannot be reached keeps invisible parts."""
    with suppress(Exception):
        file.discard()
    file.closed = True  # else its destructor would try to finish it
