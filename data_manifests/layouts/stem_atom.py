"""The names of the stems in a Native Instruments stem file: the JSON text of its `stem` atom, at moov/udta/stem.

An MP4 file is a row of atoms: four bytes of length (all of it, big-endian), four of type, then the contents, which
may be atoms again. A length of 1 means that eight bytes of length follow the type; 0 means "to the end".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

PATH = (b"moov", b"udta", b"stem")

MAX_ATOMS = 10_000
"""So many siblings are looked at: a damaged or hostile file must not keep us busy."""

MAX_TEXT = 1 << 20
"""Bytes of a `stem` atom that are read; real ones have a few hundred."""


class BadStemFile(ValueError):
    """A stem file whose list of stems is missing or senseless; the message says which."""


class _Atom(NamedTuple):
    kind: bytes
    start: int
    end: int


def stem_names(file: BinaryIO) -> tuple[str, ...]:
    """The names of the stems in the order of the audio streams 1, 2, ...; stream 0 is the mix."""
    start, end = 0, file.seek(0, 2)
    for kind in PATH:
        atom = next((atom for atom in _atoms(file, start, end) if atom.kind == kind), None)
        if atom is None:
            raise BadStemFile(f"no {b'/'.join(PATH).decode()} atom names its stems; it is an ordinary MP4 file")
        start, end = atom.start, atom.end
    return _names(_read(file, start, end))


def _atoms(file: BinaryIO, start: int, end: int) -> Iterator[_Atom]:
    """The atoms between two places of the file; ends quietly where a length makes no sense."""
    for _ in range(MAX_ATOMS):
        file.seek(start)
        head = file.read(16)
        if start + 8 > end or len(head) < 8:
            return
        size, kind, contents = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == 1:
            size, contents = int.from_bytes(head[8:16], "big"), start + 16
        stop = end if size == 0 else start + size
        if stop < contents or stop > end:
            return
        yield _Atom(kind, contents, stop)
        start = stop


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    if end - start > MAX_TEXT:
        raise BadStemFile(f"its stem atom has {end - start} bytes; expected at most {MAX_TEXT}")
    file.seek(start)
    return file.read(end - start)


def _names(contents: bytes) -> tuple[str, ...]:
    """The `name` of every entry of `stems`; free text, as musicians wrote it."""
    try:
        record = json.loads(contents.rstrip(b"\x00").decode("utf-8"))
        names = tuple(stem["name"] for stem in record["stems"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadStemFile(f"its stem atom is no JSON list of named stems ({type(error).__name__}: {error})") from error
    if not names or not all(isinstance(name, str) and _is_text(name) for name in names):
        raise BadStemFile(f"its stem atom names the stems {names!r}; expected texts")
    return names


def _is_text(name: str) -> bool:
    """False for half a surrogate pair, which JSON can tell and no file can hold."""
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in name)
