"""Claims about exactness: each metric against naive float64 or 50-digit formulas, in every geometry that breaks peers.

Tolerances are issue 6's: FAD 1e-9 of the traces where both covariances have full rank and 3e-7 where not, KD 1e-9
absolute at CLAP scale, density and coverage exact counts.
"""

import mpmath
import numpy as np
import pytest
from clap_vectors import clap_like

from metrics.density_coverage import densities_and_coverages
from metrics.frechet import frechet_distance
from metrics.kernel import kernel_distance
from metrics.neighbourhoods import neighbourhoods


def gaussian_rows(rng, count, width):
    return rng.standard_normal((count, width))


GEOMETRIES = {
    "two rows each": lambda rng: (gaussian_rows(rng, 2, 6), gaussian_rows(rng, 2, 6)),
    "full rank": lambda rng: (gaussian_rows(rng, 200, 12), 1.3 * gaussian_rows(rng, 150, 12) + 0.2),
    "one dimension": lambda rng: (gaussian_rows(rng, 90, 1), 2 * gaussian_rows(rng, 70, 1)),
    "fewer rows than dimensions": lambda rng: (gaussian_rows(rng, 20, 64), gaussian_rows(rng, 90, 64)),
    "rows of a plane": lambda rng: (
        gaussian_rows(rng, 200, 3) @ gaussian_rows(rng, 3, 24),
        gaussian_rows(rng, 100, 3) @ gaussian_rows(rng, 3, 24),
    ),
    "almost a plane": lambda rng: (
        gaussian_rows(rng, 200, 24) * np.logspace(0, -9, 24),
        gaussian_rows(rng, 100, 24) * np.logspace(-9, 0, 24),
    ),
    "duplicated": lambda rng: (
        np.repeat(gaussian_rows(rng, 20, 24), 8, axis=0),
        np.repeat(gaussian_rows(rng, 30, 24), 3, axis=0),
    ),
    "constant": lambda rng: (np.full((40, 8), 0.3), np.full((30, 8), 0.7)),
    "constant against spread": lambda rng: (gaussian_rows(rng, 60, 8), np.full((30, 8), 0.7)),
    "huge offset": lambda rng: (1e6 + gaussian_rows(rng, 150, 16), 1e6 + 1.2 * gaussian_rows(rng, 90, 16)),
    "tiny": lambda rng: (1e-40 * gaussian_rows(rng, 150, 16), 2e-40 * gaussian_rows(rng, 90, 16)),
    "huge": lambda rng: (1e40 * gaussian_rows(rng, 150, 16), 2e40 * gaussian_rows(rng, 90, 16)),
    "heavy tails": lambda rng: (rng.standard_cauchy((150, 12)), rng.standard_cauchy((90, 12))),
}
FULL_RANK = {"full rank", "almost a plane", "one dimension", "huge offset", "tiny", "huge", "heavy tails"}


@pytest.fixture(params=GEOMETRIES)
def geometry(request):
    reference, candidate = GEOMETRIES[request.param](np.random.default_rng(11))
    return request.param, reference, candidate


def naive_fad(reference, candidate):
    """The distance and the sum of the traces, with 50 digits throughout."""
    with mpmath.workdps(50):
        sets = [mpmath.matrix(rows.astype(np.float64).tolist()) for rows in (reference, candidate)]
        means, covariances = zip(*(naive_moments(rows) for rows in sets), strict=True)
        values, vectors = mpmath.eigsy(covariances[0])
        roots = mpmath.diag([mpmath.sqrt(max(value, 0)) for value in values])
        root = vectors * roots * vectors.T
        product = mpmath.eigsy(root * covariances[1] * root, eigvals_only=True)
        shift = means[0] - means[1]
        traces = sum(trace(covariance) for covariance in covariances)
        overlap = sum(mpmath.sqrt(max(value, 0)) for value in product)
        return float((shift * shift.T)[0] + traces - 2 * overlap), float(traces)


def naive_moments(rows):
    ones = mpmath.ones(1, rows.rows)
    mean = ones * rows / rows.rows
    centred = rows - ones.T * mean
    return mean, centred.T * centred / (rows.rows - 1)


def trace(matrix):
    return sum(matrix[axis, axis] for axis in range(matrix.rows))


def naive_kd(reference, candidate):
    """The unbiased statistic from float64 kernel matrices with 1 taken off every kernel value."""

    def kernel(x_ND, y_MD):
        t = x_ND @ y_MD.T / x_ND.shape[1]
        return t * (3 + t * (3 + t))

    x_ND, y_MD = reference.astype(np.float64), candidate.astype(np.float64)
    within = [
        (kernel(rows, rows).sum() - np.trace(kernel(rows, rows))) / (len(rows) * (len(rows) - 1))
        for rows in (x_ND, y_MD)
    ]
    return sum(within) - 2 * kernel(x_ND, y_MD).mean()


def naive_counts(reference, candidate, ks):
    """Density and coverage for every k from float64 differences, a candidate and a reference at a time."""
    x_ND, y_MD = reference.astype(np.float64), candidate.astype(np.float64)
    among_NN = np.array([np.square(x_ND - row).sum(axis=1) for row in x_ND])
    np.fill_diagonal(among_NN, np.inf)
    sorted_NN = np.sort(among_NN, axis=1)
    across_MN = np.array([np.square(x_ND - row).sum(axis=1) for row in y_MD])
    insides = {k: across_MN < sorted_NN[:, k - 1] for k in ks}
    return {k: (inside.sum() / (k * len(y_MD)), inside.any(axis=0).mean()) for k, inside in insides.items()}


def test_fad_agrees_with_fifty_digits(geometry):
    name, reference, candidate = geometry
    keep = 12 if name in ("fewer rows than dimensions",) else reference.shape[1]  # 50 digits are slow: fewer columns
    reference, candidate = reference[:, :keep], candidate[:, :keep]
    if name == "fewer rows than dimensions":
        reference = reference[:8]
    expected, traces = naive_fad(reference, candidate)
    tolerance = 1e-9 if name in FULL_RANK else 3e-7
    assert abs(frechet_distance(reference, candidate) - expected) <= tolerance * traces + 1e-12 * abs(expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.logspace(0, -6.5, 12), np.logspace(-6.5, 0, 12)),  # Cholesky succeeds, but blurs what the other set is
        (np.array([1.0, *[3e-4] * 11]), np.array([1.0, *[3e-4] * 11])),  # squares are near the roundings of the largest
    ],
)
def test_small_directions_count_to_a_hundred_billionth_of_the_traces(first, second):
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(gaussian_rows(rng, 12, 12))[0]
    reference, candidate = (gaussian_rows(rng, 60, 12) * scale @ rotation for scale in (first, second))
    expected, traces = naive_fad(reference, candidate)
    assert abs(frechet_distance(reference, candidate) - expected) <= 1e-11 * traces


def test_kd_agrees_with_full_kernel_matrices_to_a_billionth_of_the_largest_kernel(geometry):
    name, reference, candidate = geometry
    reference, candidate = reference.astype(np.float64), candidate.astype(np.float64)
    largest = max(np.square(rows).sum(axis=1).max() / rows.shape[1] for rows in (reference, candidate))
    expected = naive_kd(reference, candidate)
    assert abs(kernel_distance(reference, candidate) - expected) <= 1e-12 * max(largest, largest**3), name


def test_density_and_coverage_are_exact_counts(geometry):
    _, reference, candidate = geometry
    ks = [k for k in (1, 2, 5, 10) if k < len(reference)]
    assert densities_and_coverages(reference, candidate, ks) == naive_counts(reference, candidate, ks)


@pytest.mark.parametrize("candidates", [3, 100, 560])
def test_clap_like_sets_keep_every_tolerance(candidates):
    rng = np.random.default_rng(5)
    reference, candidate = clap_like(rng, 600), clap_like(rng, candidates)
    assert abs(kernel_distance(reference, candidate) - naive_kd(reference, candidate)) <= 1e-11
    assert densities_and_coverages(reference, candidate, (2, 5)) == naive_counts(reference, candidate, (2, 5))
    root = np.linalg.qr(centred(reference), mode="r") / np.sqrt(599)
    other = centred(candidate) / np.sqrt(candidates - 1)
    shift = reference.astype(np.float64).mean(axis=0) - candidate.astype(np.float64).mean(axis=0)
    traces = np.square(root).sum() + np.square(other).sum()
    expected = shift @ shift + traces - 2 * np.linalg.svd(root @ other.T, compute_uv=False).sum()
    assert abs(frechet_distance(reference, candidate) - expected) <= 1e-10 * traces


def centred(rows):
    rows = rows.astype(np.float64)
    return rows - rows.mean(axis=0)


def test_twenty_thousand_references_keep_the_counts_and_the_distances():
    rng = np.random.default_rng(6)
    reference, candidate = gaussian_rows(rng, 20_000, 8).astype(np.float32), gaussian_rows(rng, 50, 8) * 1.1
    assert abs(kernel_distance(reference[:4000], candidate) - naive_kd(reference[:4000], candidate)) <= 1e-9
    expected, traces = naive_fad_of_moments(reference.astype(np.float64), candidate)
    assert abs(frechet_distance(reference, candidate) - expected) <= 1e-9 * traces
    some = rng.choice(20_000, 40, replace=False)
    around = neighbourhoods(reference, 3)
    for row in some:
        squared_N = np.square(reference.astype(np.float64) - reference[row]).sum(axis=1)
        assert around.squared_radii_NK[row] == pytest.approx(np.sort(squared_N)[1:4], rel=1e-14)


def naive_fad_of_moments(reference, candidate):
    first, second = np.cov(reference.T), np.cov(candidate.T)
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ second @ root)).sum()
    traces = np.trace(first) + np.trace(second)
    return np.square(reference.mean(axis=0) - candidate.mean(axis=0)).sum() + traces - 2 * overlap, traces


def test_twenty_thousand_equal_references_cost_no_more_than_a_few():
    reference = np.vstack([np.full((20_000, 16), 0.25), np.arange(48.0).reshape(3, 16)])
    found = densities_and_coverages(reference, reference[-3:], (1, 2))
    # Copies have radius 0; of the three others each lies inside itself, the first two and the last two within reach.
    expected = naive_counts(np.vstack([reference[:4], reference[-3:]]), reference[-3:], (1, 2))
    assert {k: value.density for k, value in found.items()} == {k: density for k, (density, _) in expected.items()}
