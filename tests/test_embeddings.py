"""Claims about embedding sets: checked once, read-only, and never compared across spaces."""

import dataclasses

import numpy as np
import pytest

from metrics.clap_score import clap_score
from metrics.density_coverage import density_coverage
from metrics.embeddings import EmbeddingSet, Space
from metrics.frechet import frechet_distance
from metrics.kernel import kernel_distance, kernel_distance_subsets


@pytest.fixture
def space():
    return Space(name="test", width=4, normalised=False, weights_sha256="ab")


@pytest.fixture
def rows():
    return np.random.default_rng(3).standard_normal((6, 4)).astype(np.float32)


@pytest.fixture
def embed(space):
    def build(vectors, **changes):
        told = {
            "ids": tuple(f"clip {row}" for row in range(len(vectors))),
            "space": space,
            "content": "stem",
            **changes,
        }
        return EmbeddingSet(vectors_ND=vectors, **told)

    return build


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_rows_with_nan_or_infinity_are_named(rows, embed, broken):
    rows[1, 2] = rows[4, 0] = broken
    with pytest.raises(ValueError, match="rows 1, 4 hold NaN"):
        embed(rows)
    with pytest.raises(ValueError, match=r"candidate .* rows 1, 4 hold NaN"):
        frechet_distance(np.eye(4), rows)


def test_values_whose_squares_overflow_are_refused():
    with pytest.raises(ValueError, match=r"rows 0 hold .* beyond 1e\+150"):
        kernel_distance(np.array([[1e160], [0.0]]), np.zeros((2, 1)))


def test_a_set_needs_one_unique_id_per_row(rows, embed):
    with pytest.raises(ValueError, match="6 rows but 2 ids"):
        embed(rows, ids=("a", "b"))
    with pytest.raises(ValueError, match="'a' twice, in rows 0 and 3"):
        embed(rows, ids=("a", "b", "c", "a", "d", "e"))


def test_a_set_must_have_the_width_of_its_space_and_be_a_matrix(rows, embed):
    with pytest.raises(ValueError, match="3 wide; the space is 4"):
        embed(rows[:, :3])
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        embed(rows[0], ids=("a",))
    with pytest.raises(ValueError, match="content 'song'"):
        embed(rows, content="song")
    with pytest.raises(ValueError, match="are int64"):
        embed(np.ones((6, 4), np.int64))


def test_rows_of_a_normalised_space_must_have_norm_one(rows, embed, space):
    unit_space = dataclasses.replace(space, normalised=True)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert len(embed(unit, space=unit_space)) == 6
    unit[3] *= 1.01
    with pytest.raises(ValueError, match="norm 1; rows 3"):
        embed(unit, space=unit_space)


def test_a_set_cannot_be_written_to(rows, embed):
    found = embed(rows)
    with pytest.raises(ValueError, match="read-only"):
        found.vectors_ND[0, 0] = 1.0


def test_a_slice_keeps_ids_and_space(rows, embed, space):
    part = embed(rows).rows(2, 4)
    assert part.ids == ("clip 2", "clip 3")
    assert part.space == space
    assert np.array_equal(part.vectors_ND, rows[2:4])


@pytest.mark.parametrize(
    "metric",
    [
        frechet_distance,
        kernel_distance,
        kernel_distance_subsets,
        clap_score,
        lambda a, b: density_coverage(a, b, 2),
    ],
)
def test_two_spaces_never_compare_and_one_space_equals_plain_arrays(metric, rows, embed, space):
    reference, candidate = embed(rows), embed(rows[::-1].copy())
    assert metric(reference, candidate) == metric(rows, rows[::-1].copy())
    assert metric(reference, rows[::-1].copy()) == metric(rows, rows[::-1].copy())
    other = embed(rows, space=dataclasses.replace(space, weights_sha256="cd"))
    with pytest.raises(ValueError, match="two spaces never compare"):
        metric(reference, other)


def test_integers_and_half_floats_are_read_as_numbers():
    grid = np.arange(12).reshape(6, 2)
    assert frechet_distance(grid, grid + 1) == pytest.approx(2.0)
    assert frechet_distance(grid.astype(np.float16), grid + 1) == pytest.approx(2.0)
