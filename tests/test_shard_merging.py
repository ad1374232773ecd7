"""Claims about reference quantities merged from shards: what one pass over all rows gives, in whatever order."""

import numpy as np
import pytest

from metrics.density_coverage import density_coverage
from metrics.frechet import frechet_distance, gaussian, merged_gaussian
from metrics.kernel import kernel_distance, kernel_set, kernel_sum, merged_kernel_set
from metrics.neighbourhoods import merged_neighbourhoods, neighbourhoods, squared_radii

SHARDS = (slice(0, 7), slice(7, 100), slice(100, 260), slice(260, 300))


@pytest.fixture
def rows():
    rng = np.random.default_rng(40)
    return (5 + rng.standard_normal((300, 24)) * np.logspace(0, -2, 24)).astype(np.float32)


@pytest.fixture
def candidate():
    return 5.1 + np.random.default_rng(41).standard_normal((80, 24)) * np.logspace(0, -2, 24)


@pytest.fixture
def narrow():
    """More shards than rows a covariance needs, so that merging passes from few rows to many."""
    return np.random.default_rng(42).standard_normal((12, 9))


def test_a_gaussian_of_shards_is_that_of_all_rows(rows, candidate):
    whole, parts = gaussian(rows), [gaussian(rows[shard]) for shard in SHARDS]
    found = merged_gaussian(parts)
    assert found.count == 300
    assert found.mean_D == pytest.approx(whole.mean_D, rel=1e-14)
    covariance_DD = whole.root_RD.T @ whole.root_RD
    assert np.abs(found.root_RD.T @ found.root_RD - covariance_DD).max() <= 1e-15 * 16 * whole.trace
    assert frechet_distance(found, candidate) == pytest.approx(frechet_distance(rows, candidate), rel=1e-12)


def test_shards_of_few_rows_merge_to_a_full_covariance(narrow):
    parts = [gaussian(narrow[start : start + 3]) for start in range(0, 12, 3)]
    covariance_DD = np.cov(narrow.T)
    found = merged_gaussian(parts).root_RD
    assert found.T @ found == pytest.approx(covariance_DD, abs=1e-14)
    other = narrow[::-1] * 1.5 + 0.1
    assert frechet_distance(merged_gaussian(parts), other) == pytest.approx(frechet_distance(narrow, other), rel=1e-11)


def test_the_order_of_shards_changes_not_a_bit(rows):
    parts = [gaussian(rows[shard]) for shard in SHARDS]
    one, other = merged_gaussian(parts), merged_gaussian([parts[2], parts[0], parts[3], parts[1]])
    assert np.array_equal(one.mean_D, other.mean_D)
    assert np.array_equal(one.root_RD, other.root_RD)
    sums = [kernel_sum(rows, shard) for shard in SHARDS]
    assert merged_kernel_set(rows, sums).mean_within == merged_kernel_set(rows, sums[::-1]).mean_within


def test_a_kernel_sum_of_shards_is_that_of_all_rows(rows, candidate):
    found = merged_kernel_set(rows, [kernel_sum(rows, shard) for shard in SHARDS])
    assert found.mean_within == pytest.approx(kernel_set(rows).mean_within, rel=1e-12)
    assert kernel_distance(found, candidate) == pytest.approx(kernel_distance(rows, candidate), abs=1e-8)


def test_radii_of_shards_are_those_of_all_rows_bit_for_bit(rows, candidate):
    doubled = np.vstack([rows[:250], rows[:50]])
    for references in (rows, doubled):
        found = merged_neighbourhoods(references, [squared_radii(references, shard) for shard in SHARDS])
        assert np.array_equal(found.squared_radii_NK, neighbourhoods(references).squared_radii_NK)
        assert density_coverage(found, candidate, 5) == density_coverage(references, candidate, 5)


def test_shards_that_leave_rows_out_are_refused(rows):
    with pytest.raises(ValueError, match="radii of 7 rows for 300 references"):
        merged_neighbourhoods(rows, [squared_radii(rows, SHARDS[0])])
    with pytest.raises(ValueError, match="no shards to merge"):
        merged_gaussian([])
