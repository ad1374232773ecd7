import numpy as np
import pytest

from models.clap_quality import (
    centroid_accuracy,
    clap_quality,
    effective_rank,
    matched_cosines,
    modality_gap,
    recall_at_k,
    zero_shot_accuracy,
)


@pytest.fixture
def unit():
    def draw(rows, width, seed=0):
        vectors = np.random.default_rng(seed).normal(size=(rows, width))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return draw


def test_recall_is_one_for_the_own_vector_and_zero_for_the_opposite(unit):
    vectors = unit(20, 8)
    assert recall_at_k(vectors, vectors, k=1) == 1.0
    assert recall_at_k(vectors, -vectors, k=1) == 0.0


def test_recall_counts_the_rank_of_the_own_candidate():
    query = np.eye(4, dtype=np.float32)
    shifted = np.roll(query, 1, axis=0)  # every own candidate is orthogonal, one other is perfect, two tie
    assert recall_at_k(query, shifted, k=1) == 0.0
    assert recall_at_k(query, shifted, k=2) == pytest.approx(1 / 3)  # one nearer, three equal
    assert recall_at_k(query, shifted, k=4) == 1.0


def test_a_collapsed_space_scores_chance(unit):
    same = np.repeat(unit(1, 8), 40, axis=0)
    assert recall_at_k(same, same, k=5) == pytest.approx(5 / 40)


def test_windows_that_share_a_text_share_the_hit(unit):
    texts = np.repeat(unit(10, 16), 4, axis=0)
    assert recall_at_k(texts, texts, k=1) == pytest.approx(1 / 4)
    assert recall_at_k(texts, texts, k=4) == 1.0


def test_recall_ignores_the_order_of_the_windows(unit):
    query, candidate = unit(30, 8), unit(30, 8, seed=1)
    order = np.random.default_rng(2).permutation(30)
    assert recall_at_k(query, candidate, k=5) == recall_at_k(query[order], candidate[order], k=5)


def test_centroids_of_separate_clouds_name_every_window(unit):
    axes = np.repeat(np.eye(3, 8), 5, axis=0) + 0.1 * unit(15, 8)
    labels = ["bass"] * 5 + ["drums"] * 5 + ["keys"] * 5
    assert centroid_accuracy(axes, labels, reference_RE=axes, reference_labels=labels) == 1.0
    swapped = ["drums"] * 5 + ["bass"] * 5 + ["keys"] * 5
    assert centroid_accuracy(axes, swapped, reference_RE=axes, reference_labels=labels) == pytest.approx(1 / 3)


def test_a_role_without_reference_windows_is_an_error(unit):
    with pytest.raises(ValueError, match="flute"):
        centroid_accuracy(unit(2, 4), ["bass", "flute"], reference_RE=unit(1, 4), reference_labels=["bass"])


def test_zero_shot_takes_the_nearest_class():
    assert zero_shot_accuracy(np.eye(2), np.eye(2), [0, 0]) == 0.5


def test_effective_rank_is_zero_one_and_two_for_a_point_a_line_and_a_square():
    assert effective_rank(np.ones((5, 3))) == 0.0
    line = np.outer(np.linspace(-1, 1, 9), [1.0, 2.0, 0.0])
    assert effective_rank(line) == pytest.approx(1.0)
    square = np.array([[1, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]], dtype=float)
    assert effective_rank(square) == pytest.approx(2.0)


def test_matched_cosines_separate_own_from_other():
    own, other = matched_cosines(np.eye(4), np.eye(4))
    assert own == pytest.approx(1.0)
    assert other == pytest.approx(0.0)


def test_quality_gathers_the_single_figures(unit):
    audio, text = unit(12, 8), unit(12, 8, seed=3)
    roles = ["bass", "drums", "keys"] * 4
    told = {"audio_NE": audio, "text_NE": text, "roles": roles, "reference_audio_RE": audio}
    told |= {"prompt_KE": text[:3], "prompted_roles": roles[:3]}
    quality = clap_quality(reference_roles=roles, **told)
    assert quality.windows == 12
    assert quality.recall_at_5 == recall_at_k(audio, text, k=5)
    assert quality.zero_shot_role_accuracy == zero_shot_accuracy(audio, text[:3], [0, 1, 2] * 4)
    assert (quality.modality_gap, quality.modality_gap_share) == modality_gap(audio, text)
    assert quality.effective_rank == effective_rank(audio)
    assert clap_quality(reference_roles=["flute"] * 12, **told).role_accuracy is None


def test_windows_of_a_role_without_a_centroid_are_left_out_of_the_accuracy(unit):
    axes, roles = np.eye(3), ["bass", "drums", "flute"]
    quality = clap_quality(
        audio_NE=axes,
        text_NE=axes,
        roles=roles,
        reference_audio_RE=axes[:2],
        reference_roles=["bass", "keys"],
        prompt_KE=axes,
        prompted_roles=roles,
    )
    assert quality.role_accuracy == 1.0  # the bass alone
    assert quality.recall_at_5 == 1.0  # of three windows


def test_the_gap_of_clouds_that_are_apart_by_a_shift_alone_is_all_that_the_cosine_lacks():
    angle_N = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    circle_N2 = np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1)
    lifted = [np.concatenate([0.8 * circle_N2, np.full((8, 1), height)], axis=1) for height in (0.6, -0.6)]
    gap = modality_gap(*lifted)
    assert gap == pytest.approx((1.2, 1.0))
    own, _ = matched_cosines(*lifted)
    assert 1 - own == pytest.approx(gap.distance**2 / 2)


def test_clouds_about_one_mean_have_no_gap_however_badly_they_match(unit):
    circle = np.concatenate([np.eye(4), -np.eye(4)])
    assert modality_gap(circle, -circle) == pytest.approx((0.0, 0.0))
    assert modality_gap(circle, circle) == (0.0, 0.0)


def test_rows_that_do_not_match_are_refused(unit):
    with pytest.raises(ValueError, match="one candidate per query"):
        recall_at_k(unit(4, 8), unit(5, 8), k=1)
    with pytest.raises(ValueError, match="between 1"):
        recall_at_k(unit(4, 8), unit(4, 8), k=5)
