"""Claims about density and coverage: sets counted by hand, exact counts in hard geometries, agreement with prdc."""

import numpy as np
import pytest

from metrics import coarse_distances
from metrics.density_coverage import densities_and_coverages, density_coverage
from metrics.neighbourhoods import neighbourhoods


@pytest.fixture
def rng():
    return np.random.default_rng(77)


@pytest.fixture
def counted():
    """Density and coverage from float64 differences of every pair."""

    def count(reference, candidate, k):
        reference, candidate = reference.astype(np.float64), candidate.astype(np.float64)
        among = ((reference[:, None] - reference[None]) ** 2).sum(-1)
        np.fill_diagonal(among, np.inf)
        radius = np.sort(among, axis=1)[:, k - 1]
        inside = ((candidate[:, None] - reference[None]) ** 2).sum(-1) < radius
        return inside.sum() / (k * len(candidate)), inside.any(axis=0).mean()

    return count


@pytest.fixture
def geometries(rng):
    """Reference and candidate sets in which float32 distances alone go wrong."""
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), -1).reshape(-1, 3)
    normal, other = rng.standard_normal((150, 24)), rng.standard_normal((60, 24))
    return {
        "plain": (normal, other),
        "float32": (normal.astype(np.float32), other.astype(np.float32)),
        "ties on a grid": (grid, grid[::3] + 0.0),
        "far from the origin": (1000 + 0.05 * normal.astype(np.float32), 1000 + 0.05 * other.astype(np.float32)),
        "very far, float64": (1e9 + normal, 1e9 + other),
        "duplicates": (np.repeat(normal[:40], 4, axis=0), np.vstack([normal[:20], other])),
        "constant": (np.ones((40, 5)), np.ones((10, 5))),
        "heavy tails": (rng.standard_cauchy((150, 6)), rng.standard_cauchy((60, 6))),
        "tiny": (1e-25 * normal, 1e-25 * other),
        "huge": (1e25 * normal, 1e25 * other),
        "candidates beyond any float32": (normal, np.vstack([other, 1e40 * other[:5]])),
        "one dimension": (normal[:, :1], other[:, :1]),
        "one part in ten million apart": (
            np.ones((50, 8)) + 1e-7 * normal[:50, :8],
            np.ones((20, 8)) + 1e-7 * other[:20, :8],
        ),
        "a single candidate": (normal, other[:1]),
    }


def test_a_line_of_three_references_is_counted_by_hand():
    reference, candidate = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [1.0], [10.0]])
    # k = 1: radii 1, 1, 2. 0.5 lies inside 0 and 1; 1.0 inside 1 only (strictly nearer); 10 nowhere.
    assert density_coverage(reference, candidate, 1) == (3 / 3, 2 / 3)
    # k = 2: radii 3, 2, 3. 0.5 and 1.0 lie inside all three.
    assert density_coverage(reference, candidate, 2) == (6 / (2 * 3), 1.0)


def test_a_candidate_exactly_on_a_radius_is_outside():
    reference = np.array([[0.0], [2.0]])
    assert density_coverage(reference, np.array([[-2.0], [4.0]]), 1) == (0.0, 0.0)
    assert density_coverage(reference, np.array([[np.nextafter(-2.0, 0.0)]]), 1) == (1.0, 0.5)


def test_density_exceeds_one_where_candidates_crowd_the_centre_of_the_references():
    reference = np.array([[-1.0], [-0.9], [0.9], [1.0]])
    assert density_coverage(reference, np.zeros((5, 1)), 3).density == pytest.approx(4 / 3)


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_counts_are_exact_in_every_geometry(geometries, counted, k):
    for name, (reference, candidate) in geometries.items():
        assert density_coverage(reference, candidate, k) == counted(reference, candidate, k), name


def test_one_pass_gives_every_k_and_blocks_change_nothing(geometries, monkeypatch):
    reference, candidate = geometries["plain"]
    alone = {k: density_coverage(reference, candidate, k) for k in (1, 2, 5, 10)}
    monkeypatch.setattr(coarse_distances, "BLOCK_PAIRS", 1000)
    monkeypatch.setattr(coarse_distances, "RECHECK_PAIRS", 7)
    around = neighbourhoods(reference)
    assert densities_and_coverages(around, candidate, (1, 2, 5, 10)) == alone


def test_coverage_of_equal_distributions_is_what_theory_expects(rng):
    draws = [density_coverage(rng.standard_normal((200, 4)), rng.standard_normal((100, 4)), 5) for _ in range(30)]
    i = np.arange(1, 6)
    expected = 1 - np.prod((200 - i) / (200 + 100 - i))  # metrics.md A4
    assert np.mean([draw.coverage for draw in draws]) == pytest.approx(expected, abs=0.02)
    assert np.mean([draw.density for draw in draws]) == pytest.approx(1.0, abs=0.05)


def test_order_and_scale_change_nothing(geometries, rng):
    reference, candidate = geometries["plain"]
    expected = density_coverage(reference, candidate, 5)
    assert density_coverage(rng.permutation(reference), rng.permutation(candidate), 5) == expected
    assert density_coverage(8 * reference, 8 * candidate, 5) == expected


def test_prdc_counts_the_same(geometries, capsys):
    prdc = pytest.importorskip("prdc")
    reference, candidate = geometries["plain"]
    for k in (2, 5):
        theirs = prdc.compute_prdc(reference, candidate, nearest_k=k)
        found = density_coverage(reference, candidate, k)
        assert found.density == pytest.approx(theirs["density"], rel=1e-12)
        assert found.coverage == pytest.approx(theirs["coverage"], rel=1e-12)


def test_k_must_be_less_than_the_number_of_references(rng):
    rows = rng.standard_normal((5, 2))
    with pytest.raises(ValueError, match="k = 5 with 5 references"):
        density_coverage(rows, rows, 5)
    with pytest.raises(ValueError, match="at least 1"):
        density_coverage(rows, rows, 0)
    with pytest.raises(ValueError, match="go to k = 2"):
        density_coverage(neighbourhoods(rows, 2), rows, 3)
