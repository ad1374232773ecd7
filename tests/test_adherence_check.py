"""What the adherence check promises: it hears rhythm and harmony, and tells a song's own stems from others'."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from data_manifests.adherence_check import (
    SongAudio,
    active_seconds,
    chromagram,
    features,
    onset_envelope,
    roc_auc,
    scores,
    verify,
)
from data_manifests.composer import EmbeddedCorpus, compose
from data_manifests.renderer import render

RATE_HZ = 48_000


@pytest.fixture
def band():
    """A song of two stems that share `beat_s` and a triad above `root_hz`: pulsed chords in two registers."""

    def play(song_id, *, beat_s, root_hz, seconds=6):
        time_S = np.arange(seconds * RATE_HZ) / RATE_HZ
        pulse_S = np.exp(-8 * (time_S % beat_s) / beat_s)
        chord_S = sum(np.sin(2 * np.pi * root_hz * ratio * time_S) for ratio in (1, 5 / 4, 3 / 2))
        low_S = sum(np.sin(np.pi * root_hz * ratio * time_S) for ratio in (1, 5 / 4, 3 / 2))
        stems = {name: np.float32(0.1 * np.stack([wave, wave])) for name, wave in (("keys", chord_S), ("bass", low_S))}
        pulsed = {name: (wave * pulse_S).astype(np.float32) for name, wave in stems.items()}
        return SongAudio(song_id, pulsed, {name: name for name in pulsed})

    return play


@pytest.fixture
def songs(band):
    return [
        band(f"song_{place}", beat_s=beat_s, root_hz=root_hz)
        for place, (beat_s, root_hz) in enumerate([(0.5, 262.0), (0.41, 311.0), (0.63, 370.0)])
    ]


def test_auc_matches_its_closed_forms_and_an_independent_library():
    low, high = np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0])
    assert (roc_auc(high, low), roc_auc(low, high), roc_auc(low, low)) == (1.0, 0.0, 0.5)
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.5, 1, 40).round(1), rng.normal(0, 1, 70).round(1)
    expected = roc_auc_score(np.repeat([1, 0], [40, 70]), np.concatenate([positive, negative]))
    assert roc_auc(positive, negative) == pytest.approx(expected)


def test_the_chroma_of_a_triad_is_its_three_pitch_classes():
    time_S = np.arange(32_000) / 16_000
    tones = [261.63 * 2 ** (semitones / 12) for semitones in (0, 4, 7)]
    mean_P = chromagram(np.float32(sum(np.sin(2 * np.pi * hz * time_S) for hz in tones))).mean(axis=0)
    assert set(np.argsort(mean_P)[-3:]) == {0, 4, 7}


def test_the_onset_envelope_peaks_where_a_sound_begins():
    low_S = np.zeros(16_000, np.float32)
    low_S[8000:] = np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000)
    assert np.argmax(onset_envelope(low_S)) * 256 == pytest.approx(8000 - 512, abs=512)


def test_a_window_agrees_with_itself_and_silence_with_nothing(songs):
    audio_CS = songs[0].stems["keys"]
    own, silence = features(audio_CS), features(np.zeros_like(audio_CS))
    assert scores(own, own) == pytest.approx((1.0, 1.0))
    assert scores(own, silence) == (0.0, 0.0)


def test_scores_do_not_depend_on_loudness(songs):
    stems = songs[0].stems
    loud = scores(features(stems["keys"]), features(stems["bass"]))
    quiet = scores(features(stems["keys"]), features(0.1 * stems["bass"]))
    assert loud == pytest.approx(quiet, abs=1e-3)


def test_activity_has_one_truth_value_per_second():
    audio_CS = np.zeros((2, 3 * RATE_HZ + 100), np.float32)
    audio_CS[:, RATE_HZ : 2 * RATE_HZ] = 0.1
    assert list(active_seconds(audio_CS)) == [False, True, False]


def test_songs_of_own_rhythm_and_key_are_told_apart(songs):
    auc = verify(songs, window_samples=4 * RATE_HZ).auc
    assert (auc.true_pairs, auc.mismatched_pairs) == (6, 12)
    assert auc.sum == 1.0 and auc.onset > 0.9 and auc.chroma > 0.9


def test_copies_of_one_song_cannot_be_told_apart(band):
    copies = [band(name, beat_s=0.5, root_hz=262.0) for name in ("first", "second", "third")]
    assert verify(copies, window_samples=4 * RATE_HZ).auc.sum == pytest.approx(0.5)


def test_vocals_are_never_targets(songs):
    sung = [song._replace(vocals=frozenset({"keys"})) for song in songs]
    assert verify(sung, window_samples=4 * RATE_HZ).auc.true_pairs == 3


def test_one_song_alone_is_refused(songs):
    with pytest.raises(ValueError, match="at least two songs"):
        verify(songs[:1], window_samples=4 * RATE_HZ)


def test_what_is_wrong_with_a_corpus_is_named(songs):
    stems = songs[0].stems
    ragged = SongAudio("ragged", {"keys": stems["keys"], "bass": stems["bass"][:, :-1]}, songs[0].roles)
    broken = SongAudio("broken", {"keys": stems["keys"] * np.nan, "bass": stems["bass"]}, songs[0].roles)
    mute = SongAudio("mute", {"keys": stems["keys"], "bass": 0 * stems["bass"]}, songs[0].roles)
    report = verify([*songs, ragged, broken, mute], window_samples=4 * RATE_HZ)
    assert report.unequal_lengths == ("ragged",)
    assert report.not_finite == ("broken/keys",)
    assert report.silent == ("mute/bass",)
    assert not report.sound and verify(songs, window_samples=4 * RATE_HZ).sound


def test_embedded_corpus_tells_true_pairs_from_mismatched_ones():
    corpus = EmbeddedCorpus(songs=6, seconds=14.0, seed=0, heldout=1)
    composed = [compose(corpus, index) for index in range(corpus.songs)]
    listened = (
        SongAudio(
            song.id,
            render(song),
            {part.id: part.role for part in song.parts},
            frozenset(part.id for part in song.parts if part.is_vocal),
        )
        for song in composed
    )
    report = verify(listened, window_samples=491_520)
    assert report.sound and report.loudest_sum < 0.9
    assert report.auc.sum >= 0.85
    assert report.activity["drums"] > 0.7 and report.activity["bass"] > 0.7
