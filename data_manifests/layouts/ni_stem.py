"""Native Instruments stem files: one container per song, with the stems' names inside it."""

from __future__ import annotations

from collections.abc import Sequence

from data_manifests.layouts.groups import artist_group, artist_of
from data_manifests.layouts.layout import Layout, Reader, listing_of, most_audio, stem_of, visible
from data_manifests.layouts.stem_atom import BadStemFile, stem_names
from data_manifests.listing import ListedStem, ListedTrack, Listing
from data_manifests.roles import STEM_CONTAINERS, NameReading, house_rules, read_name
from data_manifests.schema import ListedFile


def _list(files: Sequence[str], reader: Reader) -> Listing:
    tracks: list[ListedTrack] = []
    left_out: dict[str, str] = {}
    for path in visible(files):
        if _is_container(path):
            try:
                with reader.binary(path) as file:
                    tracks.append(_track(path, stem_names(file), left_out))
            except (BadStemFile, OSError) as error:
                left_out[path] = str(error)
    return listing_of("ni_stem", files, tracks, left_out)


def _track(path: str, names: Sequence[str], left_out: dict[str, str]) -> ListedTrack:
    """The song of a container; stream 0 is a mastered mix, which is more than the sum of the stems and is not used.

    A stream whose name says that it is a mix or a click is added to `left_out`.
    """
    suffix = next(suffix for suffix in STEM_CONTAINERS if path.lower().endswith(suffix))
    track_id = path[: -len(suffix)]
    artist = artist_of(track_id.rpartition("/")[2])
    readings = {stream: read_name(name, house_rules()) for stream, name in enumerate(names, start=1)}
    left_out |= {f"{path}, audio stream {i}": str(said.leave_out) for i, said in readings.items() if said.leave_out}
    return ListedTrack(
        id=track_id,
        group_id=(artist_group(artist) if artist else None) or track_id,
        split=None,
        corpus="ni_stem",
        licence="unknown",
        tags=(),
        stems=tuple(
            _stem(names[stream - 1].strip(), reading, ListedFile(path=path, stream=stream))
            for stream, reading in readings.items()
            if reading.leave_out is None
        ),
    )


def _stem(name: str, reading: NameReading, file: ListedFile) -> ListedStem:
    """The stem of a stream, under the name that its maker gave it."""
    stem_id = f"{file.stream} {name}".strip()
    return stem_of(stem_id, [file], reading.role, tags=(name.lower(),), is_vocal=reading.is_vocal)


def _is_container(path: str) -> bool:
    return path.lower().endswith(STEM_CONTAINERS)


NI_STEM = Layout(
    name="ni_stem",
    example="Artist - Title.stem.mp4",
    recognises=lambda files: most_audio(files, _is_container),
    listing=_list,
)
