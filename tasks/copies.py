"""Stems of one song that are the same sound: by their bytes, or by their waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from data_manifests.schema import Stem
from tasks.probing import Probe

# Shapes: M stems of a song, K numbers of a sketch.

SAME_SOUND = 0.98
"""Stems whose waveforms correlate more than this at lag 0, whatever their gain or sign, are copies of one another."""


def mark_copies(stems: Sequence[Stem], probes: Sequence[Probe]) -> list[Stem]:
    """Every later copy carries `duplicate_of:<id>` of the first; none of them may be context for another.

    The same bytes once more add nothing and are unusable. A vocal among copies makes them all vocal: none is a target.
    """
    first = _first_of_each(stems, probes)
    vocal = {first[index] for index, stem in enumerate(stems) if stem.is_vocal}
    by_bytes: dict[tuple[object, ...], str] = {}
    return [
        _marked(
            stem,
            original=stems[first[index]],
            same_bytes=by_bytes.setdefault(_bytes_of(stem), stem.id),
            is_vocal=first[index] in vocal,
        )
        for index, stem in enumerate(stems)
    ]


def _marked(stem: Stem, *, original: Stem, same_bytes: str, is_vocal: bool) -> Stem:
    found = stem
    if original.id != stem.id:
        found = replace(found, flags=(*found.flags, f"duplicate_of:{original.id}"))
    if same_bytes != stem.id and stem.usable_in_context:
        reason = f"the same bytes as {same_bytes}"
        found = replace(found, usable_as_target=False, usable_in_context=False, reason=reason)
    if is_vocal and not stem.is_vocal:
        reason = found.reason or "the same sound as a vocal stem"
        found = replace(found, is_vocal=True, usable_as_target=False, reason=reason)
    return found


def _first_of_each(stems: Sequence[Stem], probes: Sequence[Probe]) -> list[int]:
    """For each stem the place of the first one that it is a copy of, in one step or several; its own where none is."""
    sketch_MK = np.array([probe.waveform_sketch for probe in probes], dtype=np.float32).reshape(len(probes), -1)
    same_MM = np.abs(sketch_MK @ sketch_MK.T) > SAME_SOUND
    content = [_bytes_of(stem) for stem in stems]
    first = list(range(len(stems)))
    for later in range(len(stems)):
        for earlier in range(later):
            if same_MM[later, earlier] or content[later] == content[earlier]:
                low, high = sorted((first[later], first[earlier]))
                first = [low if place == high else place for place in first]
    return first


def _bytes_of(stem: Stem) -> tuple[object, ...]:
    """What the stem is made of: equal for equal files, whatever their names and gains."""
    return tuple((file.sha256, file.stream, file.side, file.start_s) for file in stem.files)
