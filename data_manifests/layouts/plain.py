"""The plain folder of stems, which every corpus is that no other layout recognises."""

from __future__ import annotations

from collections.abc import Sequence

from data_manifests.folder import PLAIN, list_folder
from data_manifests.layouts.layout import Layout, Reader
from data_manifests.listing import Listing


def _list(files: Sequence[str], reader: Reader) -> Listing:
    return list_folder(files, reader.text)


PLAIN_FOLDER = Layout(
    name=PLAIN,
    example="song/drums.wav",
    recognises=bool,
    listing=_list,
)
