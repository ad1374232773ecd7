"""How each metric moves as a known damage to real stems grows: a Markdown table, and a verdict for each column.

    python benchmarks/metric_sensitivity.py [--references 48] [--candidates 24]

Real stems of the embedded corpus, of songs that the shipped CLAP was not fitted on; candidates and references are of
different songs. A column is in order where no step goes back by more than the standard error of the undamaged score,
and the last step lies further from it than two of them. Two minutes of one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from data_manifests.composer import EmbeddedCorpus, compose
from data_manifests.pairs import tag_text
from data_manifests.renderer import render
from metrics import damages
from metrics.adherence import derangement
from metrics.embeddings import EmbeddingSet, Space
from metrics.intervals import estimate
from metrics.row_statistics import Statistics, row_statistics
from metrics.score import CandidateSet, ReferenceSet
from models.clap import Clap
from tasks.clap import SHIPPED, load_clap
from tasks.embed import Mixing, embed_mixture, embed_one

# Shapes: N samples, M candidates, E width of the space.

RATE_HZ, SECONDS = 48_000, 10.0
SEED = 7  # the shipped CLAP was fitted on songs of another
PER_SONG = 3  # stems of a song that are targets in turn
LEAST_RMS = 1e-3  # a quieter target rests in these ten seconds
MIXING = Mixing(preset="L0", window_s=SECONDS, level_each_window=False)
NEIGHBOURS = (5,)
RISES = {"kd": True, "fad": True, "kad": True, "density_k5": False, "coverage_k5": False, "apa": False}
RISES |= {"apa_kd_contrast": False, "cs_aa": False, "cs_ta": False}

Audio = np.ndarray


class Item(NamedTuple):
    """A stem beside the sum of its song's others, mono, and what a listener would write of it."""

    song: str
    stem_N: Audio
    context_N: Audio
    text: str


class Damage(NamedTuple):
    """A damage in growing strengths, and the item that each of them makes of an item."""

    name: str
    strengths: tuple[str, ...]
    apply: Callable[[Item, int], Audio]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--references", type=int, default=48)
    asked.add_argument("--candidates", type=int, default=24)
    told = asked.parse_args()
    torch.set_num_threads(1)
    corpus = EmbeddedCorpus(songs=told.references + told.candidates, seconds=SECONDS, seed=SEED, heldout=0)
    clap = load_clap(str(SHIPPED), {}, "cpu")
    reference = Judge.references(clap, [item for song in range(told.references) for item in items(corpus, song)])
    candidates = [item for song in range(told.references, corpus.songs) for item in items(corpus, song)]
    judge = Judge(clap, reference, candidates)
    print(f"{len(reference.stems)} references, {len(candidates)} candidates\n")
    print("| damage | " + " | ".join(RISES) + " |\n|---" + "|---" * len(RISES) + "|")
    plain, errors = judge.undamaged()
    print(line("none", plain))
    for damage in damages_of():
        rows = [
            judge.scores([damage.apply(item, step) for item in candidates]) for step in range(len(damage.strengths))
        ]
        tell(damage.name, damage.strengths, [plain, *rows], errors)
    tell("wrong song", ("20 %", "40 %", "60 %", "80 %", "100 %"), [plain, *judge.wrong_songs(5)], errors)


def damages_of() -> Iterator[Damage]:
    """The damages that change a candidate by itself."""
    below_db, cutoff_hz = (30, 20, 10, 0, -10), (8000, 4000, 2000, 1000, 500)
    semitones, seconds = (0.5, 1, 2, 4, 7), (0.02, 0.05, 0.1, 0.2, 0.35)

    def noise(item: Item, step: int) -> Audio:
        rng = np.random.default_rng(crc32(f"{item.song} {item.text}".encode()))
        return damages.with_noise(item.stem_N, below_db=below_db[step], rng=rng)

    def low_pass(item: Item, step: int) -> Audio:
        return damages.low_passed(item.stem_N, cutoff_hz=cutoff_hz[step], rate_hz=RATE_HZ)

    def pitch(item: Item, step: int) -> Audio:
        return damages.pitch_shifted(item.stem_N, semitones=semitones[step])

    def late(item: Item, step: int) -> Audio:
        return damages.delayed(item.stem_N, seconds=seconds[step], rate_hz=RATE_HZ)

    yield Damage("noise below", tuple(f"{value} dB" for value in below_db), noise)
    yield Damage("low-pass", tuple(f"{value} Hz" for value in cutoff_hz), low_pass)
    yield Damage("pitch", tuple(f"+{value:g} semitones" for value in semitones), pitch)
    yield Damage("late by", tuple(f"{value:g} s" for value in seconds), late)


def items(corpus: EmbeddedCorpus, index: int) -> list[Item]:
    """The first stems of a song that sound, each with all the others as its context."""
    song = compose(corpus, index)
    mono = {name: audio_SN.mean(axis=0) for name, audio_SN in render(song).items()}
    whole_N = np.sum(list(mono.values()), axis=0)
    sounding = [part for part in song.parts if np.sqrt(np.mean(np.square(mono[part.id]))) > LEAST_RMS]
    return [
        Item(song.id, mono[part.id], whole_N - mono[part.id], tag_text(song, part))  # type: ignore[arg-type]
        for part in sounding[:PER_SONG]
    ]


class Judge:
    """Every metric of candidates, of their stems and beside their contexts."""

    def __init__(self, clap: Clap, reference: ReferenceSet, candidates: Sequence[Item]) -> None:
        self.clap, self.reference, self.candidates = clap, reference, candidates
        self.tracks = [item.song for item in candidates]
        self.real = self.embedded([item.stem_N for item in candidates])
        self.text = clap.embed_text([item.text for item in candidates]).cpu().numpy()

    @classmethod
    def references(cls, clap: Clap, items: Sequence[Item]) -> ReferenceSet:
        partner = derangement([item.song for item in items], seed=0)
        stems = np.stack([embed_one(clap, item.stem_N[None]) for item in items])
        true = mixtures(clap, items, [item.stem_N for item in items])
        wrong = mixtures(clap, items, [items[other].stem_N for other in partner])
        return ReferenceSet(
            stems=in_space(clap, stems, "stem"),
            mixtures=in_space(clap, true, "mixture"),
            mispaired=in_space(clap, wrong, "mixture"),
        )

    def embedded(self, stems: Sequence[Audio]) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (M, E) of stems, one for each candidate, and of their mixtures with the candidates' contexts."""
        stems_ME = np.stack([embed_one(self.clap, stem_N[None]) for stem_N in stems])
        return stems_ME, mixtures(self.clap, self.candidates, stems)

    def scores(self, stems: Sequence[Audio]) -> dict[str, float]:
        return self._scores(*self.embedded(stems))

    def undamaged(self) -> tuple[dict[str, float], dict[str, float]]:
        """The scores of the real stems, and the standard error of each."""
        made = self._statistics(*self.real)
        errors = {name: estimate(made[name](), self.tracks).interval(0.95).error for name in RISES}
        return self._scores(*self.real), errors

    def wrong_songs(self, steps: int) -> Iterator[dict[str, float]]:
        """Ever more candidates are the stems of other songs' candidates."""
        partner = derangement(self.tracks, seed=1)
        wrong = self.embedded([self.candidates[other].stem_N for other in partner])
        order = np.random.default_rng(2).permutation(len(partner))
        for step in range(1, steps + 1):
            is_wrong_M1 = (order < len(partner) * step / steps)[:, None]
            yield self._scores(*(np.where(is_wrong_M1, bad, good) for bad, good in zip(wrong, self.real, strict=True)))

    def _scores(self, stems_ME: np.ndarray, mixtures_ME: np.ndarray) -> dict[str, float]:
        every = np.arange(len(stems_ME))
        made = self._statistics(stems_ME, mixtures_ME)
        return {name: made[name]()(every) for name in RISES}

    def _statistics(self, stems_ME: np.ndarray, mixtures_ME: np.ndarray) -> Statistics:
        asked = CandidateSet(
            stems=in_space(self.clap, stems_ME, "stem"),
            mixtures=in_space(self.clap, mixtures_ME, "mixture"),
            target_audio=in_space(self.clap, self.real[0], "stem"),
            target_text=in_space(self.clap, self.text, "text"),
        )
        return row_statistics(self.reference, asked, NEIGHBOURS)


def mixtures(clap: Clap, items: Sequence[Item], stems: Sequence[Audio]) -> np.ndarray:
    """Embeddings (M, E) of each item's context with the stem that is given for it."""
    pairs = zip(items, stems, strict=True)
    return np.concatenate([embed_mixture(clap, item.context_N[None], stem_N[None], MIXING) for item, stem_N in pairs])


def in_space(clap: Clap, vectors_ME: np.ndarray, content: str) -> EmbeddingSet:
    spec = clap.spec
    space = Space(name=spec.name, width=spec.width, normalised=spec.normalised, weights_sha256=spec.weights_sha256)
    ids = tuple(map(str, range(len(vectors_ME))))
    return EmbeddingSet(vectors_ND=vectors_ME, ids=ids, space=space, content=content)


def tell(
    name: str, strengths: Sequence[str], scores: Sequence[Mapping[str, float]], errors: Mapping[str, float]
) -> None:
    """Prints the rows of a damage and the verdict under them; the first scores are of no damage."""
    for strength, row in zip(strengths, scores[1:], strict=True):
        print(line(f"{name} {strength}", row))
    verdicts = [verdict([row[metric] for row in scores], errors[metric], rises=RISES[metric]) for metric in RISES]
    print(f"| **{name}: seen?** | " + " | ".join(verdicts) + " |", flush=True)


def verdict(values: Sequence[float], error: float, *, rises: bool) -> str:
    """Whether a metric moved as it should while the damage grew."""
    steps = np.diff(values) if rises else -np.diff(values)
    if abs(steps.sum()) <= 2 * error:
        return "no"
    if steps.sum() < 0:
        return "**wrong way**"
    return "yes" if steps.min() >= -error else "yes, not in order"


def line(name: str, scores: Mapping[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{scores[metric]:.3g}" for metric in RISES) + " |"


if __name__ == "__main__":
    main()
