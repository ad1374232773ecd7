"""Table 1 as facts: every printed row, in raw units, with its slips resolved in one documented way."""

import pytest

from metrics.table import NOISE_ROW, RANDOM_ROW, REAL_ROW, canonical_rows
from tasks.columns import columns
from tasks.paper_table import paper_table


def test_the_paper_has_28_model_rows_a_real_row_and_two_bounds():
    rows = paper_table().rows()
    assert rows[:3] == [REAL_ROW, NOISE_ROW, RANDOM_ROW]
    assert len(paper_table().model_rows()) == 28
    assert len(rows) == 31


def test_every_row_of_the_paper_is_one_of_ours():
    assert set(paper_table().rows()) <= set(canonical_rows())


def test_values_are_raw():
    value = paper_table().value
    assert value("Diff-A-Riff", "CLAP_A,ctx", "kd") == pytest.approx(1.48e-3)
    assert value("+CLAP_beta", "CLAP_T,ctx", "density_k2") == pytest.approx(0.111)
    assert value("C-DiT", "uncond", "fad") == 0.41


def test_coverage_and_density_of_the_real_row_are_read_unscaled():
    assert paper_table().value(*REAL_ROW, "density_k2") == 0.79
    assert paper_table().value(*REAL_ROW, "coverage_k2") == 0.14


def test_the_bound_row_is_split_into_noise_and_random_pairing():
    value = paper_table().value
    assert value(*NOISE_ROW, "fad") == 1.65
    assert value(*NOISE_ROW, "apa") is None
    assert value(*RANDOM_ROW, "apa") == 0.14
    assert value(*RANDOM_ROW, "fad") is None


def test_rows_without_context_have_no_apa_and_unknown_rows_nothing():
    assert paper_table().value("+DiT", "uncond", "apa") is None
    assert paper_table().value("+DiT", "CLAP_A*", "fad") is None


def test_scaled_columns_print_the_paper_as_it_was_printed():
    by_metric = {column.metric: column for column in columns((2, 5))}
    value = paper_table().value("+CLAP_beta", "CLAP_T,ctx", "density_k2")
    assert by_metric["density_k2"].printed(value) == "11.1"
    assert by_metric["kd"].printed(paper_table().value("+DiT", "ctx", "kd")) == "0.88"
    assert not by_metric["coverage_k5"].paper
