"""Claims about accompaniment prompt adherence and the pairing it stands on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.adherence import adherence, audio_prompt_adherence, derangement


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def mixtures(rng):
    """True pairs, mispaired ones a step away, and the direction of the step."""
    true = rng.standard_normal((200, 8))
    step = np.zeros(8)
    step[0] = 2.0
    return true, true + step, step


def test_true_pairs_score_one_and_mispaired_ones_zero(mixtures):
    true, wrong, _ = mixtures
    assert audio_prompt_adherence(true, wrong, true) == pytest.approx(1.0, abs=1e-12)
    assert audio_prompt_adherence(true, wrong, wrong) == pytest.approx(0.0, abs=1e-12)


def test_candidates_between_both_score_by_their_place(mixtures):
    true, wrong, step = mixtures
    for share in (0.25, 0.5, 0.8):
        # With equal covariances FAD is the squared shift: 1/2 + ((1 - s)² - s²) / 2 = 1 - s.
        assert audio_prompt_adherence(true, wrong, true + share * step) == pytest.approx(1 - share, abs=1e-12)


def test_scores_beyond_both_ends_are_clipped(mixtures):
    true, wrong, step = mixtures
    assert audio_prompt_adherence(true, wrong, true - 3 * step) == 1.0
    assert audio_prompt_adherence(true, wrong, wrong + 3 * step) == 0.0


def test_candidates_off_the_line_land_near_one_half(mixtures):
    true, wrong, step = mixtures
    aside = np.roll(step, 1) * 5 + step / 2
    assert audio_prompt_adherence(true, wrong, true + aside) == pytest.approx(0.5, abs=1e-9)


def test_adherence_without_separation_is_an_error_and_not_a_zero():
    with pytest.raises(ValueError, match=r"0\.0 apart"):
        adherence(to_reference=0.1, to_mispaired=0.1, separation=0.0)


def test_audio_metrics_clips_the_same_way(rng):
    peer = pytest.importorskip("audio_metrics.metrics.apa")
    for to_reference, to_mispaired, separation in rng.uniform(0, 2, (50, 3)):
        ours = adherence(to_reference=to_reference, to_mispaired=to_mispaired, separation=separation)
        assert ours == pytest.approx(peer._apa(to_reference, to_mispaired, separation), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(0, 3))
def test_a_derangement_never_pairs_a_track_with_itself_and_exists_whenever_it_can(labels, seed):
    tracks = [f"track {label}" for label in labels]
    if 2 * max(labels.count(label) for label in labels) > len(labels):
        with pytest.raises(ValueError, match="at most half"):
            derangement(tracks, seed=seed)
        return
    partner = derangement(tracks, seed=seed)
    assert sorted(partner) == list(range(len(tracks)))
    assert all(tracks[row] != tracks[other] for row, other in enumerate(partner))


def test_a_derangement_follows_its_seed():
    tracks = [f"t{row // 3}" for row in range(60)]
    assert np.array_equal(derangement(tracks, seed=1), derangement(tracks, seed=1))
    assert not np.array_equal(derangement(tracks, seed=1), derangement(tracks, seed=2))


def test_every_derangement_of_four_tracks_is_about_equally_likely():
    found = [tuple(derangement(list("abcd"), seed=seed)) for seed in range(900)]
    counts = [found.count(one) for one in set(found)]
    assert len(counts) == 9  # !4
    assert min(counts) > 60
    assert max(counts) < 145  # 100 expected, 4.5 sigma


def test_rows_of_one_track_cannot_be_deranged():
    with pytest.raises(ValueError, match="3 of 4 rows are of one track"):
        derangement(["a", "a", "a", "b"], seed=0)
    with pytest.raises(ValueError, match="0 of 0"):
        derangement([], seed=0)
