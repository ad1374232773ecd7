"""Contexts with the most alike target of another track: the bound of random accompaniment at its hardest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_manifests.alike import Alike, Place, most_alike
from data_manifests.hard_negatives import TEMPO_WITHIN_BPM
from tasks.artifact import Artifact
from tasks.catalogue_file import read_tracks
from tasks.clap import clap_space
from tasks.embed import Mixing
from tasks.embed_mispaired import embed_mispaired, whole_windows
from tasks.embeddings import merge_parts, part_path, write_part
from tasks.runtime import Runtime
from tasks.step import Step

TOLD = "alike.json"


@dataclass(frozen=True, kw_only=True)
class EmbedAlike(Step):
    """Every context with a target of another track of its style, nearest in key and tempo: `stem_NE`, `mixture_NWE`.

    Without rows where the labels of the corpus do not give every window a partner; `told_of_alike` says why.
    """

    stage: ClassVar[str] = "alike"

    windows: Artifact
    catalogue: Artifact
    clap: Artifact
    mixing: Mixing

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        sources, lost = whole_windows(self.windows, out, runtime)
        tracks = read_tracks(self.catalogue.path, {row.track for _, row in sources})
        found = most_alike([Place(row.key, row.track, row.role) for _, row in sources], list(tracks.values()))
        if found.partners:
            pairs = [(own, sources[other]) for own, other in zip(sources, found.partners, strict=True)]
            embed_mispaired(pairs, f"clap-{self.key()}", self.clap, self.mixing, out, runtime)
        else:
            width = clap_space(self.clap).width
            write_part(part_path(out, 0), {"stem_NE": np.empty((0, width)), "mixture_NWE": np.empty((0, 1, width))}, [])
        (out / TOLD).write_text(json.dumps(_told(found)), encoding="utf-8")
        return merge_parts(out, clap_space(self.clap)) | {"lost": lost, "hard": found.hard, "reason": found.reason}


def told_of_alike(artifact: Artifact) -> str:
    """One line for readers: what the partners have in common, or why there are none."""
    line: str = json.loads((artifact.path / TOLD).read_text(encoding="utf-8"))
    return line


def _told(found: Alike) -> str:
    if found.reason:
        return f"There is no row of alike accompaniments: {found.reason}."
    return (
        f"Alike accompaniments are stems of other tracks of the same style: {found.same_role} of {len(found.partners)} "
        f"of the same role, {found.hard} of the same key and within {TEMPO_WITHIN_BPM:g} BPM as well."
    )
