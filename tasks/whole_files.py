"""Files and folders that appear whole or not at all, and what tells two files apart."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when it is complete and on the disk; nothing is left after an error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there complete or not at all."""
    with replacing(path) as file:
        file.write(data)


class FullDisk(OSError):
    """There is no room for what was to be written; a sentence that names the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            errno.ENOSPC, f"{folder}: the disk is full, and nothing was kept; make room on it, and try again"
        )

    def __str__(self) -> str:
        return str(self.strerror)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A scratch folder that becomes `path` when it is complete; nothing is left after an error.

    Raises ValueError where `path` is there, be it that another process made it meanwhile, and FullDisk.
    """
    taken = ValueError(f"{path} is there already; name another folder with --out, or remove that one")
    if path.exists():
        raise taken
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        scratch.mkdir(parents=True)
        yield scratch
        scratch.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) and path.exists():
            raise taken from error
        if error.errno == errno.ENOSPC:
            raise FullDisk(path.parent) from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
