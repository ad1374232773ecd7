"""How sure the table is, as steps: intervals of every row, and each arm beside the one it differs from by one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flows.preparation import Prepared
from flows.study import Make, Study
from models.arms import ONE_STEP_FROM
from tasks.arm_comparison import CompareRows
from tasks.artifact import Artifact
from tasks.embed import EmbedWindows, Mixing
from tasks.embed_alike import EmbedAlike
from tasks.embed_mispaired import EmbedMispaired
from tasks.judged_row import JudgedRow
from tasks.levels import MeasureLevels
from tasks.row_statistics import Bounds, MeasureRow


class Against(NamedTuple):
    """What the rows of an arm are held against, prompt by prompt: the bounds of fit, and the stems' levels."""

    bounds: Bounds
    levels: Artifact


def prompts_truth(study: Study, prepared: Prepared, make: Make) -> Against:
    """The prompts' contexts with their own stems and with others that fit by chance, and how loud their own are."""
    prompts, mixing = prepared.windows.prompts, Mixing.of(study.protocol)
    true = make(EmbedWindows(windows=prompts, clap=prepared.clap, mixing=mixing))
    wrong, alike = wrong_stems(study, prepared, make), alike_stems(study, prepared, make)
    return Against(Bounds(true=true, random=wrong, alike=alike), make(MeasureLevels(windows=prompts)))


def measure_row(study: Study, prepared: Prepared, row: JudgedRow, against: Against | None, make: Make) -> Artifact:
    """Intervals of a row's scores, and what else its candidates tell; `against` is None for rows that no arm fills."""
    return make(
        MeasureRow(
            row=row,
            training=prepared.train_embeddings,
            bounds=against.bounds if against and row.adherence else None,
            levels=against.levels if against else None,
            seed=study.seed,
        )
    )


def compare_arms(study: Study, rows: Sequence[JudgedRow], make: Make) -> list[Artifact]:
    """Every arm beside the one before it, under each of the inputs that both were given."""
    known = {(row.arm, row.inputs): row for row in rows}
    pairs = ((known.get((ONE_STEP_FROM.get(row.arm, ""), row.inputs)), row) for row in rows)
    return [make(CompareRows(before=before, after=after, seed=study.seed)) for before, after in pairs if before]


def wrong_stems(study: Study, prepared: Prepared, make: Make) -> Artifact:
    """The prompts' contexts with the stems of other tracks: random accompaniments."""
    mixing, seed = Mixing.of(study.protocol), study.protocol.pairing_seed
    return make(EmbedMispaired(windows=prepared.windows.prompts, clap=prepared.clap, mixing=mixing, seed=seed))


def alike_stems(study: Study, prepared: Prepared, make: Make) -> Artifact:
    """The prompts' contexts with the most alike stems of other tracks, where the corpus says what is alike."""
    windows, mixing = prepared.windows.prompts, Mixing.of(study.protocol)
    return make(EmbedAlike(windows=windows, catalogue=prepared.catalogue, clap=prepared.clap, mixing=mixing))
