"""Claims about what is measured of a row beside its scores, and of two rows side by side."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from metrics.embeddings import Space
from metrics.protocol import Protocol
from metrics.row_statistics import measured
from metrics.set_statistics import mean_statistic
from metrics.table import ScoreTable
from models.conditioning import Conditioning
from tasks.arm_comparison import CompareRows, load_compared
from tasks.artifact import Artifact
from tasks.clap import SPEC
from tasks.columns import CONTEXT_IGNORED
from tasks.embeddings import Row, merge_parts, part_path, write_part
from tasks.exports import read_frame
from tasks.judge import ScoreRow, load_scores
from tasks.judged_row import JudgedRow
from tasks.levels import LEVELS, Level
from tasks.provenance import Provenance
from tasks.reference_state import MeasureReferences
from tasks.row_statistics import Bounds, MeasureRow, gates, load_statistics
from tasks.runtime import Runtime
from tasks.sureness import (
    COMPARISONS_SCHEMA,
    STATISTICS_SCHEMA,
    Sureness,
    write_comparisons_parquet,
    write_statistics_parquet,
)

# Shapes: N windows, K style segments, W windows of a mixture, E width of the space.

WIDTH, TRACKS, CANDIDATES, REFERENCES, TRAINING, BATCHES = 6, 20, 60, 120, 100, 2
SPACE = Space(name="drawn", width=WIDTH, normalised=False, weights_sha256="")
PROTOCOL = Protocol(
    profile="laptop",
    batches=BATCHES,
    batch_size=CANDIDATES // BATCHES,
    reference_size=REFERENCES,
    space=SPACE,
    mixture_space=SPACE,
    mixture_windows=2,
)
WITH_CONTEXT = Conditioning(clap=None, context=True)


def drawn(random, count, *, shift=0.0, spread=1.0):
    """Stems, and mixtures of two windows that lie `shift` from the true ones."""
    stem_NE = spread * random.standard_normal((count, WIDTH)) + shift
    return {"stem_NE": stem_NE, "mixture_NWE": random.standard_normal((count, 2, WIDTH)) + shift}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Embeddings by name as finished artifacts; candidates of 20 tracks, references of the same."""
    folder, random = tmp_path_factory.mktemp("embeddings"), np.random.default_rng(0)

    def artifact(name, arrays, *, tracks=TRACKS, split="heldout", first=0):
        place = folder / name
        place.mkdir()
        count = len(arrays["stem_NE"])
        rows = [
            Row(f"{split}-{first + row:04d}", f"{split} song {row % tracks:02d}", "bass", "bass")
            for row in range(count)
        ]
        write_part(part_path(place, 0), arrays, rows)
        merge_parts(place, SPACE)
        return Artifact(stage="embed", key=name, location=str(place), digest=name)

    references = drawn(random, REFERENCES)
    training = {"stem_NE": random.standard_normal((TRAINING, WIDTH))}
    levels = {"peak_N": np.full(CANDIDATES, 0.5), "lufs_N": np.full(CANDIDATES, -20.0)}
    near, far = drawn(random, CANDIDATES, shift=0.3), drawn(random, CANDIDATES, shift=0.9)
    prompts = drawn(random, CANDIDATES)
    prompts |= {"text_NE": prompts["stem_NE"] + 1, "style_NKE": prompts["stem_NE"][:, None]}
    folder.joinpath("clap").mkdir()
    folder.joinpath("clap", SPEC).write_text(json.dumps(dataclasses.asdict(SPACE)))
    folder.joinpath("levels").mkdir()
    told = {f"heldout-{row:04d}": [0.5, -20.0] for row in range(CANDIDATES)}
    folder.joinpath("levels", LEVELS).write_text(json.dumps(told))
    held_out = artifact("references", references, first=1000)
    mispaired = artifact("mispaired", drawn(random, REFERENCES, shift=1.5), first=1000)
    state = folder / "state"
    state.mkdir()
    runtime = Runtime(workspace=str(folder), workers=1, progress=False)
    MeasureReferences(references=held_out, mispaired=mispaired).run(state, runtime)
    return SimpleNamespace(
        references=held_out,
        mispaired=mispaired,
        reference_state=Artifact(stage="reference-state", key="state", location=str(state), digest="state"),
        training=artifact("training", training, split="train"),
        prompts=artifact("prompts", prompts),
        near=artifact("near", near | levels),
        far=artifact("far", far | levels),
        beyond=artifact("beyond", drawn(random, CANDIDATES, shift=-0.3)),
        two_tracks=artifact("two_tracks", near, tracks=2),
        copies=artifact("copies", near | {"stem_NE": training["stem_NE"][:CANDIDATES]}),
        of_held_out=artifact("of_held_out", near | {"stem_NE": references["stem_NE"][:CANDIDATES] + 1e-3}),
        random=artifact("random", drawn(random, CANDIDATES, shift=1.5)),
        alike=artifact("alike", drawn(random, CANDIDATES, shift=1.0)),
        none=artifact("none", drawn(random, 0)),
        clap=Artifact(stage="clap", key="clap", location=str(folder / "clap"), digest="clap"),
        levels=Artifact(stage="levels", key="levels", location=str(folder / "levels"), digest="levels"),
    )


def row_of(made, candidates, *, arm="+DiT", adherence=True, conditioning=WITH_CONTEXT):
    return JudgedRow(
        arm=arm,
        inputs="ctx",
        conditioning=conditioning,
        candidates=candidates,
        prompts=made.prompts,
        references=made.references,
        mispaired=made.mispaired,
        reference_state=made.reference_state,
        clap=made.clap,
        protocol=PROTOCOL,
        batches=BATCHES,
        quality=True,
        adherence=adherence,
    )


@pytest.fixture
def measure(made, tmp_path):
    """What is measured of a row with these candidates."""

    def measure(candidates, alike=None, **options):
        bounds = Bounds(true=made.prompts, random=made.random, alike=made.alike if alike is None else alike)
        row = row_of(made, candidates, **options)
        step = MeasureRow(row=row, training=made.training, bounds=bounds, levels=made.levels, seed=0)
        step.run(tmp_path, Runtime(workspace=str(tmp_path)))
        return load_statistics(Artifact(stage="statistics", key="", location=str(tmp_path), digest=""))

    return measure


@pytest.fixture
def compare(made, tmp_path, monkeypatch):
    """The differences between two rows by metric, with fewer exchanges than a study makes."""
    monkeypatch.setattr("tasks.arm_comparison.SWAPS", 39)

    def compare(before, after):
        step = CompareRows(before=row_of(made, before, arm="+M2L2"), after=row_of(made, after), seed=0)
        step.run(tmp_path, Runtime(workspace=str(tmp_path)))
        compared = load_compared(Artifact(stage="comparison", key="", location=str(tmp_path), digest=""))
        return {one.metric: one for one in compared.differences}

    return compare


def cells(made, candidates, folder):
    ScoreRow(row=row_of(made, candidates)).run(folder, Runtime(workspace=str(folder), workers=1, progress=False))
    scores = load_scores(Artifact(stage="scores", key="", location=str(folder), digest=""))
    table = ScoreTable(protocol=PROTOCOL, scores=scores)
    return {score.metric: table.cell("+DiT", "ctx", score.metric).mean for score in scores}


def test_every_interval_is_around_the_very_cell_of_the_table(made, measure, tmp_path):
    found = measure(made.near)
    for metric, mean in cells(made, made.near, tmp_path).items():
        one = found.of(metric)
        assert one.value == pytest.approx(mean, rel=1e-9), metric
        assert one.low < one.value < one.high and one.note == "", metric
    assert found.tracks == TRACKS


def test_kad_mixtures_and_infinite_size_are_measured_from_the_same_embeddings(made, measure):
    near, far = measure(made.near), measure(made.far)
    for metric in ("kad", "mixture_fad", "fad_infinite"):
        assert near.of(metric).value < far.of(metric).value
    assert near.of("fad_infinite").value < near.of("fad").value


def test_two_tracks_have_figures_without_ends_and_the_reason(made, measure):
    found = measure(made.two_tracks)
    assert found.tracks == 2
    assert found.of("fad").value > 0 and found.of("fad").low is None
    assert "2 tracks; an interval needs at least 4" in found.of("fad").note
    assert found.of("apa_fit").value is None and "2 tracks" in found.of("apa_fit").note


def test_apa_of_candidates_without_context_has_its_other_name_and_no_fit(made, measure):
    found = measure(made.near, adherence=False)
    assert found.of("apa") is None and found.of("apa_kd_contrast") is None and found.of("apa_fit") is None
    assert found.of(CONTEXT_IGNORED).low is not None


def test_fit_is_one_for_the_real_stems_zero_for_other_tracks_and_flagged_beyond(made, measure):
    assert measure(made.prompts).of("apa_fit").value == pytest.approx(1)
    assert measure(made.random).of("apa_fit").value == pytest.approx(0, abs=1e-9)
    assert 0.3 < measure(made.far).of("apa_fit").value < 0.9
    beyond = measure(made.beyond).of("apa_fit")
    assert beyond.value > 1 and beyond.note == "beyond the true bound: not ranked"


def test_the_fit_above_alike_stems_is_less_than_that_above_any_and_flagged_below_them(made, measure):
    assert measure(made.prompts).of("apa_fit_alike").value == pytest.approx(1)
    assert measure(made.alike).of("apa_fit_alike").value == pytest.approx(0, abs=1e-9)
    far = measure(made.far)
    assert far.of("apa_fit_alike").value < far.of("apa_fit").value
    random = measure(made.random)
    assert random.of("apa_fit_alike").value < 0
    assert random.of("apa_fit_alike").note == "beyond the random bound: not ranked"


def test_where_prompts_have_no_alike_stems_there_is_one_fit_and_a_reason_for_the_other(made, measure):
    found = measure(made.far, alike=made.none)
    assert found.of("apa_fit").value is not None and found.of("apa_fit_alike").value is None
    assert found.of("apa_fit_alike").note == "the corpus does not give every prompt an alike stem"


def test_copies_of_training_stems_are_named_and_those_of_held_out_ones_are_not_suspected(made, measure):
    copied = measure(made.copies)
    assert copied.of("memorised").value == 1 and copied.of("memorised").low is None  # all alike: not known to be all
    assert copied.of("memorised").note == "chance 0.625; no track left out changes it"
    assert copied.suspects[0].training == f"train-{int(copied.suspects[0].candidate[-4:]):04d}"
    assert copied.suspects[0].distance == 0
    # A held-out stem of its own track is no witness, so a copy of one is suspected about as often as chance says.
    honest = measure(made.of_held_out)
    chance = TRAINING / (TRAINING + REFERENCES / 2)
    assert honest.of("memorised").note == f"chance {chance:.3f}"
    assert abs(honest.of("memorised").value - chance) < 0.2


def test_gates_tell_silence_overdrive_and_wrong_level_and_spare_silent_prompts():
    levels = [Level(0.5, -20.0), Level(0.0, -math.inf), Level(1.5, -20.0), Level(0.5, -31.0)]
    sound = Level(0.5, -20.0)
    shares = {one.metric: (one.value, one.note) for one in gates(levels, [sound] * 4)}
    assert shares["silent"] == (0.25, "1 of 4")
    assert shares["over_full_scale"] == (0.25, "1 of 4")
    assert shares["off_level"] == (pytest.approx(1 / 3), "1 of 3; +0.0 LU in the middle")
    silent = gates(levels[:1], [Level(0.0, -math.inf)])[2]
    assert silent.value is None and silent.note == "0 of 0"


def test_the_level_of_a_full_scale_sine_is_the_standards():
    sine_N = np.sin(2 * np.pi * 997 * np.arange(10 * 48_000) / 48_000).astype(np.float32)
    level = Level.of(np.stack([sine_N, sine_N]))
    assert level.peak == pytest.approx(1, abs=1e-3) and level.lufs == pytest.approx(-3.01, abs=0.06)
    one_sided = Level.of(np.stack([0 * sine_N, sine_N]))
    assert one_sided.peak == level.peak
    assert one_sided.lufs == pytest.approx(level.lufs - 6.02, abs=0.01)  # the mean of both sides is heard
    assert Level.of(np.zeros((2, 48_000), np.float32)).silent


def test_a_worse_arm_is_found_and_exchanging_the_arms_changes_the_sign(made, compare):
    worse, better = compare(made.near, made.far), compare(made.far, made.near)
    for metric in ("fad", "kd", "kad"):
        assert worse[metric].low > 0 and worse[metric].p_value == 1 / 40, metric
        assert better[metric].value == pytest.approx(-worse[metric].value)
    assert worse["apa"].high < 0


def test_a_batch_of_one_track_is_a_reason_and_no_number():
    values = mean_statistic(np.arange(8.0))
    tracks = ["a"] * 4 + ["b", "c", "d", "e"]
    found = measured("cs_ta", lambda: values, tracks, batches=2)
    assert found.value == 3.5 and found.low is None and "a batch holds candidates of one track alone" in found.note
    assert measured("cs_ta", lambda: values, tracks, batches=1).low is not None


def test_an_arm_does_not_differ_from_itself(made, compare):
    for one in compare(made.near, made.near).values():
        assert [one.value, one.low or 0, one.high or 0] == pytest.approx([0, 0, 0], abs=1e-9), one.metric


def test_differences_are_those_of_the_tables_cells(made, compare, tmp_path):
    before, after = cells(made, made.near, tmp_path), cells(made, made.far, tmp_path)
    found = compare(made.near, made.far)
    for metric in set(before) - {"apa"}:  # a clipped score has another difference
        assert found[metric].value == pytest.approx(after[metric] - before[metric], abs=1e-9), metric


def test_too_few_tracks_leave_a_comparison_blank_with_the_reason(made, compare):
    found = compare(made.two_tracks, made.two_tracks)["fad"]
    assert found.value is None and found.p_value is None and "2 tracks" in found.note


def test_the_files_are_typed_and_blank_where_nothing_is_known(made, measure, tmp_path):
    rows = [measure(made.near), measure(made.two_tracks)]
    table = ScoreTable(protocol=PROTOCOL, scores=())
    sure = Sureness.of(table, rows, [])
    assert sure.reproduction is None
    told = Provenance(
        name="t", scale="laptop", corpus="c", corpus_digest="cd", codecs={}, seed=0, code_version="abc1234"
    )
    write_statistics_parquet(tmp_path / "statistics.parquet", sure, table, told)
    frame = read_frame(tmp_path / "statistics.parquet", STATISTICS_SCHEMA)
    assert frame.columns == ["arm", "inputs", "metric", "value", "low", "high", "level", "tracks", "note"]
    fad = frame.filter(pl.col("metric") == "fad")
    assert fad["low"].is_null().to_list() == [False, True] and fad["tracks"].to_list() == [TRACKS, 2]
    assert fad["level"].to_list() == [0.95, 0.95]
    write_comparisons_parquet(tmp_path / "comparisons.parquet", sure, table, told)
    empty = read_frame(tmp_path / "comparisons.parquet", COMPARISONS_SCHEMA)
    assert empty.is_empty() and empty.schema["p_value"] == pl.Float64
    with pytest.raises(ValueError, match=r"stemwright\.comparisons/1"):
        read_frame(tmp_path / "comparisons.parquet", STATISTICS_SCHEMA)
