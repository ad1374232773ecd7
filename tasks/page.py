"""The report page: one self-contained HTML file, readable offline, on a phone and on paper."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from metrics.table import ScoreTable
from models.clap_quality import ClapQuality
from tasks.bridge_quality import Crossing
from tasks.checks import CheckResult, summarise
from tasks.columns import Column, diagnostics, scored_columns
from tasks.context_sensitivity import Listening
from tasks.exports import flat_protocol
from tasks.page_examples import Example, example_articles, player_script, player_style, script_digest
from tasks.page_figure import figure
from tasks.page_sureness import sureness
from tasks.page_tables import (
    check_table,
    crossing_table,
    fact_list,
    failure_list,
    listening_table,
    meaning_list,
    score_table,
)
from tasks.plots import Curve, training_plot
from tasks.plots_metrics import metric_plots
from tasks.plots_overview import overview_plot
from tasks.provenance import Provenance, embedder_name, in_papers_space, sizes, why_not_the_papers
from tasks.sureness import Sureness


@dataclass(frozen=True, kw_only=True)
class ReportInput:
    """All that the page tells. `notes` are further cautions; `commands` are the lines that make this page again.

    `judge` holds the figures of the embedder and a picture of its space; None where it was not measured. `bridge`
    holds the ways from text to audio and a picture of CLAP_beta's; None where no arm has a bridge. `listening` tells
    of every denoiser what the context changes. `stem_map` is a picture of the arms' stems among real ones, and
    `steps_curves` are those that `stemwright steps` drew of this study's rows.
    """

    provenance: Provenance
    table: ScoreTable
    checks: tuple[CheckResult, ...]
    sure: Sureness
    judge: tuple[ClapQuality, bytes] | None
    bridge: tuple[tuple[Crossing, ...], bytes] | None
    listening: tuple[tuple[str, tuple[Listening, ...]], ...]
    stem_map: bytes | None
    curves: tuple[Curve, ...]
    steps_curves: tuple[bytes, ...]
    examples: tuple[Example, ...]
    notes: tuple[str, ...]
    commands: tuple[str, ...]


def render_page(report: ReportInput) -> str:
    """The page as HTML. It asks no other file or host for anything, and equal reports give equal text."""
    sections = [section for section in _sections(report) if section.content]
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    script = player_script() if report.examples else ""
    return template.substitute(
        script=script,
        script_digest=script_digest(script),
        player_style=player_style(),
        title=escape(f"Table 1 at scale {report.provenance.scale}: {report.provenance.name}"),
        summary=_summary(report),
        contents="".join(f'<li><a href="#{part.anchor}">{escape(part.title)}</a></li>' for part in sections),
        body=_caution(report) + "\n".join(_section_html(part) for part in sections),
    )


@dataclass(frozen=True)
class _Section:
    anchor: str
    title: str
    content: str


def _sections(report: ReportInput) -> list[_Section]:
    return [
        _Section("table", "Table 1, ours and the paper's", _table(report)),
        _Section("checks", "Checks", _checks(report.checks)),
        _Section("sure", "How sure is this?", sureness(report.sure, report.table.protocol.neighbours)),
        _Section("context", "Do the arms listen?", _listening(report)),
        _Section("listen", "Candidates to hear and see", example_articles(report.examples)),
        _Section("overview", "All arms at once", _overview(report)),
        _Section("plots", "A plot per metric", _plots(report)),
        _Section("steps", "FAD against sampling steps", _steps(report.steps_curves)),
        _Section("judge", "How well the judge hears", _judge(report)),
        _Section("bridge", "What the bridge is worth", _bridge(report)),
        _Section("training", "Training curves", _training(report.curves)),
        _Section("protocol", "Protocol", _protocol(report)),
        _Section("again", "How to make this page again", _commands(report.commands)),
    ]


def _section_html(section: _Section) -> str:
    return f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>\n{section.content}</section>'


def _summary(report: ReportInput) -> str:
    passed = sum(result.passed for result in report.checks)
    judged = f"{passed} of {len(report.checks)} checks passed." if report.checks else "No checks were asked for."
    return escape(
        f"An ablation of accompaniment generators (arXiv 2410.23005), run on {report.provenance.corpus}. "
        f"{len(report.table.rows())} rows, {sizes(report.table.protocol)}. {judged}"
    )


def _caution(report: ReportInput) -> str:
    reasons = [*why_not_the_papers(report.provenance, report.table.protocol), *report.notes]
    items = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    facts = {
        "scale": report.provenance.scale,
        "corpus": f"{report.provenance.corpus} (digest {report.provenance.corpus_digest})",
        "codec": report.provenance.codec,
        "embedder": embedder_name(report.table.protocol),
        "sizes": sizes(report.table.protocol),
        "seed": str(report.provenance.seed),
        "code version": report.provenance.code_version,
    }
    heading = "Compare rows with rows, not these figures with the paper’s"
    caution = f'<section class="caution"><h2>{heading}</h2><ul>{items}</ul></section>'
    return f'<div class="start">{fact_list(facts)}{caution}</div>\n'


def _table(report: ReportInput) -> str:
    known = scored_columns(report.table)
    extra = [column for column in diagnostics() if any(_has(report.table, row, column) for row in report.table.rows())]
    main = tuple(column for column in known if column not in diagnostics())
    content = score_table(report.table, main, caption=_table_caption(report.table), with_paper=True)
    content += meaning_list(main)
    if extra:
        caption = "Diagnostics: what APA gives to candidates that never heard a context, and APA's unclamped sign."
        diagnostic = score_table(report.table, tuple(extra), caption=caption, with_paper=False)
        content += f"<details><summary>Diagnostics of APA</summary>{diagnostic}{meaning_list(tuple(extra))}</details>"
    return content


def _table_caption(table: ScoreTable) -> str:
    spread = "mean ± standard deviation over batches" if table.protocol.batches > 1 else "one batch, so no spread"
    kind = "same kind of embedder" if in_papers_space(table.protocol) else "a different embedder"
    return (
        f"Ours: {embedder_name(table.protocol)}; {sizes(table.protocol)}; {spread}. The paper’s (italic): LAION CLAP, "
        f"5 batches of 1,000 against 5,000, no spread printed: {kind}, another corpus. – marks a cell that is absent "
        "by design: rows without context have no APA."
    )


def _has(table: ScoreTable, row: tuple[str, str], column: Column) -> bool:
    return table.cell(*row, column.metric) is not None


def _checks(results: tuple[CheckResult, ...]) -> str:
    if not results:
        return ""
    return check_table(summarise(results)) + failure_list(results)


def _overview(report: ReportInput) -> str:
    lines, stem_map = overview_plot(report.table), report.stem_map
    figures = []
    if lines:
        caption = (
            "A panel per conditioning. 1 is what real stems score, 0 what noise does (in KD to Den) or the stem of "
            "another track (in APA and CS_TA). An APA beyond 1 is not better than another beyond 1."
        )
        figures.append(figure(lines, "Every arm's scores between their bounds", caption))
    if stem_map:
        caption = "Each arm's first row in the judge's space, on the two directions of widest spread (PCA)."
        figures.append(figure(stem_map, "Embeddings of real stems, candidates and white noise", caption))
    return "".join(figures)


def _plots(report: ReportInput) -> str:
    known = {column.metric: column for column in scored_columns(report.table)}
    intervals = {
        ((row.arm, row.inputs), one.metric): (one.low, one.high)
        for row in report.sure.rows
        for one in row.measured
        if one.low is not None and one.high is not None
    }
    figures = [
        figure(png, f"{known[metric].title} per row, ours and the paper's in separate panels", known[metric].meaning)
        for metric, png in metric_plots(report.table, intervals).items()
    ]
    note = (
        '<p class="soft">Whiskers are 95 % intervals by tracks, as in “How sure is this?”; a bar without has none. '
        "Hollow bars are bounds, and lines go on from those of real stems, white noise, and stems of other tracks. "
        "The two panels have axes of their own. A value written with an arrow lies beyond the axis, so that "
        "the arms stay apart.</p>"
    )
    return f'{note}<div class="figures">{"".join(figures)}</div>'


def _steps(curves: tuple[bytes, ...]) -> str:
    if not curves:
        return ""
    note = (
        '<p class="soft">One row of an arm, sampled by stemwright steps in other numbers of steps and by other '
        "solvers. Whiskers are 95 % intervals by tracks. Guidance asks the network more often than the axis counts.</p>"
    )
    figures = "".join(figure(png, "FAD of one row over evaluations of the network", "") for png in curves)
    return f'{note}<div class="figures">{figures}</div>'


def _judge(report: ReportInput) -> str:
    if report.judge is None:
        return ""
    quality, picture = report.judge
    by_centroid = "not known" if quality.role_accuracy is None else f"{quality.role_accuracy:.3f}"
    facts = {
        "embedder": embedder_name(report.table.protocol),
        "windows": f"{quality.windows}, of songs that the windows it was fitted on are not from",
        "own text among the nearest 1, 5": f"{quality.recall_at_1:.3f}, {quality.recall_at_5:.3f}",
        "role by the nearest centroid": by_centroid,
        "role by its name as a prompt": f"{quality.zero_shot_role_accuracy:.3f}",
        "cosine with the own text, another": f"{quality.own_text_cosine:.3f}, {quality.other_text_cosine:.3f}",
        "gap between audio and text": f"{quality.modality_gap:.3f} between the means, "
        f"{quality.modality_gap_share:.0%} of what the cosine with the own text lacks of 1",
        "effective rank of the stems": f"{quality.effective_rank:.1f}",
    }
    return fact_list(facts) + figure(picture, "Embeddings of stems and of their tags on two axes", "")


def _listening(report: ReportInput) -> str:
    if not report.listening:
        return ""
    note = (
        '<p class="soft">Candidates under ctx alone, from the same noise, after hearing the prompt’s context, that of '
        "another track, or silence; all are judged beside the prompt’s own. Who listens fits worse after the wrong "
        "one. Latents moved: 0 is no change, 1 as different as candidates of different tracks. The real stems are "
        "the bounds on the same prompts.</p>"
    )
    return note + listening_table(report.listening)


def _bridge(report: ReportInput) -> str:
    if report.bridge is None:
        return ""
    crossings, picture = report.bridge
    note = (
        '<p class="soft">Held-out stems. Text as it is crosses nothing; the last row, another segment of the same '
        "stem, is what a perfect bridge would give. A regression meets the mean of all audio with the same tags, so "
        "it has the higher cosine and, of fewer directions, the greater FAD.</p>"
    )
    return note + crossing_table(crossings) + figure(picture, "Embeddings of stems and bridged ones of their tags", "")


def _training(curves: tuple[Curve, ...]) -> str:
    if not curves:
        return ""
    names = ", ".join(curve.name for curve in curves)
    return figure(training_plot(curves), f"Training curves of {names}", "One panel per training; axes differ.")


def _protocol(report: ReportInput) -> str:
    columns = flat_protocol(report.table.protocol)
    record = fact_list({name.removeprefix("protocol_"): str(value) for name, value in columns.items()})
    return f'<p class="soft">What travels with every number; the same columns are in scores.parquet.</p>{record}'


def _commands(commands: tuple[str, ...]) -> str:
    return f"<pre>{escape(chr(10).join(commands))}</pre>" if commands else ""
