"""Claims about CLAP scores."""

import numpy as np
import pytest

from metrics.clap_score import clap_score, pair_cosines


def test_the_score_is_the_mean_cosine_of_rows_whatever_their_lengths():
    a = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    b = np.array([[5.0, 0.0], [7.0, 0.0], [-1.0, -1.0]])
    assert pair_cosines(a, b) == pytest.approx([1.0, 0.0, -1.0])
    assert clap_score(a[:2], b[:2]) == pytest.approx(0.5)


def test_negative_cosines_are_kept():
    assert clap_score(np.array([[1.0, 0.0]]), np.array([[-2.0, 0.0]])) == pytest.approx(-1.0)


def test_rows_are_paired_and_not_compared_with_all_others():
    rows = np.eye(4)
    assert clap_score(rows, rows) == pytest.approx(1.0)
    assert clap_score(rows, np.roll(rows, 1, axis=0)) == pytest.approx(0.0)


def test_sets_of_different_sizes_do_not_pair():
    with pytest.raises(ValueError, match="3 rows do not pair with 2"):
        clap_score(np.eye(3), np.eye(3)[:2])


def test_a_zero_row_has_no_direction():
    with pytest.raises(ValueError, match=r"rows \[1\] of the second set"):
        clap_score(np.eye(3), np.diag([1.0, 0.0, 1.0]))
