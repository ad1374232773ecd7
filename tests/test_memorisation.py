"""Claims about memorisation: planted copies are named, and candidates that copy nothing lie where chance puts them."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metrics import memorisation as module
from metrics.embeddings import EmbeddingSet, Space
from metrics.memorisation import memorisation, nearest


@pytest.fixture
def rng():
    return np.random.default_rng(12)


@pytest.fixture
def embed():
    def build(rows, name):
        space = Space(name="test", width=rows.shape[1], normalised=False, weights_sha256="")
        ids = tuple(f"{name} {row}" for row in range(len(rows)))
        return EmbeddingSet(vectors_ND=rows, ids=ids, space=space, content="stem")

    return build


def test_distances_on_a_line_are_counted_by_hand(embed):
    found = memorisation(
        embed(np.array([[0.0], [5.0], [9.0], [2.0]]), "candidate"),
        training=embed(np.array([[1.0], [5.0]]), "trained"),
        held_out=embed(np.array([[3.0], [9.0]]), "unseen"),
    )
    # To training 1, 0, 4, 1; to held-out 3, 2, 0, 1: two nearer to training, one to held-out, one as near to both.
    assert found.share == (1 + 1 + 0 + 0.5) / 4 and found.chance == 0.5
    assert found.ratio_M.tolist() == [1 / 3, 0.0, np.inf, 1.0]
    assert [(pair.candidate, pair.training) for pair in found.worst[:2]] == [
        ("candidate 1", "trained 1"),
        ("candidate 0", "trained 0"),
    ]


def test_planted_copies_are_the_worst_pairs_and_are_named(embed, rng):
    trained, unseen, candidates = (rng.standard_normal((count, 24)) for count in (200, 200, 60))
    candidates[[7, 30, 51]] = trained[[3, 150, 99]] + 1e-3 * rng.standard_normal((3, 24))
    candidates[30] = trained[150]
    told = memorisation(
        embed(candidates, "candidate"), training=embed(trained, "trained"), held_out=embed(unseen, "unseen"), worst=3
    )
    assert {(pair.candidate, pair.training) for pair in told.worst} == {
        ("candidate 7", "trained 3"),
        ("candidate 30", "trained 150"),
        ("candidate 51", "trained 99"),
    }
    assert told.worst[0].candidate == "candidate 30" and told.worst[0].distance == told.worst[0].ratio == 0.0
    assert np.sort(told.ratio_M)[3] > 0.5


@pytest.mark.parametrize("trained_count", [150, 450])
def test_without_memory_the_share_is_that_of_chance(embed, rng, trained_count):
    shares = []
    for _ in range(40):
        trained, unseen, candidates = (rng.standard_normal((count, 6)) for count in (trained_count, 150, 80))
        told = memorisation(embed(candidates, "c"), training=embed(trained, "t"), held_out=embed(unseen, "u"))
        shares.append(told.share)
    assert told.chance == trained_count / (trained_count + 150)
    assert np.mean(shares) == pytest.approx(told.chance, abs=4 * np.std(shares) / np.sqrt(40))


def test_a_model_that_leans_on_its_training_items_is_above_chance(embed, rng):
    trained, unseen = rng.standard_normal((200, 12)), rng.standard_normal((200, 12))
    leaning = 0.7 * trained[rng.integers(200, size=100)] + 0.3 * rng.standard_normal((100, 12))
    told = memorisation(embed(leaning, "c"), training=embed(trained, "t"), held_out=embed(unseen, "u"))
    assert told.share > 0.9 and np.median(told.ratio_M) < 0.8


def test_nearest_is_that_of_every_distance_in_any_blocks_and_far_from_the_origin(rng, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_PAIRS", 700)
    for offset in (0.0, 1e6):
        candidate, items = offset + rng.standard_normal((50, 9)), offset + rng.standard_normal((80, 9))
        apart = cdist(candidate, items)
        distance, row = nearest(candidate, items)
        assert distance == pytest.approx(apart.min(axis=1), rel=1e-9)
        assert np.array_equal(row, apart.argmin(axis=1))


def test_of_copies_that_differ_in_the_last_digits_the_nearest_is_found(rng):
    copies = rng.standard_normal(9) + 1e-12 * np.arange(4)[:, None]
    items = np.concatenate([rng.standard_normal((30, 9)), copies])
    assert nearest(copies, items)[1].tolist() == [30, 31, 32, 33]


def test_an_item_cannot_be_trained_on_and_held_out(embed, rng):
    rows = embed(rng.standard_normal((5, 3)), "item")
    with pytest.raises(ValueError, match="training and held out"):
        memorisation(rows, training=rows, held_out=rows)
