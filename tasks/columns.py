"""How each metric is written for a reader: heading, scale, decimals. Stored values are raw; only tables scale."""

from __future__ import annotations

from dataclasses import dataclass

from metrics.table import Cell, ScoreTable

BLANK = "–"
"""What a table prints where a cell is absent by design: never zero, never an empty string that looks forgotten."""

CONTEXT_IGNORED = "apa_context_ignored"
"""APA of candidates made *without* context, mixed with their prompts' contexts: what APA gives for free."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric as a table column. A printed number is `value * scale` with `digits` decimals.

    `group` is "quality" (stems against the reference) or "adherence" (candidates against what they were asked for).
    `neighbour` is the k of coverage and density. `higher_is_better` is None where neither way is. `paper` is False
    where Table 1 has no such column.
    """

    metric: str
    heading: str
    meaning: str
    scale: float = 1.0
    digits: int = 2
    higher_is_better: bool | None = True
    group: str = "quality"
    neighbour: int | None = None
    paper: bool = True

    @property
    def arrow(self) -> str:
        """Which way is better, as the paper marks it."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def unit(self) -> str:
        """What a reader needs beside the heading: k and the scale, empty when there is neither."""
        scale = {1.0: "", 1e2: "×10⁻²", 1e3: "×10⁻³"}[self.scale]
        return f"k={self.neighbour} {scale}" if self.neighbour else scale

    @property
    def title(self) -> str:
        """Heading and unit on one line."""
        return f"{self.heading} {self.unit}".strip()

    def text(self, value: float) -> str:
        """The value as printed; a plain zero never carries a minus sign."""
        written = f"{value * self.scale:.{self.digits}f}"
        return written.lstrip("-") if float(written) == 0 else written

    def printed(self, value: float | None) -> str:
        """A figure of the paper with the digits it prints: two decimals, and three figures from 10 on."""
        if value is None:
            return BLANK
        scaled = value * self.scale
        return f"{scaled:.2f}" if abs(scaled) < 10 else f"{scaled:.3g}"

    def cell_text(self, cell: Cell | None, *, spread: bool = True) -> str:
        """Mean and standard deviation over batches; the mean alone when one batch has no spread."""
        if cell is None:
            return BLANK
        mean = self.text(cell.mean)
        return f"{mean} ± {self.text(cell.std)}" if spread and cell.batches > 1 else mean


SECONDARY = "secondary_fad_"
"""How the metrics of FADs in other spaces begin; the embedder's name follows."""


def columns(neighbours: tuple[int, ...]) -> tuple[Column, ...]:
    """The columns of Table 1 in its order, with one coverage and one density column per k of the protocol."""
    neighbour_columns = [column for k in neighbours for column in _neighbour_columns(k)]
    return (*_DISTANCES, *neighbour_columns, *_ADHERENCE)


def diagnostics() -> tuple[Column, ...]:
    """What we measure beside Table 1, to read its APA column with care."""
    return _DIAGNOSTICS


def table_columns(table: ScoreTable) -> tuple[Column, ...]:
    """The columns that a printed table has: those of Table 1, and after them the secondary FADs that it holds."""
    return columns(table.protocol.neighbours) + _secondary_columns(table)


def all_columns(neighbours: tuple[int, ...]) -> tuple[Column, ...]:
    """Every metric a score table may hold beside secondary FADs."""
    return columns(neighbours) + diagnostics()


def scored_columns(table: ScoreTable) -> tuple[Column, ...]:
    """Every column of the protocol, and the secondary FADs that the table holds.

    An unknown metric in the table is refused rather than left out.
    """
    known = all_columns(table.protocol.neighbours) + _secondary_columns(table)
    unknown = {score.metric for score in table.scores} - {column.metric for column in known}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ValueError(f"no column for the metrics {names}: tasks/columns.py names those that a table can write")
    return known


_DISTANCES = (
    Column(
        metric="kd",
        heading="KD",
        meaning="kernel distance (unbiased, may be negative) between candidate and reference stems",
        scale=1e3,
        higher_is_better=False,
    ),
    Column(
        metric="fad",
        heading="FAD",
        meaning="Fréchet audio distance between candidate and reference stems",
        digits=3,
        higher_is_better=False,
    ),
)

_ADHERENCE = (
    Column(
        metric="apa",
        heading="APA",
        meaning="audio prompt adherence: do candidates fit their own context better than a wrong one (0 to 1)",
        group="adherence",
    ),
    Column(
        metric="cs_aa",
        heading="CS_AA",
        meaning="cosine between a candidate's embedding and the audio it was asked to resemble",
        group="adherence",
    ),
    Column(
        metric="cs_ta",
        heading="CS_TA",
        meaning="cosine between a candidate's embedding and its tags' text embedding",
        group="adherence",
    ),
)

_DIAGNOSTICS = (
    Column(
        metric=CONTEXT_IGNORED,
        heading="APA, context ignored",
        meaning="APA of candidates made without context: an APA near it does not show that context is used",
        group="adherence",
        higher_is_better=None,
        paper=False,
    ),
    Column(
        metric="apa_kd_contrast",
        heading="KD contrast",
        meaning="KD to wrong pairs minus KD to true pairs, unclamped: above 0 when context is used",
        scale=1e3,
        digits=3,
        group="adherence",
        paper=False,
    ),
)


def _secondary_columns(table: ScoreTable) -> tuple[Column, ...]:
    scored = dict.fromkeys(score.metric for score in table.scores if score.metric.startswith(SECONDARY))
    return tuple(_secondary_column(metric.removeprefix(SECONDARY)) for metric in scored)


def _secondary_column(embedder: str) -> Column:
    return Column(
        metric=f"{SECONDARY}{embedder}",
        heading=f"secondary FAD, {embedder}",
        meaning=f"Fréchet audio distance between candidate and reference stems in the space of {embedder}",
        digits=3,
        higher_is_better=False,
        paper=False,
    )


def _neighbour_columns(k: int) -> tuple[Column, Column]:
    # The paper does not state k; 2 is inferred from the authors' code of the time (reference/metrics.md A4).
    in_paper = k == 2
    coverage = Column(
        metric=f"coverage_k{k}",
        heading="Cov",
        neighbour=k,
        meaning=f"share of reference stems with a candidate nearer than their k-th neighbour, k = {k}",
        scale=1e2,
        paper=in_paper,
    )
    density = Column(
        metric=f"density_k{k}",
        heading="Den",
        neighbour=k,
        meaning=f"reference neighbourhoods (k = {k}) that hold a candidate, over k; near 1 for real stems, unbounded",
        scale=1e2,
        paper=in_paper,
    )
    return coverage, density
