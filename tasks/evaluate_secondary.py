"""Secondary FADs of somebody's audio: the clips that the CLAP heard, heard again by VGGish, PANN or EnCodec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_manifests.schema import RATE_HZ
from metrics.embeddings import Floats
from metrics.frechet import Gaussian, frechet_distance, gaussian, merged_gaussian
from metrics.protocol import Protocol
from metrics.table import Score
from tasks.audio import read_window
from tasks.columns import SECONDARY
from tasks.evaluate_clips import Clip, ClipRule, listed_clips
from tasks.evaluate_material import Material, is_vectors
from tasks.progress import Progress
from tasks.secondary_fad import Embed, load_embedder, weights_sha256

PIECE_CLIPS = 32


class Ear(NamedTuple):
    """A loaded embedder and the digest of its weights."""

    embed: Embed
    weights_sha256: str


class Picked(NamedTuple):
    """Clips of a folder, by the keys of their rows."""

    folder: Path
    keys: Sequence[str]


def load_ears(checkpoints: Mapping[str, Path], material: Material) -> dict[str, Ear]:
    """The embedders by name. Raises ValueError in one line for what cannot be loaded, or where there is no audio."""
    if checkpoints and is_vectors(material.references):
        raise ValueError(f"{', '.join(checkpoints)}: a secondary FAD needs audio to embed; give folders of audio")
    return {
        name: Ear(load_embedder(name, checkpoints=folder), weights_sha256(name, checkpoints=folder))
        for name, folder in checkpoints.items()
    }


def secondary_scores(
    ears: Mapping[str, Ear], arms: Mapping[str, Picked], references: Picked, protocol: Protocol, *, live: bool
) -> Iterator[Score]:
    """The FAD of every arm in every ear's space, batch by batch as `metrics.score.score_row` has it."""
    rule = ClipRule.of(protocol)
    size = protocol.batch_size
    for name, ear in ears.items():
        total = len(references.keys) + sum(len(arm.keys) for arm in arms.values())
        with Progress(f"secondary FAD, {name}", total=total, live=live) as bar:
            real = _gaussian(ear.embed, references, rule, bar)
            for arm, picked in arms.items():
                for batch in range(protocol.batches):
                    keys = picked.keys[batch * size : (batch + 1) * size]
                    ours = _gaussian(ear.embed, picked._replace(keys=keys), rule, bar)
                    yield Score(
                        arm=arm,
                        inputs="audio",
                        metric=f"{SECONDARY}{name}",
                        batch=batch,
                        value=frechet_distance(real, ours),
                        candidates=size,
                    )


def _gaussian(embed: Embed, picked: Picked, rule: ClipRule, bar: Progress) -> Gaussian:
    """That of all embeddings of all clips, a few clips at a time: EnCodec makes 150 rows of every second."""
    clips = {clip.row.key: clip for clip in listed_clips(picked.folder, None, None, rule).clips}
    pieces = np.array_split(np.asarray(picked.keys), -(-len(picked.keys) // PIECE_CLIPS))
    parts = []
    for piece in pieces:
        parts.append(gaussian(np.concatenate([_heard(embed, clips[key], rule) for key in piece])))
        bar.advance(len(piece))
    return merged_gaussian(parts)


def _heard(embed: Embed, clip: Clip, rule: ClipRule) -> Floats:
    try:
        return embed([read_window(clip.stem, clip.stem_start_samples, rule.stem_samples)], RATE_HZ)
    except ValueError as error:
        raise ValueError(f"{clip.row.key}: {error}") from error
