"""The Parquet files: typed, versioned, complete, and equal bytes for equal tables."""

import dataclasses

import polars as pl
import pytest

from metrics.embeddings import Space
from metrics.protocol import Protocol
from metrics.table import REAL_ROW, Score, ScoreTable
from tasks.artifact import Artifact
from tasks.exports import (
    TABLE1_SCHEMA,
    flat_protocol,
    protocol_columns,
    read_frame,
    read_scores_parquet,
    write_scores_parquet,
    write_table1_parquet,
)
from tasks.provenance import Provenance
from tasks.report import DATASET, SCORES, publish


@pytest.fixture(scope="module")
def table():
    space = Space(name="small CLAP", width=128, normalised=True, weights_sha256="ab" * 32)
    protocol = Protocol(
        profile="laptop",
        batches=2,
        batch_size=20,
        reference_size=300,
        space=space,
        mixture_space=space,
        inferred=("mix", "pairing_seed"),
    )
    values = [(REAL_ROW, "fad", 0.1, 0.2), (REAL_ROW, "apa", 0.9, 0.8), (("+DiT", "uncond"), "kd", -1e-4, 3e-4)]
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
        corpus="the embedded corpus",
        corpus_digest="cd",
        codecs={"+DiT": "spectral, stereo"},
        seed=3,
        code_version="abc1234",
    )


def test_a_long_file_gives_back_the_very_table(tmp_path, table, provenance):
    write_scores_parquet(tmp_path / "scores.parquet", table, provenance)
    assert read_scores_parquet(tmp_path / "scores.parquet") == table


def test_every_protocol_field_is_a_typed_column_beside_every_score(tmp_path, table, provenance):
    write_scores_parquet(tmp_path / "scores.parquet", table, provenance)
    frame = pl.read_parquet(tmp_path / "scores.parquet")
    for field in dataclasses.fields(Protocol):
        assert any(name.startswith(f"protocol_{field.name}") for name in frame.columns)
    assert frame.schema["protocol_batch_size"] == pl.Int64
    assert frame.schema["protocol_window_s"] == pl.Float64
    assert frame.schema["protocol_space_normalised"] == pl.Boolean
    assert frame["protocol_neighbours"].unique().to_list() == ["[2, 5]"]
    assert frame["run_codec"].unique().to_list() == ["spectral, stereo"]
    assert frame.height == len(table.scores)


def test_column_types_come_from_the_declaration_and_cover_every_value(table):
    assert set(protocol_columns()) == set(flat_protocol(table.protocol))


@pytest.mark.parametrize("write", [write_scores_parquet, write_table1_parquet])
def test_equal_tables_give_equal_bytes_and_leave_nothing_else(tmp_path, table, provenance, write):
    write(tmp_path / "a" / "x.parquet", table, provenance)
    write(tmp_path / "b" / "x.parquet", table, provenance)
    assert (tmp_path / "a" / "x.parquet").read_bytes() == (tmp_path / "b" / "x.parquet").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.parquet"]


def test_table1_has_means_spreads_and_nulls_where_a_cell_is_absent(tmp_path, table, provenance):
    write_table1_parquet(tmp_path / "table1.parquet", table, provenance)
    frame = read_frame(tmp_path / "table1.parquet", TABLE1_SCHEMA)
    real, model = frame.to_dicts()
    assert (real["arm"], model["inputs"]) == ("real", "uncond")
    assert real["fad_mean"] == pytest.approx(0.15)
    assert real["fad_std"] == pytest.approx(0.1 / 2**0.5)
    assert model["kd_mean"] == pytest.approx(1e-4)
    assert model["apa_mean"] is None
    assert frame.schema["coverage_k5_mean"] == pl.Float64


def test_one_batch_has_no_spread_rather_than_a_spread_of_zero(tmp_path, table, provenance):
    single = dataclasses.replace(table, scores=table.scores[:1])
    write_table1_parquet(tmp_path / "table1.parquet", single, provenance)
    assert read_frame(tmp_path / "table1.parquet", TABLE1_SCHEMA)["fad_std"].to_list() == [None]


def test_a_file_of_another_schema_is_refused(tmp_path, table, provenance):
    write_table1_parquet(tmp_path / "table1.parquet", table, provenance)
    with pytest.raises(ValueError, match=r"stemwright\.table1/1, this version reads stemwright\.scores/1"):
        read_scores_parquet(tmp_path / "table1.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="of some other program"):
        read_frame(tmp_path / "other.parquet", TABLE1_SCHEMA)


def test_a_metric_without_a_column_is_refused_rather_than_left_out(tmp_path, table, provenance):
    odd = dataclasses.replace(table.scores[0], metric="coverage_k7")
    with pytest.raises(ValueError, match="coverage_k7"):
        write_table1_parquet(tmp_path / "x.parquet", dataclasses.replace(table, scores=(odd,)), provenance)


def test_the_scores_of_several_runs_are_read_at_once(tmp_path, table, provenance):
    runs = {
        "laptop-embedded-seed3": provenance,
        "tiny-a b%=c-seed0": dataclasses.replace(provenance, scale="tiny", seed=0),
    }
    for name, told in runs.items():
        (tmp_path / "made" / name).mkdir(parents=True)
        write_scores_parquet(tmp_path / "made" / name / SCORES, table, told)
        report = Artifact(stage="report", key="k", location=str(tmp_path / "made" / name), digest="d")
        for _ in range(2):  # published again, a run replaces itself
            publish(report, tmp_path, name)
    whole = pl.scan_parquet(tmp_path / "reports" / DATASET / "**/*.parquet", hive_partitioning=True).collect()
    assert whole.height == 2 * len(table.scores)
    found = whole.group_by("run").agg(pl.col("scale").first(), pl.col("seed").first(), pl.col("run_scale").first())
    assert {row["run"]: (row["scale"], row["seed"]) for row in found.to_dicts()} == {
        "laptop-embedded-seed3": ("laptop", 3),
        "tiny-a b%=c-seed0": ("tiny", 0),
    }
    assert (whole["scale"] == whole["run_scale"]).all() and (whole["seed"].cast(pl.String) == whole["run_seed"]).all()
