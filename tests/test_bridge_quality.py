"""Claims about the ways from text embeddings to audio ones."""

import numpy as np
import pytest

from tasks.bridge_quality import crossing, mean_shift, ridge

# Shapes: N held-out stems, M training stems, K segments, E width.


def units(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def stems():
    """Texts, and audio that is a fixed rotation of them, moved to one side and a little different in each segment."""
    random = np.random.default_rng(0)
    rotation_EE = np.linalg.qr(random.standard_normal((16, 16)))[0]

    def pair(count):
        text_NE = units(random.standard_normal((count, 16)))
        moved_NE = text_NE @ rotation_EE + 2 * np.eye(16)[0]
        return text_NE, units(moved_NE[:, None] + 0.05 * random.standard_normal((count, 3, 16)))

    return pair(400), pair(60)


def test_mean_shift_closes_the_gap_of_the_means_and_is_the_identity_without_one(stems):
    (text_ME, audio_MKE), (text_NE, audio_NKE) = stems
    shifted_NE = mean_shift(text_NE, text_ME, audio_MKE)
    audio_NE = audio_NKE[:, 0]
    assert crossing("", shifted_NE, audio_NE).gap < 0.3 * crossing("", text_NE, audio_NE).gap
    assert np.allclose(mean_shift(text_NE, text_ME, text_ME[:, None]), text_NE, atol=1e-6)


def test_regression_undoes_a_linear_map_and_meets_the_right_audio(stems):
    (text_ME, audio_MKE), (text_NE, audio_NKE) = stems
    audio_NE = audio_NKE[:, 0]
    found = crossing("", ridge(text_NE, text_ME, audio_MKE), audio_NE)
    assert found.recall_at_5 > 0.9 > 0.3 > crossing("", text_NE, audio_NE).recall_at_5
    assert found.own_cosine > 0.95


def test_crossing_that_arrives_is_the_audio_itself(stems):
    audio_NE = stems[1][1][:, 0]
    arrived = crossing("there", audio_NE, audio_NE)
    assert arrived.own_cosine == pytest.approx(1, abs=1e-6) and arrived.recall_at_5 == 1 and arrived.gap == 0
    assert arrived.fad == pytest.approx(0, abs=1e-6)


def test_crossings_are_unit_vectors(stems):
    (text_ME, audio_MKE), (text_NE, _) = stems
    for crossed_NE in (mean_shift(text_NE, text_ME, audio_MKE), ridge(text_NE, text_ME, audio_MKE)):
        assert np.allclose(np.linalg.norm(crossed_NE, axis=1), 1, atol=1e-6)
