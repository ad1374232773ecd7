"""What the bridge is worth: its embeddings beside plainer ways from text to audio, on stems it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from metrics.frechet import frechet_distance
from models.clap_quality import effective_rank, matched_cosines, modality_gap, recall_at_k
from tasks.artifact import Artifact
from tasks.embeddings import Embeddings, load_embeddings
from tasks.generate import generators
from tasks.pack import load_latents, load_text
from tasks.plots import space_plot
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.train import load_trained_bridge

# Shapes: N held-out stems, M training stems, K segments of a stem, E CLAP width.

Vectors = NDArray[np.float32]

CROSSINGS, PICTURE = "crossings.json", "bridged.png"
BRIDGED = "CLAP_beta"
MOST_STEMS = 20_000  # that the regression learns from; at 512 wide they take 80 MB
PENALTIES = np.geomspace(1e-3, 1e3, 13)  # the regression takes what leave-one-out likes best


class Crossing(NamedTuple):
    """One way from the embeddings of tags to embeddings of audio, measured against the audio of the same stems.

    `own_cosine` and `recall_at_5` say whether the right audio is met, `gap` (between the means), `fad` and
    `effective_rank` whether the result looks like audio at all.
    """

    name: str
    own_cosine: float
    recall_at_5: float
    gap: float
    fad: float
    effective_rank: float


@dataclass(frozen=True, kw_only=True)
class MeasureBridge(Step):
    """The figures of every crossing over the held-out stems, and a picture of the bridged embeddings among audio."""

    stage: ClassVar[str] = "bridge-quality"

    bridge: Artifact
    train: Artifact
    heldout: Artifact
    seed: int

    def run(self, out: Path, runtime: Runtime) -> dict[str, Any]:
        heldout = load_embeddings(self.heldout)
        audio_NE = heldout.arrays["stem_NE"]
        ways = self._ways(heldout, runtime)
        crossings = [crossing(name, crossed_NE, audio_NE) for name, crossed_NE in ways.items()]
        (out / CROSSINGS).write_text(json.dumps([told._asdict() for told in crossings], indent=1), encoding="utf-8")
        roles, gap = [row.role for row in heldout.rows], modality_gap(audio_NE, ways[BRIDGED]).distance
        (out / PICTURE).write_bytes(space_plot(audio_NE, ways[BRIDGED], roles, gap=gap, crosses="its text, bridged"))
        return {told.name: told._asdict() for told in crossings}

    def _ways(self, heldout: Embeddings, runtime: Runtime) -> Mapping[str, Vectors]:
        """Embeddings (N, E) by name, from no crossing at all to the audio that a perfect one would give."""
        text_NE = heldout.arrays["text_NE"]
        text_ME = load_text(self.train)[:MOST_STEMS]
        audio_MKE = np.array(load_latents(self.train).clap_audio_NKE[:MOST_STEMS])
        bridge = load_trained_bridge(self.bridge, runtime.device)
        drawn = generators(self.seed, [row.key for row in heldout.rows], "bridge")
        return {
            "text as it is": text_NE,
            "mean shift": mean_shift(text_NE, text_ME, audio_MKE),
            "ridge regression": ridge(text_NE, text_ME, audio_MKE),
            BRIDGED: bridge.sample(torch.from_numpy(text_NE).to(runtime.device), drawn).cpu().numpy(),
            "another segment of the stem": heldout.arrays["style_NKE"][:, 0],
        }


def crossing(name: str, crossed_NE: Vectors, audio_NE: Vectors) -> Crossing:
    """The figures of one crossing; row n of both is the same stem."""
    return Crossing(
        name=name,
        own_cosine=matched_cosines(crossed_NE, audio_NE)[0],
        recall_at_5=recall_at_k(crossed_NE, audio_NE, k=min(5, len(audio_NE))),
        gap=modality_gap(audio_NE, crossed_NE).distance,
        fad=frechet_distance(audio_NE, crossed_NE),
        effective_rank=effective_rank(crossed_NE),
    )


def mean_shift(text_NE: Vectors, text_ME: Vectors, audio_MKE: Vectors) -> Vectors:
    """Texts moved by the distance between the means of training audio and text (Liang et al. 2022); unit vectors."""
    return _units(text_NE + (audio_MKE.mean(axis=(0, 1)) - text_ME.mean(axis=0)))


def ridge(text_NE: Vectors, text_ME: Vectors, audio_MKE: Vectors) -> Vectors:
    """The linear map from training texts to the mean of their audio, applied to the texts; unit vectors."""
    from sklearn.linear_model import RidgeCV  # here: only this needs scikit-learn, which is slow to import

    return _units(RidgeCV(alphas=PENALTIES).fit(text_ME, audio_MKE.mean(axis=1)).predict(text_NE))


def _units(vectors_NE: NDArray[Any]) -> Vectors:
    return (vectors_NE / np.linalg.norm(vectors_NE, axis=1, keepdims=True)).astype(np.float32)


def load_crossings(artifact: Artifact) -> tuple[Crossing, ...]:
    """The figures of a finished measurement."""
    return tuple(Crossing(**told) for told in json.loads((artifact.path / CROSSINGS).read_text(encoding="utf-8")))
