"""Claims about the shared pass and the state of references: what each metric gives alone, kept, and from shards."""

import numpy as np
import pytest
from clap_vectors import clap_like

from metrics.density_coverage import densities_and_coverages
from metrics.frechet import frechet_distance
from metrics.kernel import kernel_distance
from metrics.reference_state import kept_state, merged_reference_state, reference_state, shard_state
from metrics.set_distances import set_distances

KS = (1, 2, 5)
SHARDS = (slice(0, 90), slice(90, 250), slice(250, 300))


def drawn(rng, count, width=24):
    return rng.standard_normal((count, width))


GEOMETRIES = {
    "unit vectors": lambda rng: (clap_like(rng, 300), clap_like(rng, 110)),
    "products too large for float32": lambda rng: (30 * drawn(rng, 300), 30 * drawn(rng, 80) + 1),
    "small and far from the origin": lambda rng: (0.5 + 1e-6 * drawn(rng, 300), 0.5 + 2e-6 * drawn(rng, 80)),
    "constant": lambda rng: (np.full((40, 8), 0.03), np.full((30, 8), 0.07)),
    "candidates beyond any float32": lambda rng: (
        1e-30 * drawn(rng, 60),
        np.vstack([drawn(rng, 20), 0.2 * drawn(rng, 9)]),
    ),
    "candidates far beyond the extent": lambda rng: (1e-19 * drawn(rng, 60), 1e-2 * drawn(rng, 20)),
    "tiny": lambda rng: (1e-40 * drawn(rng, 60), 2e-40 * drawn(rng, 40)),
    "huge": lambda rng: (1e40 * drawn(rng, 60), 2e40 * drawn(rng, 40)),
}


@pytest.fixture
def rng():
    return np.random.default_rng(50)


@pytest.fixture
def rows(rng):
    return clap_like(rng, 300)


def exact_kd(reference, candidate):
    """The unbiased statistic in float64, with 1 taken off every kernel value."""

    def kernel(x_ND, y_MD):
        t = x_ND @ y_MD.T / x_ND.shape[1]
        return t * (3 + t * (3 + t))

    sets = reference.astype(np.float64), candidate.astype(np.float64)
    within = [(kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1)) for x in sets]
    return sum(within) - 2 * kernel(*sets).mean()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_one_pass_gives_what_each_metric_gives_alone(rng, name):
    reference, candidate = GEOMETRIES[name](rng)
    found = set_distances(reference_state(reference), candidate, KS)
    largest = max(
        np.square(rows.astype(np.float64)).sum(axis=1).max() / rows.shape[1] for rows in (reference, candidate)
    )
    tolerance = 1e-6 * largest**2 if largest <= 0.05 else 1e-12 * max(largest, largest**3)
    assert abs(found.kernel_distance - exact_kd(reference, candidate)) <= tolerance + 1e-12 * largest
    assert found.frechet_distance == frechet_distance(reference, candidate)
    assert found.densities_and_coverages == densities_and_coverages(reference, candidate, KS)


def test_one_pass_keeps_the_tolerance_of_kd_at_clap_scale(rng):
    reference, candidate = clap_like(rng, 1200), clap_like(rng, 400)
    found = set_distances(reference_state(reference), candidate, KS).kernel_distance
    assert abs(found - exact_kd(reference, candidate)) <= 1e-11
    assert abs(found - kernel_distance(reference, candidate)) <= 1e-11


def test_a_kept_state_is_the_state_to_the_last_bit(rows, rng):
    state = reference_state(rows)
    candidate = clap_like(rng, 50)
    assert set_distances(kept_state(rows, state.arrays()), candidate, KS) == set_distances(state, candidate, KS)


def test_a_state_of_shards_is_that_of_all_references(rows, rng):
    whole = reference_state(rows)
    merged = merged_reference_state(rows, [shard_state(rows, shard) for shard in SHARDS])
    assert np.array_equal(merged.around.squared_radii_NK, whole.around.squared_radii_NK)
    assert merged.gaussian.count == whole.gaussian.count
    assert merged.gaussian.mean_D == pytest.approx(whole.gaussian.mean_D, rel=1e-12)
    assert merged.kernel.mean_within == pytest.approx(whole.kernel.mean_within, rel=1e-9)
    candidate = clap_like(rng, 60)
    expected, found = (set_distances(state, candidate, KS) for state in (whole, merged))
    assert found.densities_and_coverages == expected.densities_and_coverages
    assert found.frechet_distance == pytest.approx(expected.frechet_distance, rel=1e-10)
    assert found.kernel_distance == pytest.approx(expected.kernel_distance, abs=1e-11)


def test_what_was_kept_of_other_references_is_refused(rows):
    with pytest.raises(ValueError, match="512 wide, what was kept of them 24"):
        kept_state(rows, reference_state(drawn(np.random.default_rng(1), 300)).arrays())
    with pytest.raises(ValueError, match="radii of 300 rows for 299 references"):
        kept_state(rows[1:], reference_state(rows).arrays())


def test_a_state_without_neighbourhoods_says_so_where_they_are_needed(rows, rng):
    state = reference_state(rows, largest_k=None)
    assert set(state.arrays()) == {"mean_D", "root_RD", "mean_within"}
    with pytest.raises(ValueError, match="without neighbourhoods"):
        set_distances(state, clap_like(rng, 20), KS)
