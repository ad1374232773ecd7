"""Every way in which people lay out multitrack corpora, and one listing of them all.

`list_corpus` gives the songs of a corpus whatever its layout; the layout is recognised by the names of the files, or
named.
"""

from __future__ import annotations

from collections.abc import Sequence

from data_manifests.layouts.cambridge_mt import CAMBRIDGE_MT
from data_manifests.layouts.groups import keep_groups_whole
from data_manifests.layouts.layout import Layout, Reader
from data_manifests.layouts.medleydb import MEDLEYDB
from data_manifests.layouts.moisesdb import MOISESDB
from data_manifests.layouts.musdb import DSD100, MUSDB18, MUSDB18_HQ
from data_manifests.layouts.ni_stem import NI_STEM
from data_manifests.layouts.plain import PLAIN_FOLDER
from data_manifests.layouts.slakh import BABYSLAKH, SLAKH2100
from data_manifests.layouts.urmp import URMP
from data_manifests.listing import Listing

__all__ = ["LAYOUTS", "Layout", "Reader", "layout_named", "list_corpus", "recognise"]

LAYOUTS = (
    MUSDB18,
    MUSDB18_HQ,
    DSD100,
    MOISESDB,
    MEDLEYDB,
    URMP,
    SLAKH2100,
    BABYSLAKH,
    NI_STEM,
    CAMBRIDGE_MT,
    PLAIN_FOLDER,
)
"""The most specific first: the first layout that recognises a corpus lists it. The plain folder takes the rest."""


def list_corpus(files: Sequence[str], reader: Reader, layout: str | None = None) -> Listing:
    """The songs among `files` (relative to the corpus root, forward slashes), by the named or recognised layout.

    The listing names the layout it took, and does not depend on the order of the files.
    """
    files = sorted(files)
    chosen = layout_named(layout) if layout is not None else recognise(files)
    listing = chosen.listing(files, reader)
    if layout is not None and not listing.tracks:
        raise ValueError(_no_song(chosen, listing))
    if chosen is PLAIN_FOLDER:
        return listing  # a song.json that contradicts another one is a mistake to report, not to settle
    return listing._replace(tracks=keep_groups_whole(listing.tracks))


def recognise(files: Sequence[str]) -> Layout:
    """The first layout that knows most of the files' names; the plain folder if none does."""
    return next((layout for layout in LAYOUTS if layout.recognises(files)), PLAIN_FOLDER)


def layout_named(name: str) -> Layout:
    """The layout of that name."""
    found = next((layout for layout in LAYOUTS if layout.name == name), None)
    if found is None:
        raise ValueError(f"there is no layout {name!r}; expected one of {', '.join(one.name for one in LAYOUTS)}")
    return found


def _no_song(layout: Layout, listing: Listing) -> str:
    reasons = "; ".join(f"{item.path}: {item.reason}" for item in listing.left_out[:3]) or "there are no files"
    return f"no song in the layout {layout.name}; expected files such as {layout.example}. Found: {reasons}"
