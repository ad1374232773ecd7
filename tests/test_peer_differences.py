"""Claims about where the installed peers err: docs/metrics.md's table, one test per row, with the right answer beside.

Each test asserts what the peer returns today, so that a mended peer is noticed and its row leaves the table.
"""

import math

import numpy as np
import pytest

from metrics.adherence import adherence
from metrics.density_coverage import density_coverage
from metrics.frechet import frechet_distance
from metrics.kernel import kernel_distance, kernel_distance_subsets

torch = pytest.importorskip("torch")
peer_data = pytest.importorskip("audio_metrics.data", reason="audio-metrics is not installed")
peer_fad = pytest.importorskip("audio_metrics.metrics.fad")
peer_kd = pytest.importorskip("audio_metrics.metrics.kd")
peer_prdc = pytest.importorskip("audio_metrics.metrics.prdc")
peer_apa = pytest.importorskip("audio_metrics.metrics.apa")


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def theirs(rows):
    data = peer_data.AudioMetricsData()
    data.add(torch.from_numpy(np.ascontiguousarray(rows)))
    return data


def test_audio_metrics_gives_a_negative_fad_to_a_set_against_itself(rng):
    rows = rng.standard_normal((50, 128)).astype(np.float32)
    assert peer_fad.frechet_distance(theirs(rows), theirs(rows)) < -1e-6
    assert 0.0 <= frechet_distance(rows, rows) < 1e-10


def test_audio_metrics_loses_digits_of_fad_to_a_common_offset_in_float32(rng):
    a, b = (np.float32(1000 + 0.05 * rng.standard_normal((count, 16))) for count in (400, 300))
    right = frechet_distance(a.astype(np.float64) - 1000, b.astype(np.float64) - 1000)
    assert abs(peer_fad.frechet_distance(theirs(a), theirs(b)) / right - 1) > 1e-4
    assert frechet_distance(a, b) == pytest.approx(right, rel=1e-9)


def test_audio_metrics_gives_a_single_row_a_covariance_of_zero(rng):
    rows, single = rng.standard_normal((50, 4)), rng.standard_normal((1, 4))
    assert math.isfinite(peer_fad.frechet_distance(theirs(rows), theirs(single)))
    with pytest.raises(ValueError, match="1 row"):
        frechet_distance(rows, single)


def test_audio_metrics_counts_nothing_inside_far_from_the_origin(rng):
    a, b = (np.float32(1000 + 0.05 * rng.standard_normal((count, 32))) for count in (300, 200))
    found = peer_prdc.prdc(theirs(a), theirs(b), 5)
    assert (found["density"], found["coverage"]) == (0.0, 0.0)
    near = density_coverage(a.astype(np.float64) - 1000, b.astype(np.float64) - 1000, 5)
    assert density_coverage(a, b, 5) == near
    assert near.coverage > 0.5


def test_audio_metrics_keeps_half_the_digits_of_kd_in_float32(rng):
    rows = rng.standard_normal((600, 512)) * np.arange(1, 513) ** -0.6 + 0.05
    unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    a, b = unit[:400], unit[400:]
    right = kernel_distance_subsets(a.astype(np.float64), b.astype(np.float64)).mean
    assert abs(peer_kd.kid_features_to_metric(b, a)["kernel_distance_mean"] - right) > 1e-9
    assert abs(kernel_distance_subsets(a, b).mean - right) < 1e-12


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_audio_metrics_has_no_kd_for_three_rows(rng):
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    assert math.isnan(peer_kd.kid_features_to_metric(b, a)["kernel_distance_mean"])
    assert math.isfinite(kernel_distance(a, b))


def test_audio_metrics_reads_a_missing_distance_as_a_perfect_one():
    assert peer_apa._apa(math.nan, 0.3, 0.4) == pytest.approx(0.5 + 0.3 / 0.8)


def test_audio_metrics_calls_undefined_adherence_zero():
    assert peer_apa._apa(0.1, 0.1, 0.0) == 0.0
    with pytest.raises(ValueError, match="adherence is undefined"):
        adherence(to_reference=0.1, to_mispaired=0.1, separation=0.0)


def test_prdc_cannot_judge_few_candidates_although_density_needs_no_neighbours_of_theirs(rng):
    prdc = pytest.importorskip("prdc", reason="prdc is not installed")
    references, few = rng.standard_normal((60, 4)), rng.standard_normal((4, 4))
    with pytest.raises(ValueError, match="kth"):
        prdc.compute_prdc(references, few, nearest_k=5)
    assert density_coverage(references, few, 5).coverage > 0
