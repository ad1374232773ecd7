"""The pictures of the whole table: bounds put metrics on one scale, and sets can be told apart in the space."""

import dataclasses

import numpy as np
import pytest

from metrics.embeddings import Space
from metrics.protocol import Protocol
from metrics.table import NOISE_ROW, RANDOM_ROW, REAL_ROW, Score, ScoreTable
from tasks.plots_overview import bounded_metrics, overview_plot, stem_map

ARMS = (("+DiT", "CLAP_A,ctx"), ("+CLAP_beta", "CLAP_A*,ctx"))
VALUES = {
    (REAL_ROW, "fad"): 0.1,
    (NOISE_ROW, "fad"): 2.1,
    (REAL_ROW, "apa"): 0.9,
    (RANDOM_ROW, "apa"): 0.1,
    (REAL_ROW, "coverage_k5"): 0.9,
    (NOISE_ROW, "coverage_k5"): 0.0,
    (ARMS[0], "fad"): 0.6,
    (ARMS[0], "apa"): 0.5,
    (ARMS[0], "cs_aa"): 0.5,
    (ARMS[1], "fad"): 0.7,
}


@pytest.fixture(scope="module")
def table():
    space = Space(name="small CLAP", width=128, normalised=True, weights_sha256="ab" * 32)
    protocol = Protocol(profile="tiny", batches=1, batch_size=20, reference_size=30, space=space, mixture_space=space)
    scores = [
        Score(arm=row[0], inputs=row[1], metric=metric, batch=0, value=value, candidates=20)
        for (row, metric), value in VALUES.items()
    ]
    return ScoreTable(protocol=protocol, scores=tuple(scores))


def test_a_share_is_one_for_real_stems_and_nought_for_the_bound_whichever_way_is_better(table):
    fad, apa = bounded_metrics(table)
    assert (fad.column.metric, apa.column.metric) == ("fad", "apa")  # no bounds of CS_AA, and k = 5 is not the paper's
    assert fad.share(0.1) == 1.0
    assert fad.share(2.1) == 0.0
    assert fad.share(0.6) == pytest.approx(0.75)
    assert apa.share(0.5) == pytest.approx(0.5)


def test_the_overview_shows_the_table_and_nothing_else(table):
    assert overview_plot(table) == overview_plot(table)
    moved = dataclasses.replace(table.scores[6], value=1.0)
    other = dataclasses.replace(table, scores=(*table.scores[:6], moved, *table.scores[7:]))
    assert overview_plot(other) != overview_plot(table)


def test_there_is_no_overview_without_bounds_or_arms(table):
    arms = tuple(score for score in table.scores if (score.arm, score.inputs) in ARMS)
    assert overview_plot(dataclasses.replace(table, scores=arms)) is None
    bounds = tuple(score for score in table.scores if (score.arm, score.inputs) not in ARMS)
    assert overview_plot(dataclasses.replace(table, scores=bounds)) is None


def test_the_map_changes_with_what_lies_in_it():
    rng = np.random.default_rng(0)
    real_NE, noise_NE, made_NE = (rng.standard_normal((6, 5)).astype(np.float32) for _ in range(3))
    picture = stem_map(real_NE, noise_NE, {"+DiT": made_NE})
    assert picture.startswith(b"\x89PNG")
    assert stem_map(real_NE, noise_NE, {"+DiT": made_NE}) == picture
    assert stem_map(real_NE, noise_NE, {"+DiT": made_NE + 1}) != picture
    assert stem_map(real_NE, noise_NE + 1, {"+DiT": made_NE}) != picture
