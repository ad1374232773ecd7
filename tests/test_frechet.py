"""Claims about the Fréchet distance: closed forms first, then invariances, then agreement with the peers."""

import numpy as np
import pytest
from scipy.linalg import hadamard, sqrtm

from metrics.frechet import frechet_distance, gaussian


@pytest.fixture
def rng():
    return np.random.default_rng(20260)


@pytest.fixture
def with_moments(rng):
    """A set of n rows whose sample mean and covariance (ddof 1) are exactly the given ones."""

    def build(mean, covariance, n=60):
        mean, covariance = np.asarray(mean, float), np.atleast_2d(np.asarray(covariance, float))
        raw = rng.standard_normal((n, len(mean)))
        raw -= raw.mean(axis=0)
        white = np.linalg.solve(np.linalg.cholesky(np.cov(raw.T).reshape(len(mean), -1)), raw.T).T
        return white @ np.linalg.cholesky(covariance).T + mean

    return build


def test_fad_of_one_dimensional_gaussians_is_the_difference_of_means_and_deviations(with_moments):
    a, b = with_moments([1.0], [[4.0]]), with_moments([4.0], [[25.0]])
    assert frechet_distance(a, b) == pytest.approx((4 - 1) ** 2 + (5 - 2) ** 2, rel=1e-12)


def test_fad_of_commuting_covariances_sums_over_the_axes(with_moments):
    first, second = np.array([1.0, 4.0, 9.0, 0.25]), np.array([4.0, 1.0, 16.0, 0.0625])
    a, b = with_moments(np.zeros(4), np.diag(first)), with_moments([1, 2, 3, 4], np.diag(second), n=90)
    expected = 30 + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_fad_of_two_dimensional_covariances_that_do_not_commute_has_its_closed_form(with_moments):
    first, second = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.5], [-0.5, 3.0]])
    product = first @ second
    trace_of_root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(first) + np.trace(second) - 2 * trace_of_root
    assert frechet_distance(with_moments([0, 0], first), with_moments([0, 0], second)) == pytest.approx(
        expected, rel=1e-12
    )


def test_fad_is_exact_with_fewer_rows_than_dimensions(rng):
    a, b = np.zeros((5, 64)), np.zeros((7, 64))
    a[:, :20], b[:, 20:50] = rng.standard_normal((5, 20)), rng.standard_normal((7, 30))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.var(a, axis=0, ddof=1).sum() + np.var(b, axis=0, ddof=1).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-13)  # orthogonal supports share no root


def test_fad_of_a_shifted_set_is_the_squared_shift(rng):
    a, shift = rng.standard_normal((30, 50)), rng.standard_normal(50)
    assert frechet_distance(a, a + shift) == pytest.approx(shift @ shift, rel=1e-12)


def test_fad_of_a_set_with_itself_is_zero_within_rounding_and_never_negative(rng):
    for rows, width in ((2, 1), (10, 64), (500, 64)):
        a = rng.standard_normal((rows, width))
        assert 0.0 <= frechet_distance(a, a[::-1].copy()) <= 1e-13 * width


def test_fad_matches_the_symmetric_square_root_on_full_rank_sets(rng):
    a = rng.standard_normal((400, 48)) @ rng.standard_normal((48, 48))
    b = rng.standard_normal((300, 48)) @ rng.standard_normal((48, 48)) + 0.3
    first, second = np.cov(a.T), np.cov(b.T)
    root = sqrtm(first)
    traces = np.trace(first) + np.trace(second)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * np.trace(sqrtm(root @ second @ root)).real
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-9 * traces)


def test_fad_ignores_order_rotation_and_a_common_shift_and_is_symmetric(rng):
    a, b = rng.standard_normal((80, 12)) * 2, rng.standard_normal((60, 12)) + 0.5
    rotation = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    value = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(rng.permutation(a), rng.permutation(b)) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(a + 1e6, b + 1e6) == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_fad_grows_with_the_square_of_the_scale(rng, scale):
    a, b = rng.standard_normal((30, 8)), rng.standard_normal((20, 8)) + 1
    assert frechet_distance(scale * a, scale * b) == pytest.approx(scale**2 * frechet_distance(a, b), rel=1e-12)


def test_float32_rows_far_from_the_origin_lose_no_digits(rng):
    a = (1000 + 0.05 * rng.standard_normal((200, 16))).astype(np.float32)
    b = (1000 + 0.07 * rng.standard_normal((150, 16))).astype(np.float32)
    near = frechet_distance(a.astype(np.float64) - 1000, b.astype(np.float64) - 1000)
    assert frechet_distance(a, b) == pytest.approx(near, rel=1e-9)


@pytest.mark.parametrize(
    "rotate", [hadamard(256) / 16.0, np.linalg.qr(np.random.default_rng(0).normal(size=(256, 256)))[0]]
)
def test_fad_of_many_directions_near_the_roundings_of_one_keeps_eleven_digits(rotate):
    # Orthogonal columns of ±1: covariances 1024/1023 s², which commute. Without the look at the condition of Cholesky
    # the first rotation is 1.4e-9 of the traces off, more than is promised; with eigenvalues alone the second is 8e-10.
    one = np.where(np.arange(256) == 0, 1.0, 3e-8)
    flat = np.full(256, 1 / 16)
    a, b = (hadamard(1024)[:, 1:257] * scale @ rotate for scale in (one, flat))
    expected = 1024 / 1023 * np.square(one - flat).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-11)


def test_a_gaussian_fitted_once_gives_the_same_distance(rng):
    a, b = rng.standard_normal((50, 8)), rng.standard_normal((40, 8))
    assert frechet_distance(gaussian(a), gaussian(b)) == frechet_distance(a, b)


def test_a_single_row_has_no_covariance(rng):
    with pytest.raises(ValueError, match=r"candidate .* 1 row\(s\) where at least 2"):
        frechet_distance(rng.standard_normal((5, 3)), rng.standard_normal((1, 3)))


def test_two_widths_never_compare(rng):
    with pytest.raises(ValueError, match="width 3 and 4"):
        frechet_distance(rng.standard_normal((5, 3)), rng.standard_normal((5, 4)))


def test_audio_metrics_gives_the_same_fad_where_it_is_well_conditioned(rng):
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("audio_metrics.metrics.fad")
    data = pytest.importorskip("audio_metrics.data")
    a, b = rng.standard_normal((300, 24)), rng.standard_normal((200, 24)) * 1.3 + 0.2
    sets = [data.AudioMetricsData(), data.AudioMetricsData()]
    for one, rows in zip(sets, (a, b), strict=True):
        one.add(torch.from_numpy(rows))
    assert frechet_distance(a, b) == pytest.approx(peer.frechet_distance(*sets), rel=1e-10)
