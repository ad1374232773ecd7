"""Claims about FAD at infinite size: nearer to a known distance than the plain one, and honest about its noise."""

import numpy as np
import pytest

from metrics.frechet import Gaussian, frechet_distance
from metrics.infinite_size import extrapolated_frechet_distance

WIDTH, SHIFT = 16, 0.3


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.fixture
def standard():
    """The Gaussian itself, not a sample of it: mean 0, covariance 1."""
    return Gaussian(np.zeros(WIDTH), np.eye(WIDTH), 10**6, None)


@pytest.fixture
def names():
    return lambda count: [str(row) for row in range(count)]


def test_the_extrapolated_distance_is_nearer_to_that_of_known_gaussians_than_the_plain_one(rng, standard, names):
    truth = WIDTH * SHIFT**2  # equal covariances: the squared shift alone
    plain, found = [], []
    for seed in range(12):
        candidate = rng.standard_normal((600, WIDTH)) + SHIFT
        told = extrapolated_frechet_distance(standard, candidate, names(600), seed=seed)
        plain.append(told.plain)
        found.append(told.interval.value)
        assert told.plain == pytest.approx(frechet_distance(standard, candidate))
    assert np.mean(plain) - truth > 0.1
    assert abs(np.mean(found) - truth) < 0.25 * (np.mean(plain) - truth)
    assert np.mean(np.abs(np.subtract(found, truth))) < np.mean(np.abs(np.subtract(plain, truth)))


def test_its_interval_holds_the_true_distance_about_as_often_as_it_says(rng, standard, names):
    truth = WIDTH * SHIFT**2
    intervals = [
        extrapolated_frechet_distance(standard, rng.standard_normal((300, WIDTH)) + SHIFT, names(300), seed=0).interval
        for _ in range(24)
    ]
    assert np.mean([found.low <= truth <= found.high for found in intervals]) >= 0.8  # 95 % less three standard errors


def test_rows_of_one_track_bring_no_more_than_the_track_does(rng, standard, names):
    rows = rng.standard_normal((300, WIDTH)) + SHIFT
    copies = np.repeat(rows, 4, axis=0) + 1e-3 * rng.standard_normal((1200, WIDTH))
    tracks = [name for name in names(300) for _ in range(4)]
    of_tracks = extrapolated_frechet_distance(standard, copies, tracks, seed=0).interval.value
    of_rows = extrapolated_frechet_distance(standard, copies, names(1200), seed=0).interval.value
    assert of_tracks == pytest.approx(
        extrapolated_frechet_distance(standard, rows, names(300), seed=0)[0].value, abs=0.02
    )
    assert of_rows - of_tracks > 0.1  # rows taken as independent leave most of the bias


def test_the_line_is_nearly_straight_the_seed_decides_and_order_does_not(rng, standard, names):
    candidate = rng.standard_normal((600, WIDTH)) + SHIFT
    told = extrapolated_frechet_distance(standard, candidate, names(600), seed=4)
    assert told.r_squared > 0.98
    assert extrapolated_frechet_distance(standard, candidate, names(600), seed=4) == told
    assert extrapolated_frechet_distance(standard, candidate, names(600), seed=5) != told
    turned = extrapolated_frechet_distance(standard, candidate[::-1], names(600)[::-1], seed=4)
    assert turned.interval == pytest.approx(told.interval, rel=1e-9)


def test_too_few_rows_for_their_directions_are_an_error(rng, standard, names):
    with pytest.raises(ValueError, match=r"leave 25 in the smallest of 4 pieces, .* add candidates"):
        extrapolated_frechet_distance(standard, rng.standard_normal((100, WIDTH)), names(100), seed=0)
    with pytest.raises(ValueError, match="90 track ids for 400 candidates"):
        extrapolated_frechet_distance(standard, rng.standard_normal((400, WIDTH)), names(90), seed=0)
