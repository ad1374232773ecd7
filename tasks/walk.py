"""The files below a corpus folder: found through links, never twice, and none passed over in silence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from data_manifests.layouts import list_corpus
from data_manifests.layouts.several import joined_listings
from data_manifests.listing import Listing
from data_manifests.schema import Quarantined


class Found(NamedTuple):
    """Paths relative to the root with forward slashes, sorted, and what could not be looked into."""

    files: list[str]
    unreadable: tuple[Quarantined, ...]


def walk_corpus(root: Path) -> Found:
    """All files below `root`. Links to folders are followed, as songs often are links; one back up is not."""
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such corpus folder; expected one subfolder per song with its stems")
    top = f"{root}{os.sep}"
    files: list[str] = []
    unreadable: list[Quarantined] = []

    def report(error: OSError) -> None:
        path = str(error.filename).removeprefix(top)
        unreadable.append(Quarantined(path=_printable(path), reason=f"a folder that may not be read: {error.strerror}"))

    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=report):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()  # which of two links to one folder is followed does not depend on the disk
        below = "" if folder == str(root) else folder.removeprefix(top).replace(os.sep, "/") + "/"
        for path in (below + name for name in names):
            if _printable(path) == path:
                files.append(path)
            else:
                reason = "its name is no UTF-8 text; rename it"
                unreadable.append(Quarantined(path=_printable(path), reason=reason))
    return Found(sorted(files), tuple(sorted(unreadable, key=lambda item: item.path)))


def _printable(path: str) -> str:
    """The path with every byte that is no text written as `\\xNN`."""
    return path if path.isascii() else os.fsencode(path).decode(errors="backslashreplace")


def corpus_files(root: Path) -> list[str]:
    """The files of `walk_corpus` alone."""
    return walk_corpus(root).files


@dataclass(frozen=True)
class FolderReader:
    """Opens the metadata files of a corpus folder for whoever lists it."""

    root: Path

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8-sig")

    def binary(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")


def list_corpus_folder(root: Path | str, layout: str | None = None) -> Listing:
    """The songs of a corpus folder by the named or recognised layout, and all that is left out with the reason."""
    found = walk_corpus(Path(root))
    listing = list_corpus(found.files, FolderReader(Path(root)), layout)
    return listing._replace(left_out=(*listing.left_out, *found.unreadable))


def list_corpora(root: Path, layouts: Mapping[str, str | None]) -> Listing:
    """The songs of the corpora that lie under `root` by their names, each in its layout (None: recognised)."""
    return joined_listings({name: list_corpus_folder(root / name, layout) for name, layout in layouts.items()})
