"""`stemwright corpus verify`: can true pairs of the embedded corpus be told from mismatched ones by trivial means?"""

from __future__ import annotations

from data_manifests.adherence_check import CorpusReport, SongAudio, verify
from data_manifests.composer import EmbeddedCorpus, compose
from data_manifests.renderer import render
from flows.scales import WINDOW_SAMPLES

LEAST_AUC = 0.85  # below it no model could learn adherence, nor any score show it


def corpus_lines(*, songs: int, seconds: float, seed: int) -> tuple[list[str], bool]:
    """What the check finds in freshly rendered songs, and whether the corpus is fit for use."""
    corpus = EmbeddedCorpus(songs=songs, seconds=seconds, seed=seed, heldout=0)
    report = verify((_song_audio(corpus, index) for index in range(songs)), window_samples=WINDOW_SAMPLES)
    auc = report.auc
    lines = [
        f"{report.songs} songs, {report.stems} stems; the loudest sum peaks at {report.loudest_sum:.2f} of full scale",
        *_faults(report),
        *(f"{role:10s} active {share:.2f} of the time" for role, share in sorted(report.activity.items())),
        f"true pairs told from mismatched ones with AUC {auc.sum:.3f} (onsets {auc.onset:.3f}, chroma {auc.chroma:.3f};"
        f" {auc.true_pairs} true, {auc.mismatched_pairs} mismatched); at least {LEAST_AUC} is wanted",
    ]
    return lines, report.sound and auc.sum >= LEAST_AUC


def _faults(report: CorpusReport) -> list[str]:
    found = {
        "unequal lengths": report.unequal_lengths,
        "not finite": report.not_finite,
        "silent": report.silent,
    }
    return [f"{what}: {', '.join(names)}" for what, names in found.items() if names]


def _song_audio(corpus: EmbeddedCorpus, index: int) -> SongAudio:
    song = compose(corpus, index)
    return SongAudio(
        id=song.id,
        stems=render(song),
        roles={part.id: part.role for part in song.parts},
        vocals=frozenset(part.id for part in song.parts if part.is_vocal),
    )
