"""The report page: whole in one file, honest about its numbers, and safe with any text."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from metrics.embeddings import Space
from metrics.intervals import Interval
from metrics.memorisation import Suspect
from metrics.protocol import Protocol
from metrics.reproduction import reproduction_score
from metrics.row_statistics import Measured
from metrics.table import NOISE_ROW, REAL_ROW, Score, ScoreTable
from models.clap_quality import ClapQuality
from tasks.arm_comparison import Compared, Difference
from tasks.bridge_quality import crossing
from tasks.checks import CheckResult
from tasks.columns import columns
from tasks.context_sensitivity import Listening
from tasks.page import ReportInput, render_page
from tasks.page_examples import Answer, Clip, Example
from tasks.plots import Curve, band_levels, space_plot, spectrogram_plot
from tasks.plots_metrics import metric_plot
from tasks.provenance import Provenance
from tasks.row_statistics import RowStatistics
from tasks.sureness import Sureness

RATE_HZ = 48_000
QUALITY = ClapQuality(
    windows=4,
    recall_at_1=0.25,
    recall_at_5=1.0,
    role_accuracy=None,
    zero_shot_role_accuracy=0.625,
    own_text_cosine=0.5,
    other_text_cosine=0.0,
    modality_gap=0.75,
    modality_gap_share=0.5625,
    effective_rank=3.0,
)
FAD = Measured("fad", 0.505, 0.4, 0.61, "")
SILENT = Measured("silent", 0.05, None, None, "3 of 60")
COPIES = Measured("memorised", 0.75, 0.5, 1.0, "chance 0.778")
BLANK_KAD = Measured("kad", 0.01, None, None, "3 <tracks>")
SUSPECT = Suspect("made <1>", "train-7", 0.1, 0.25)


@pytest.fixture(scope="module")
def table():
    space = Space(name="small CLAP", width=128, normalised=True, weights_sha256="ab" * 32)
    protocol = Protocol(
        profile="laptop", batches=2, batch_size=20, reference_size=300, space=space, mixture_space=space
    )
    values = {
        (REAL_ROW, "fad"): 0.1,
        (NOISE_ROW, "fad"): 2.0,
        (("+DiT", "ctx"), "fad"): 0.5,
        (("+DiT", "uncond"), "apa_context_ignored"): 0.5,
    }
    scores = [
        Score(arm=row[0], inputs=row[1], metric=metric, batch=batch, value=value + 0.01 * batch, candidates=20)
        for (row, metric), value in values.items()
        for batch in (0, 1)
    ]
    return ScoreTable(protocol=protocol, scores=tuple(scores))


@pytest.fixture(scope="module")
def report(table):
    provenance = Provenance(
        name="a <b>&c",
        scale="laptop",
        corpus="my <script>alert(1)</script> songs",
        corpus_digest="cd",
        codecs={"+DiT": "spectral, stereo"},
        seed=3,
        code_version="abc1234",
    )
    tone_SN = np.sin(2 * np.pi * 440 * np.arange(RATE_HZ // 2) / RATE_HZ, dtype=np.float32)[None].repeat(2, axis=0)
    example = Example(
        window="heldout-00000001",
        tags='warm "keys"</p><img src=x onerror=y>',
        rate_hz=RATE_HZ,
        context=Clip(audio_SN=tone_SN, mp3=b"context"),
        real=Clip(audio_SN=tone_SN, mp3=b"real"),
        answers=(
            Answer(
                arm="+DiT",
                inputs="ctx",
                place="the <best>",
                told="CLAP cosine 0.50 <of 60>",
                clip=Clip(audio_SN=tone_SN, mp3=b"candidate"),
            ),
        ),
    )
    return ReportInput(
        provenance=provenance,
        table=table,
        checks=(CheckResult("real: APA", "real / x", None, ">", None, False, "missing: apa of real / x"),),
        sure=Sureness(
            rows=(RowStatistics("<+DiT>", "ctx", 30, (FAD, SILENT, COPIES, BLANK_KAD), (SUSPECT,)),),
            comparisons=(Compared("+DiT", "<+M2L2>", "ctx", 30, (Difference("fad", -0.25, -0.5, -0.1, 0.005, ""),)),),
            reproduction=reproduction_score(
                {("a", "ctx"): {"fad": 1.0}, ("b", "ctx"): {"fad": 2.0}},
                {("a", "ctx"): {"fad": Interval(2, 1.9, 2.1, 0)}, ("b", "ctx"): {"fad": Interval(1, 0.9, 1.1, 0)}},
                ("a", "b"),
            ),
        ),
        judge=(QUALITY, space_plot(np.eye(4, 8, dtype=np.float32), np.eye(4, 8, 4, dtype=np.float32), "abab", gap=1.0)),
        listening=(
            ("<+DiT>", (Listening("candidates <b>", 0.25, 0.5, 0.1, 0.2), Listening("real", None, 1, 0.3, 0.4))),
        ),
        bridge=((crossing("mean <shift>", np.eye(4, 8), np.eye(4, 8)),), b"bridged"),
        steps_curves=(b"drawn",),
        stem_map=None,
        curves=(Curve(name="+DiT", steps=(0, 10), values={"loss": (1.0, 0.5)}),),
        examples=(example,),
        notes=("a further <note>",),
        commands=("make run && echo done",),
    )


@pytest.fixture(scope="module")
def page(report):
    return render_page(report)


class Outline(HTMLParser):
    """Tags with their attributes, and whether every opened element was closed in order."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.ill_nested = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.ill_nested.append(tag)


@pytest.fixture(scope="module")
def outline(page):
    parser = Outline()
    parser.feed(page)
    return parser


def test_the_page_asks_nobody_for_anything(page, outline):
    addresses = [value for _, found in outline.tags for name, value in found.items() if name in ("src", "href")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"https?://|url\(|@import", re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL))
    assert "default-src 'none'" in page and "connect-src" not in page  # so that the script cannot either


def test_the_page_is_well_nested(outline):
    assert outline.ill_nested == []
    assert outline.open == []


def test_text_from_outside_stays_text(page, outline):
    assert [found for tag, found in outline.tags if tag == "script"] == [{}]  # the players', by its digest
    assert not any("onerror" in found for _, found in outline.tags)
    assert "my &lt;script&gt;" in page


def test_every_picture_and_player_says_what_it_is(outline):
    pictures = [found for tag, found in outline.tags if tag == "img"]
    players = [found for tag, found in outline.tags if tag == "audio"]
    assert len(pictures) == 7  # FAD, APA without context, spectrogram, steps, judge's space, bridge, training
    assert all(found["alt"] for found in pictures)
    assert [found["data-name"] for found in players] == ["context", "real stem", "from the music"]
    assert players[2]["data-told"].startswith("ctx, the <best>. ")
    assert all("window heldout-00000001" in found["aria-label"] for found in players)


def test_every_link_leads_to_a_section(outline):
    targets = {found["id"] for tag, found in outline.tags if tag == "section" and "id" in found}
    links = {found["href"].removeprefix("#") for tag, found in outline.tags if tag == "a"}
    assert links == targets


def test_the_page_says_why_its_figures_are_not_the_papers(page):
    assert "The embedder is small CLAP, 128-d" in page
    assert "order of the arms is not expected" in page
    assert "a further &lt;note&gt;" in page


def test_ours_and_the_papers_figures_stand_in_one_row_under_separate_headings(page):
    row = re.search(r'<tr><th scope="row">ctx</th>.*?</tr>', page)[0]
    assert '0.505<span class="spread"> ±0.007</span>' in row
    assert '<td class="theirs">0.31</td>' in row
    assert "the paper’s, measured otherwise" in page


def test_a_missing_check_is_shown_as_failed(page):
    assert "1 of 1 checks failed" in page
    assert "missing: apa of real / x" in page


def test_a_candidate_without_context_has_no_context_player(report):
    alone = dataclasses.replace(report.examples[0], context=None)
    page = render_page(dataclasses.replace(report, examples=(alone,), curves=(), checks=()))
    assert page.count("<audio controls") == 2
    assert "Training curves" not in page


def test_the_page_tells_how_sure_its_figures_are_and_why_some_are_blank(page):
    section = re.search(r'<section id="sure">.*?</section>', page, re.DOTALL)[0]
    assert '0.505 <span class="spread">0.400 to 0.610</span>' in section
    assert "<strong>-0.250</strong>" in section and "p 0.005" in section and "+DiT less &lt;+M2L2&gt;" in section
    assert "0% of the paper’s 1 orderings" in section and "FAD: the paper has a below b; ours not under ctx" in section
    assert "<td>5%</td>" in section and "chance 0.778" in section and "made &lt;1&gt; and train-7, 0.25" in section
    assert "KAD, 1 cells: 3 &lt;tracks&gt;" in section


def test_equal_reports_give_equal_pages(report, page):
    assert render_page(report) == page


def test_equal_tables_give_equal_pictures_and_other_tables_other_ones(table):
    fad = columns((2, 5))[1]
    assert metric_plot(table, fad, {}) == metric_plot(table, fad, {})
    moved = dataclasses.replace(table.scores[4], value=0.9)
    other = dataclasses.replace(table, scores=(*table.scores[:4], moved, *table.scores[5:]))
    assert metric_plot(other, fad, {}) != metric_plot(table, fad, {})


def test_whiskers_are_the_intervals_and_not_the_spread_over_batches(table):
    fad = columns((2, 5))[1]
    row = next(row for row in table.rows() if row[0] == "+DiT" and table.cell(*row, "fad"))
    narrow, wide = ({(row, "fad"): (0.5 - width, 0.5 + width)} for width in (0.01, 0.3))
    pictures = {metric_plot(table, fad, ends) for ends in ({}, narrow, wide)}
    assert len(pictures) == 3


def test_the_page_tells_how_well_the_judge_hears_or_has_no_such_section(report, page):
    assert "0.750 between the means, 56% of what the cosine with the own text lacks of 1" in page
    assert "0.625" in page
    assert 'id="judge"' in page
    assert 'id="judge"' not in render_page(dataclasses.replace(report, judge=None))
    assert "&lt;+DiT&gt;" in page and "candidates &lt;b&gt;" in page and ">0.250<" in page
    assert 'id="context"' not in render_page(dataclasses.replace(report, listening=()))
    assert 'id="bridge"' in page and "mean &lt;shift&gt;" in page
    assert 'id="bridge"' not in render_page(dataclasses.replace(report, bridge=None))


def test_a_picture_of_a_space_changes_with_what_lies_in_it():
    audio_NE = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    text_NE, roles = audio_NE + 1, ["bass", "drums"] * 3
    picture = space_plot(audio_NE, text_NE, roles, gap=1.0)
    assert picture == space_plot(audio_NE, text_NE, roles, gap=1.0)
    assert picture != space_plot(audio_NE, text_NE + 1, roles, gap=1.0)


def test_a_full_scale_sine_is_loudest_in_its_own_band_and_halving_it_costs_6_db():
    sine_SN = np.sin(2 * np.pi * 1000 * np.arange(RATE_HZ) / RATE_HZ, dtype=np.float32)[None]
    level_B = band_levels(sine_SN, rate_hz=RATE_HZ).mean(axis=1)
    middle_hz = np.geomspace(40, 16_000, 98)[1:-1]
    assert abs(np.log2(middle_hz[level_B.argmax()] / 1000)) < 0.1
    halved_B = band_levels(0.5 * sine_SN, rate_hz=RATE_HZ).mean(axis=1)
    assert level_B.max() - halved_B.max() == pytest.approx(6.02, abs=0.01)


def test_a_clip_shorter_than_a_frame_and_silence_can_be_drawn():
    assert spectrogram_plot({"silence": np.zeros((2, 100), np.float32)}, rate_hz=RATE_HZ).startswith(b"\x89PNG")
