"""`stemwright corpus verify`: can true pairs of the embedded corpus be told from mismatched ones by trivial means?"""

from __future__ import annotations

from data_manifests.adherence_check import AdherenceAuc, CorpusReport, SongAudio, hard_negatives_auc, verify
from data_manifests.composer import EmbeddedCorpus, compose, compose_hard_negative
from data_manifests.notation import Song
from data_manifests.renderer import render
from flows.scales import WINDOW_SAMPLES

LEAST_AUC = 0.85  # below it no model could learn adherence, nor any score show it

HARD_SONGS = 16


def corpus_lines(*, songs: int, seconds: float, seed: int) -> tuple[list[str], bool]:
    """What the check finds in freshly rendered songs, and whether the corpus is fit for use."""
    corpus = EmbeddedCorpus(songs=songs, seconds=seconds, seed=seed, heldout=0)
    report = verify((_song_audio(compose(corpus, index)) for index in range(songs)), window_samples=WINDOW_SAMPLES)
    twins = (
        (_song_audio(compose(corpus, index)), _song_audio(compose_hard_negative(corpus, index)))
        for index in range(min(songs, HARD_SONGS))
    )
    hard = hard_negatives_auc(twins, window_samples=WINDOW_SAMPLES)
    lines = [
        f"{report.songs} songs, {report.stems} stems; the loudest sum peaks at {report.loudest_sum:.2f} of full scale",
        *_faults(report),
        *(f"{role:10s} active {share:.2f} of the time" for role, share in sorted(report.activity.items())),
        f"true pairs told from mismatched ones with {_auc(report.auc)}; at least {LEAST_AUC} is wanted",
        f"from hard negatives (same style and key, tempo within 3 BPM) with {_auc(hard)}",
    ]
    return lines, report.sound and report.auc.sum >= LEAST_AUC


def _auc(auc: AdherenceAuc) -> str:
    return (
        f"AUC {auc.sum:.3f} (onsets {auc.onset:.3f}, chroma {auc.chroma:.3f}; "
        f"{auc.true_pairs} true, {auc.mismatched_pairs} mismatched)"
    )


def _faults(report: CorpusReport) -> list[str]:
    found = {
        "unequal lengths": report.unequal_lengths,
        "not finite": report.not_finite,
        "silent": report.silent,
    }
    return [f"{what}: {', '.join(names)}" for what, names in found.items() if names]


def _song_audio(song: Song) -> SongAudio:
    return SongAudio(
        id=song.id,
        stems=render(song),
        roles={part.id: part.role for part in song.parts},
        vocals=frozenset(part.id for part in song.parts if part.is_vocal),
    )
