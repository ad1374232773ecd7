"""The terminal's table: the right figures with the right scale, and nothing but text in a pipe."""

import dataclasses
import io

import pytest

from metrics.embeddings import Space
from metrics.protocol import Protocol
from metrics.table import RANDOM_ROW, REAL_ROW, Score, ScoreTable
from tasks.provenance import Provenance
from tasks.terminal import print_table


@pytest.fixture(scope="module")
def table():
    space = Space(name="small CLAP", width=128, normalised=True, weights_sha256="ab" * 32)
    protocol = Protocol(
        profile="laptop", batches=2, batch_size=20, reference_size=300, space=space, mixture_space=space
    )
    values = [
        (REAL_ROW, "kd", -2e-4, -4e-4),
        (REAL_ROW, "coverage_k5", 0.5, 0.5),
        (REAL_ROW, "density_k2", 1.0, 1.1),
        (RANDOM_ROW, "apa", 0.2, 0.3),
        (("C-DiT", "CLAP_A,ctx"), "fad", 0.41, 0.45),
    ]
    scores = [
        Score(arm=row[0], inputs=row[1], metric=metric, batch=batch, value=pair[batch], candidates=20)
        for row, metric, *pair in values
        for batch in (0, 1)
    ]
    return ScoreTable(protocol=protocol, scores=tuple(scores))


@pytest.fixture(scope="module")
def provenance():
    return Provenance(
        name="t",
        scale="laptop",
        corpus="the embedded corpus, 96 songs",
        corpus_digest="cd",
        codecs={"Diff-A-Riff": "spectral, mono", "C-DiT": "spectral, stereo"},
        seed=3,
        code_version="abc1234",
    )


@pytest.fixture
def printed(provenance):
    def text(table, width=None):
        out = io.StringIO()
        print_table(table, provenance, file=out, width=width)
        return out.getvalue()

    return text


def test_figures_are_scaled_and_absent_cells_are_dashes(table, printed):
    lines = printed(table).splitlines()
    real = next(line for line in lines if line.startswith(" real"))
    assert real.split()[3:] == ["-0.30", "±", "0.14", *"––", "105.00", "±", "7.07", "50.00", "±", "0.00", *"––––"]


def test_the_title_names_scale_codec_embedder_and_sizes(table, printed):
    title = printed(table)
    for words in ("scale laptop", "spectral, mono (Diff-A-Riff)", "small CLAP, 128-d", "not the paper's", "300 ref"):
        assert words in title


def test_a_pipe_gets_whole_words_and_no_control_codes(table, printed):
    text = printed(table)
    assert "\x1b" not in text
    assert "…" not in text
    assert "original accompaniment" in text


def test_a_narrow_terminal_gets_the_means_alone_and_says_so(table, printed):
    text = printed(table, width=100)
    assert "±" not in text
    assert "mean over batches" in text
    assert " 0.430 " in text
    assert "…" not in text


def test_a_single_batch_shows_no_spread(table, printed):
    single = dataclasses.replace(
        table,
        protocol=dataclasses.replace(table.protocol, batches=1),
        scores=tuple(score for score in table.scores if score.batch == 0),
    )
    assert "±" not in printed(single)


def test_a_small_negative_kd_is_printed_as_plain_zero(table, printed):
    tiny = dataclasses.replace(table.scores[0], value=-1e-6)
    text = printed(dataclasses.replace(table, scores=(tiny,)))
    assert " 0.00 " in text
    assert "-0.00" not in text
