"""Claims about the kernel distance: hand-counted sets, float64 answers at float32 speed, the peer's subsets."""

import numpy as np
import pytest

from metrics import kernel
from metrics.frechet import frechet_distance
from metrics.kernel import kernel_distance, kernel_distance_subsets, kernel_set


@pytest.fixture
def rng():
    return np.random.default_rng(31)


@pytest.fixture
def statistic():
    """The unbiased statistic from full kernel matrices in float64."""

    def mmd(x, y):
        x, y = x.astype(np.float64), y.astype(np.float64)
        xx, yy, xy = (((a @ b.T) / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        n, m = len(x), len(y)
        within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
        return within - 2 * xy.mean()

    return mmd


@pytest.fixture
def clap_like(rng):
    """Unit vectors of width 512 about a common direction, as CLAP's are."""

    def build(n, shift=0.0):
        rows = rng.standard_normal((n, 512)) * np.linspace(2, 0.1, 512) + 1.5 + shift * np.linspace(-1, 1, 512)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return build


def test_kd_of_two_points_each_is_counted_by_hand():
    zeros, ones = np.zeros((2, 1)), np.ones((2, 1))
    assert kernel_distance(zeros, ones) == pytest.approx(1 + 8 - 2 * 1, abs=1e-14)
    a, b = np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 1.0], [-1.0, 1.0], [2.0, 2.0]])
    # within a: k = 1; within b: t = 0, 2, 0 so (1 + 27 + 1) / 3; across: t = 1, -1, 2, 1, 1, 2.
    across = (8 + 0 + 27 + 8 + 8 + 27) / 6
    assert kernel_distance(a, b) == pytest.approx(1 + 29 / 3 - 2 * across, abs=1e-13)


def test_kd_of_clap_like_float32_rows_is_that_of_float64(clap_like, statistic):
    near, far = clap_like(700), clap_like(300, shift=0.8)
    for a, b in ((near, clap_like(300)), (near, far)):
        assert kernel_distance(a, b) == pytest.approx(statistic(a, b), abs=1e-12)


@pytest.mark.parametrize(("rows", "width", "scale"), [(2, 3, 1.0), (50, 1, 1.0), (60, 16, 30.0), (80, 700, 3.0)])
def test_kd_matches_full_kernel_matrices_at_every_scale(rng, statistic, rows, width, scale):
    a = (scale * rng.standard_normal((rows, width))).astype(np.float32)
    b = (scale * (rng.standard_normal((rows + 1, width)) + 0.2)).astype(np.float32)
    largest = (np.linalg.norm(np.vstack([a, b]), axis=1).max() ** 2 / width + 1) ** 3
    assert kernel_distance(a, b) == pytest.approx(statistic(a, b), abs=1e-12 * largest)


def test_blocks_change_nothing(rng, monkeypatch):
    a, b = rng.standard_normal((70, 5)), rng.standard_normal((40, 5))
    whole = kernel_distance(a, b), *kernel_distance_subsets(a, b, subsets=3, subset_size=10)
    monkeypatch.setattr(kernel, "BLOCK_PAIRS", 300)
    assert (kernel_distance(a, b), *kernel_distance_subsets(a, b, subsets=3, subset_size=10)) == pytest.approx(
        whole, rel=1e-12
    )


def test_kd_has_mean_zero_on_equal_distributions(rng):
    draws = [kernel_distance(rng.standard_normal((40, 6)), rng.standard_normal((25, 6))) for _ in range(200)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(200)
    assert min(draws) < 0  # nothing is clamped


def test_kd_of_identical_sets_is_negative_because_the_cross_term_keeps_its_diagonal(rng):
    a = rng.standard_normal((100, 8))
    assert kernel_distance(a, a) < 0


def test_kd_ignores_order_and_rotation_and_is_symmetric(rng):
    a, b = rng.standard_normal((30, 6)), rng.standard_normal((20, 6)) + 0.4
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for other in ((b, a), (a[::-1], rng.permutation(b)), (a @ rotation, b @ rotation)):
        assert kernel_distance(*other) == pytest.approx(kernel_distance(a, b), rel=1e-12)


def test_fad_is_at_least_the_mean_term_that_kd_sees_for_unit_vectors(clap_like):
    for shift in (0.0, 0.3, 2.0):
        a, b = clap_like(200), clap_like(150, shift=shift)
        # metrics.md A1: KD of unit vectors is about 3/512 of the squared distance of the means, which is part of FAD.
        assert frechet_distance(a, b) >= 512 / 3 * kernel_distance(a, b)


def test_a_kernel_sum_computed_once_gives_the_same_distance(clap_like):
    a, b = clap_like(50), clap_like(40)
    assert kernel_distance(kernel_set(a), kernel_set(b)) == kernel_distance(a, b)


def test_subsets_follow_the_published_protocol_draw_by_draw(rng, statistic):
    reference, candidate = rng.standard_normal((90, 8)), rng.standard_normal((50, 8)) + 0.1
    draw = np.random.default_rng(1234)
    expected = []
    for _ in range(6):
        chosen = candidate[draw.choice(50, 25, replace=False)]  # 1000 is not below 50, so half of 50
        expected.append(statistic(chosen, reference[draw.choice(90, 25, replace=False)]))
    found = kernel_distance_subsets(reference, candidate, subsets=6)
    assert found.mean == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.std == pytest.approx(np.std(expected), abs=1e-12)


def test_a_subset_size_below_the_smaller_set_is_kept(rng):
    a, b = rng.standard_normal((90, 8)), rng.standard_normal((50, 8))
    assert kernel_distance_subsets(a, b, subsets=5, subset_size=50) == kernel_distance_subsets(a, b, subsets=5)
    assert kernel_distance_subsets(a, b, subsets=5, subset_size=49) != kernel_distance_subsets(a, b, subsets=5)


def test_audio_metrics_gives_the_same_subset_mean_and_spread(rng):
    peer = pytest.importorskip("audio_metrics.metrics.kd")
    reference, candidate = rng.standard_normal((120, 32)), rng.standard_normal((80, 32)) + 0.2
    theirs = peer.kid_features_to_metric(candidate, reference)
    ours = kernel_distance_subsets(reference, candidate)
    assert ours.mean == pytest.approx(theirs["kernel_distance_mean"], abs=1e-11)
    assert ours.std == pytest.approx(theirs["kernel_distance_std"], abs=1e-11)


def test_a_single_row_has_no_pairs(rng):
    with pytest.raises(ValueError, match=r"candidate .* at least 2"):
        kernel_distance(rng.standard_normal((5, 3)), rng.standard_normal((1, 3)))
    with pytest.raises(ValueError, match="at least 4"):
        kernel_distance_subsets(rng.standard_normal((5, 3)), rng.standard_normal((3, 3)))
