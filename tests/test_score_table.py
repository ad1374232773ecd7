"""Claims about protocols, rows and the table they fill."""

import dataclasses
import math

import numpy as np
import pytest

from metrics import score as scoring
from metrics.adherence import audio_prompt_adherence
from metrics.clap_score import clap_score
from metrics.density_coverage import density_coverage
from metrics.embeddings import EmbeddingSet, Space
from metrics.frechet import frechet_distance
from metrics.kernel import kernel_distance, kernel_distance_subsets
from metrics.protocol import PROFILES
from metrics.reference_state import kept_state, reference_state
from metrics.score import CandidateSet, ReferenceSet, largest_neighbourhood, score_row
from metrics.table import NOISE_ROW, RANDOM_ROW, REAL_ROW, Cell, Score, ScoreTable

SPACE = Space(name="test", width=6, normalised=False, weights_sha256="")
REFERENCES, BATCHES, BATCH_SIZE = 30, 2, 12
METRICS = {
    *("kd", "fad", "coverage_k2", "density_k2", "coverage_k5", "density_k5"),
    *("apa", "apa_kd_contrast", "cs_aa", "cs_ta"),
}


@pytest.fixture
def protocol():
    return dataclasses.replace(
        PROFILES["paper"],
        batches=BATCHES,
        batch_size=BATCH_SIZE,
        reference_size=REFERENCES,
        space=SPACE,
        mixture_space=SPACE,
        mixture_windows=1,
    )


@pytest.fixture
def embed():
    rng = np.random.default_rng(8)

    def build(count, content, shift=0.0, ids=None):
        names = ids or tuple(f"item {row}" for row in range(count))
        return EmbeddingSet(vectors_ND=rng.standard_normal((count, 6)) + shift, ids=names, space=SPACE, content=content)

    return build


@pytest.fixture
def reference(embed):
    return ReferenceSet(
        stems=embed(REFERENCES, "stem"),
        mixtures=embed(REFERENCES, "mixture"),
        mispaired=embed(REFERENCES, "mixture", shift=0.8),
    )


@pytest.fixture
def candidates(embed):
    count = BATCHES * BATCH_SIZE
    return CandidateSet(
        stems=embed(count, "stem", shift=0.3),
        mixtures=embed(count, "mixture", shift=0.2),
        target_audio=embed(count, "stem", shift=0.3),
        target_text=embed(count, "text"),
    )


@pytest.fixture
def scored(reference, protocol):
    def row(candidates, **changes):
        told = {"arm": "+DiT", "inputs": "ctx", **changes}
        return score_row(reference, candidates, protocol, **told)

    return row


def test_a_row_holds_every_metric_of_every_batch(scored, candidates):
    found = {(score.metric, score.batch): score for score in scored(candidates)}
    assert set(found) == {(metric, batch) for metric in METRICS for batch in range(BATCHES)}
    assert {score.candidates for score in found.values()} == {BATCH_SIZE}


def test_each_batch_is_judged_by_the_plain_functions_on_its_own_rows(scored, candidates, reference):
    found = {score.metric: score.value for score in scored(candidates) if score.batch == 1}
    stems, mixtures = candidates.stems.rows(12, 24), candidates.mixtures.rows(12, 24)
    to_mispaired, to_true = (kernel_distance(rows, mixtures) for rows in (reference.mispaired, reference.mixtures))
    expected = {
        "kd": kernel_distance(reference.stems, stems),
        "fad": frechet_distance(reference.stems, stems),
        "density_k5": density_coverage(reference.stems, stems, 5).density,
        "coverage_k2": density_coverage(reference.stems, stems, 2).coverage,
        "apa": audio_prompt_adherence(reference.mixtures, reference.mispaired, mixtures),
        "apa_kd_contrast": to_mispaired - to_true,
        "cs_aa": clap_score(stems, candidates.target_audio.rows(12, 24)),
        "cs_ta": clap_score(stems, candidates.target_text.rows(12, 24)),
    }
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, rel=1e-12), metric


def test_what_a_row_has_no_sets_for_is_absent(scored, candidates):
    no_context = dataclasses.replace(candidates, mixtures=None, target_text=None)
    metrics = {score.metric for score in scored(no_context)}
    assert metrics == METRICS - {"apa", "apa_kd_contrast", "cs_ta"}
    only_mixtures = CandidateSet(stems=None, mixtures=candidates.mixtures, target_audio=None, target_text=None)
    assert {score.metric for score in scored(only_mixtures)} == {"apa", "apa_kd_contrast"}


def test_a_row_can_be_narrowed_to_what_its_bound_means(scored, candidates):
    found = scored(candidates, families=("apa", "cs_ta"))
    assert {score.metric for score in found} == {"apa", "apa_kd_contrast", "cs_ta"}
    with pytest.raises(ValueError, match="no metric family fid"):
        scored(candidates, families=("fid",))


def test_reference_quantities_are_computed_once_for_a_whole_table(scored, candidates, monkeypatch):
    measured, whole = [], scoring.reference_state
    monkeypatch.setattr(scoring, "reference_state", lambda rows, *a, **b: measured.append(rows) or whole(rows, *a, **b))
    for _ in range(3):
        scored(candidates)
    assert len(measured) == 3  # stems, mixtures, mispaired


def test_kept_states_give_the_same_scores_and_nothing_is_computed_of_the_references(
    reference, candidates, protocol, monkeypatch
):
    expected = score_row(reference, candidates, protocol, arm="a", inputs="b")
    kept = {
        name: kept_state(rows, reference_state(rows, largest_k=largest_neighbourhood(rows)).arrays())
        for name, rows in reference.sets().items()
    }
    monkeypatch.setattr(scoring, "reference_state", None)
    found = score_row(dataclasses.replace(reference, kept=kept), candidates, protocol, arm="a", inputs="b")
    assert found == expected


def test_a_protocol_with_subsets_and_windows_is_followed(reference, candidates, protocol, embed):
    count = BATCHES * BATCH_SIZE
    twice = dataclasses.replace(protocol, kernel_subsets=4, mixture_windows=2)
    windowed = dataclasses.replace(candidates, mixtures=embed(2 * count, "mixture"))
    references = dataclasses.replace(
        reference, mixtures=embed(2 * REFERENCES, "mixture"), mispaired=embed(2 * REFERENCES, "mixture", shift=0.5)
    )
    found = {s.metric: s.value for s in score_row(references, windowed, twice, arm="a", inputs="b") if s.batch == 1}
    stems, mixtures = candidates.stems.rows(12, 24), windowed.mixtures.rows(24, 48)
    assert found["kd"] == kernel_distance_subsets(reference.stems, stems, subsets=4).mean
    apa = audio_prompt_adherence(references.mixtures, references.mispaired, mixtures)
    assert found["apa"] == pytest.approx(apa, rel=1e-12)


def test_too_few_candidates_are_refused_with_both_numbers(scored, candidates, embed):
    few = CandidateSet(stems=embed(23, "stem"), mixtures=None, target_audio=None, target_text=None)
    with pytest.raises(ValueError, match="23 candidate stems where 2 batches of 12 need 24"):
        scored(few)


def test_a_reference_of_another_size_or_space_than_the_protocol_says_is_refused(
    scored, reference, candidates, protocol
):
    with pytest.raises(ValueError, match="30 reference stems, but the protocol says 31"):
        score_row(reference, candidates, dataclasses.replace(protocol, reference_size=31), arm="a", inputs="b")
    with pytest.raises(ValueError, match="but the protocol says"):
        score_row(reference, candidates, PROFILES["paper"], arm="a", inputs="b")


def test_targets_must_belong_to_their_candidates(embed):
    stems = embed(3, "stem")
    with pytest.raises(ValueError, match="row 1: target audio of 'c' beside candidate 'item 1'"):
        CandidateSet(
            stems=stems, mixtures=None, target_audio=embed(3, "stem", ids=("item 0", "c", "d")), target_text=None
        )
    with pytest.raises(ValueError, match="2 target text rows for 3 candidates"):
        CandidateSet(stems=stems, mixtures=None, target_audio=None, target_text=embed(2, "text"))
    with pytest.raises(ValueError, match="must hold stem embeddings, not mixture"):
        CandidateSet(stems=embed(3, "mixture"), mixtures=None, target_audio=None, target_text=None)


def test_rows_come_in_the_order_of_table_one_and_unknown_ones_last(protocol):
    rows = [
        ("our arm", "ctx"),
        ("C-DiT", "uncond"),
        ("+CLAP_beta", "CLAP_T"),
        ("+CLAP_beta", "CLAP_A*"),
        ("+CLAP_beta", "CLAP_T,ctx"),
        ("+CLAP_beta", "CLAP_A*,ctx"),
        ("Diff-A-Riff", "uncond"),
        ("Diff-A-Riff", "CLAP_T"),
        ("Diff-A-Riff", "CLAP_A"),
        ("Diff-A-Riff", "ctx"),
        ("Diff-A-Riff", "CLAP_T,ctx"),
        ("Diff-A-Riff", "CLAP_A,ctx"),
        RANDOM_ROW,
        NOISE_ROW,
        REAL_ROW,
        ("another arm", "ctx"),
    ]
    scores = tuple(Score(arm=a, inputs=i, metric="fad", batch=0, value=1.0, candidates=9) for a, i in rows)
    expected = [REAL_ROW, NOISE_ROW, RANDOM_ROW, *reversed(rows[1:12]), ("our arm", "ctx"), ("another arm", "ctx")]
    assert ScoreTable(protocol=protocol, scores=scores).rows() == expected


def test_a_cell_has_mean_and_sample_deviation_and_is_none_where_there_is_nothing(protocol):
    values = (1.0, 2.0, 6.0)
    scores = tuple(
        Score(arm="C-DiT", inputs="ctx", metric="kd", batch=b, value=v, candidates=9) for b, v in enumerate(values)
    )
    table = ScoreTable(protocol=protocol, scores=scores)
    assert table.cell("C-DiT", "ctx", "kd") == Cell(3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2)), 3)
    assert table.cell("C-DiT", "ctx", "apa") is None
    assert ScoreTable(protocol=protocol, scores=scores[:1]).cell("C-DiT", "ctx", "kd") == Cell(1.0, 0.0, 1)


def test_a_score_is_a_number_and_stands_once_in_a_table(protocol):
    with pytest.raises(ValueError, match="batch 0 is nan"):
        Score(arm="a", inputs="b", metric="fad", batch=0, value=math.nan, candidates=9)
    score = Score(arm="a", inputs="b", metric="fad", batch=0, value=1.0, candidates=9)
    with pytest.raises(ValueError, match="fad of a, b, batch 0 is there twice"):
        ScoreTable(protocol=protocol, scores=(score, score))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": 0}, "batches = 0"),
        ({"batch_size": 1}, "no covariance"),
        ({"neighbours": (2, 11)}, "each k must lie in 1..10"),
        ({"reference_size": 5}, "below reference_size = 5"),
        ({"mix": "P1"}, "'P1' is not one of L0"),
        ({"reference": "resynthesised"}, "'resynthesised'"),
        ({"inferred": ("colour",)}, "colour"),
    ],
)
def test_a_protocol_that_cannot_be_followed_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PROFILES["paper"], **change)


def test_the_paper_profile_is_five_batches_of_a_thousand_against_five_thousand():
    paper = PROFILES["paper"]
    assert (paper.batches, paper.batch_size, paper.reference_size) == (5, 1000, 5000)
    assert {"neighbours", "space", "mix", "mixture_space"} <= set(paper.inferred)
    assert not {"batches", "batch_size", "reference_size"} & set(paper.inferred)
