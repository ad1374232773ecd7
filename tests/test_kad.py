"""Claims about KAD: hand-counted sets, the brute-force answer in float64, one bandwidth from the references."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from metrics import kad
from metrics.kad import kad_reference, kad_statistic, kernel_audio_distance, median_distance


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def brute_force():
    """The statistic from scipy's distances of every pair."""

    def distance(reference, candidate):
        x, y = reference.astype(np.float64), candidate.astype(np.float64)
        width = np.median(pdist(x))
        within = [np.exp(-(pdist(one) ** 2) / (2 * width**2)).mean() for one in (x, y)]
        return sum(within) - 2 * np.exp(-cdist(x, y, "sqeuclidean") / (2 * width**2)).mean()

    return distance


def test_kad_of_two_points_each_is_counted_by_hand():
    # References 2 apart, so the bandwidth is 2: k = exp(-d² / 8).
    found = kernel_audio_distance(np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]]))
    across = (1 + np.exp(-16 / 8) + np.exp(-4 / 8) + np.exp(-4 / 8)) / 4
    assert found == pytest.approx(np.exp(-4 / 8) + np.exp(-16 / 8) - 2 * across, abs=1e-15)


@pytest.mark.parametrize(("offset", "scale", "dtype"), [(0, 1, "f8"), (1e3, 0.05, "f8"), (0, 1, "f4")])
def test_kad_is_the_brute_force_one(rng, brute_force, offset, scale, dtype):
    reference = (offset + scale * rng.standard_normal((300, 40))).astype(dtype)
    candidate = (offset + scale * (rng.standard_normal((120, 40)) + 0.3)).astype(dtype)
    assert kernel_audio_distance(reference, candidate) == pytest.approx(brute_force(reference, candidate), abs=1e-11)


def test_kad_has_mean_zero_on_equal_distributions_and_is_not_clamped(rng):
    draws = [kernel_audio_distance(rng.standard_normal((60, 5)), rng.standard_normal((40, 5))) for _ in range(200)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(200)
    assert min(draws) < 0


def test_kad_ignores_order_rotation_place_and_scale(rng):
    a, b = rng.standard_normal((50, 6)), rng.standard_normal((30, 6)) + 0.4
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for moved in (lambda x: x[::-1], lambda x: x @ rotation, lambda x: x + 7, lambda x: 1e-3 * x):
        assert kernel_audio_distance(moved(a), moved(b)) == pytest.approx(kernel_audio_distance(a, b), rel=1e-9)


def test_the_bandwidth_is_the_references_own_whatever_the_candidates(rng, monkeypatch):
    a = rng.standard_normal((301, 7))
    assert median_distance(a) == pytest.approx(np.median(pdist(a)), rel=1e-12)
    around = kad_reference(a)
    assert kernel_audio_distance(around, 100 * a[:20]) == kernel_audio_distance(a, 100 * a[:20])
    monkeypatch.setattr(kad, "MEDIAN_ROWS", 100)
    assert median_distance(a) == pytest.approx(around.bandwidth, rel=0.03)


def test_blocks_change_nothing(rng, monkeypatch):
    a, b = rng.standard_normal((70, 5)), rng.standard_normal((40, 5))
    whole = kernel_audio_distance(a, b), kad_statistic(a, b)(np.arange(30))
    monkeypatch.setattr(kad, "BLOCK_PAIRS", 200)
    assert (kernel_audio_distance(a, b), kad_statistic(a, b)(np.arange(30))) == pytest.approx(whole, rel=1e-12)


def test_references_that_are_mostly_one_row_have_no_bandwidth(rng):
    with pytest.raises(ValueError, match="take duplicates out"):
        kernel_audio_distance(np.ones((10, 3)), rng.standard_normal((5, 3)))
    with pytest.raises(ValueError, match="at least 2"):
        kernel_audio_distance(rng.standard_normal((10, 3)), rng.standard_normal((1, 3)))
