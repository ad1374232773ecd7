"""The acceptance bounds: a table that holds them all passes, and each of them can fail."""

import io

import pytest

from metrics.embeddings import Space
from metrics.protocol import Protocol
from metrics.table import NOISE_ROW, RANDOM_ROW, REAL_ROW, Score, ScoreTable
from tasks.checks import ClapQuality, check, summarise
from tasks.paper_table import paper_table
from tasks.terminal import print_checks

GOOD_CLAP = ClapQuality(windows=320, recall_at_5=0.5, role_accuracy=0.9)


@pytest.fixture(scope="session")
def good_cells():
    """{(row, metric): value} of a table that holds every bound, shaped like the prototype's."""
    cells = {(REAL_ROW, metric): value for metric, value in REAL.items()}
    cells |= {(NOISE_ROW, "kd"): 0.026, (NOISE_ROW, "fad"): 2.0, (NOISE_ROW, "coverage_k5"): 0.0}
    cells |= {(RANDOM_ROW, "apa"): 0.27, (RANDOM_ROW, "cs_ta"): 0.03}
    for row in paper_table().model_rows():
        has_audio = "CLAP_A" in row[1].split(",")
        values = {"kd": 0.005, "fad": 0.45 if has_audio else 0.9, "coverage_k5": 0.05}
        values |= {"cs_aa": 0.7 if has_audio else 0.05, "cs_ta": 0.5 if has_audio else 0.05}
        values |= {"apa": 0.7} if "ctx" in row[1] else {"apa_context_ignored": 0.5}
        cells |= {(row, metric): value for metric, value in values.items()}
    return cells


REAL = {"kd": -3e-4, "fad": 0.1, "coverage_k5": 0.5, "apa": 0.93, "cs_aa": 0.99, "cs_ta": 0.77}


@pytest.fixture(scope="session")
def tabled():
    """Turns cells into a table of one batch; None leaves a cell out."""
    space = Space(name="small CLAP", width=128, normalised=True, weights_sha256="ab" * 32)
    protocol = Protocol(
        profile="laptop", batches=1, batch_size=40, reference_size=300, space=space, mixture_space=space
    )

    def table(cells):
        scores = [
            Score(arm=arm, inputs=inputs, metric=metric, batch=0, value=value, candidates=40)
            for ((arm, inputs), metric), value in cells.items()
            if value is not None
        ]
        return ScoreTable(protocol=protocol, scores=tuple(scores))

    return table


def failures(results):
    return {(result.name, result.subject) for result in results if not result.passed}


def test_a_table_within_all_bounds_passes(good_cells, tabled):
    results = check(tabled(good_cells), GOOD_CLAP)
    assert failures(results) == set()
    assert len(results) == 87


@pytest.mark.parametrize(
    ("row", "metric", "value", "name"),
    [
        (REAL_ROW, "fad", 0.21, "real: FAD"),
        (REAL_ROW, "kd", -1.1e-3, "real: |KD|"),
        (REAL_ROW, "apa", 0.74, "real: APA"),
        (REAL_ROW, "cs_ta", 0.59, "real: CS_TA"),
        (("C-DiT", "ctx"), "fad", 0.09, "real: best FAD of all rows"),
        (("C-DiT", "ctx"), "coverage_k5", 0.51, "real: best coverage (k=5) of all rows"),
        (NOISE_ROW, "fad", 1.4, "white noise: FAD"),
        (REAL_ROW, "fad", 0.26, "white noise: FAD, 8 × real"),
        (RANDOM_ROW, "apa", 0.41, "random pairing: APA"),
        (RANDOM_ROW, "cs_ta", 0.16, "random pairing: CS_TA"),
        (("+DiT", "CLAP_T"), "fad", 1.01, "conditioned: FAD, 0.5 × noise"),
        (("+DiT", "uncond"), "fad", 1.21, "unconditional: FAD, 0.6 × noise"),
        (("+DiT", "CLAP_A"), "fad", 0.81, "CLAP_A: FAD, 0.4 × noise"),
        (("+DiT", "CLAP_A"), "cs_aa", 0.34, "CLAP_A: CS_AA"),
        (("+DiT", "uncond"), "cs_aa", 0.46, "CLAP_A: CS_AA, unconditional + 0.25"),
        (("+DiT", "CLAP_A"), "cs_ta", 0.17, "CLAP_A: CS_TA, random + 0.15"),
        (("+DiT", "ctx"), "apa", 0.41, "context: APA, random + 0.15"),
    ],
)
def test_each_bound_fails_when_its_value_is_beyond_it(good_cells, tabled, row, metric, value, name):
    results = check(tabled(good_cells | {(row, metric): value}), GOOD_CLAP)
    assert name in {failed for failed, _ in failures(results)}


def test_unconditional_rows_have_the_wider_bound(good_cells, tabled):
    results = check(tabled(good_cells | {(("+DiT", "uncond"), "fad"): 1.1}), GOOD_CLAP)
    assert failures(results) == set()


def test_apa_that_context_did_not_earn_fails_on_average(good_cells, tabled):
    uncond = [row for row in paper_table().model_rows() if row[1] == "uncond"]
    idle = {(row, "apa_context_ignored"): 0.71 for row in uncond}
    assert failures(check(tabled(good_cells | idle), GOOD_CLAP)) == {
        ("mean over arms: APA(ctx) − APA(uncond)", "all arms with both rows")
    }
    one_of_four = {(uncond[0], "apa_context_ignored"): 0.99}
    assert failures(check(tabled(good_cells | one_of_four), GOOD_CLAP)) == set()


def test_the_bridges_arm_is_measured_against_the_unconditional_row_of_its_denoiser(good_cells, tabled):
    row = ("+CLAP_beta", "CLAP_A")
    cells = good_cells | {(row, "fad"): 0.45, (row, "cs_aa"): 0.7, (row, "cs_ta"): 0.5}
    rows = [*paper_table().model_rows(), row]
    results = check(tabled(cells), GOOD_CLAP, model_rows=rows)
    above = next(result for result in results if result.subject == "+CLAP_beta / CLAP_A" and "0.25" in result.name)
    assert above.passed
    assert above.bound == pytest.approx(0.05 + 0.25)


@pytest.mark.parametrize("cell", [(REAL_ROW, "fad"), (NOISE_ROW, "fad"), (("+DiT", "ctx"), "apa")])
def test_a_missing_cell_fails_and_says_missing(good_cells, tabled, cell):
    results = check(tabled(good_cells | {cell: None}), GOOD_CLAP)
    missing = [result for result in results if result.note.startswith("missing")]
    assert missing
    assert not any(result.passed for result in missing)


def test_a_row_that_was_lost_fails_and_one_that_was_not_asked_for_does_not(good_cells, tabled):
    lost = {key: value for key, value in good_cells.items() if key[0] != ("C-DiT", "ctx")}
    assert ("context: APA, random + 0.15", "C-DiT / ctx") in failures(check(tabled(lost), GOOD_CLAP))
    asked = [row for row in paper_table().model_rows() if row != ("C-DiT", "ctx")]
    assert failures(check(tabled(lost), GOOD_CLAP, model_rows=asked)) == set()


def test_an_embedder_of_unknown_quality_fails(good_cells, tabled):
    assert failures(check(tabled(good_cells), None)) == {
        ("small CLAP: recall@5", "held-out songs"),
        ("small CLAP: role accuracy", "held-out songs"),
    }


def test_a_summary_shows_the_row_furthest_beyond_its_bound(good_cells, tabled):
    beyond = {(("+DiT", "CLAP_T"), "fad"): 1.1, (("C-DiT", "CLAP_T"), "fad"): 1.5}
    summaries = summarise(check(tabled(good_cells | beyond), GOOD_CLAP))
    summary = next(entry for entry in summaries if entry.name == "conditioned: FAD, 0.5 × noise")
    assert (summary.passed, summary.rows, summary.closest.subject) == (22, 24, "C-DiT / CLAP_T")


def test_the_terminal_names_every_failure_with_value_and_bound(good_cells, tabled):
    out = io.StringIO()
    print_checks(check(tabled(good_cells | {(REAL_ROW, "apa"): 0.5}), GOOD_CLAP), file=out)
    assert "FAILED  real: APA: real / original accompaniment: 0.5 is not > 0.75" in out.getvalue()
    assert "86 of 87 checks passed" in out.getvalue()
    assert "\x1b" not in out.getvalue()
