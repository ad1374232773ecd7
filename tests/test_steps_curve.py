"""Claims about scores against sampling steps: which samplers are asked, what they cost, what is written."""

import json

import polars as pl
import pytest

from metrics.row_statistics import Measured
from models.consistency import FIVE_LEVELS
from models.sampling import ConsistencySampler, DpmSampler, HeunSampler
from tasks.artifact import Artifact
from tasks.row_statistics import STATISTICS
from tasks.runtime import Runtime
from tasks.steps_curve import CURVE, PICTURE, DrawSteps, StepsPoint, curves_of, evaluations, samplers, steps_lines
from tasks.store import Store


def test_an_edm_arm_is_sampled_by_both_solvers_and_its_own_number_of_steps():
    asked = samplers(DpmSampler(steps=10), (2, 4))
    assert asked == (*(DpmSampler(steps=n) for n in (2, 4, 10)), HeunSampler(steps=2), HeunSampler(steps=4))
    assert [evaluations(sampler) for sampler in asked] == [2, 4, 10, 3, 7]


def test_a_consistency_arm_has_the_first_levels_of_a_grid_of_one_more():
    asked = samplers(ConsistencySampler(), (2, 5, 8))
    assert [len(sampler.levels) for sampler in asked] == [2, 5, 8]
    assert asked[1].levels == FIVE_LEVELS
    assert asked[0].levels == pytest.approx((80.0, 2.515219))


@pytest.fixture
def row(tmp_path):
    """The statistics of a row that was sampled so, with this FAD."""

    def row(name, fad):
        place = tmp_path / name
        place.mkdir()
        measured = [Measured("fad", fad, fad - 0.1, fad + 0.1, ""), Measured("kad", None, None, None, "too few")]
        told = {"arm": "+DiT", "inputs": "ctx", "tracks": 8, "suspects": []}
        place.joinpath(STATISTICS).write_text(json.dumps(told | {"measured": [one._asdict() for one in measured]}))
        return Artifact(stage="statistics", key=name, location=str(place), digest=name)

    return row


def test_the_curve_has_every_metric_with_its_interval_and_draws_fad(row, tmp_path):
    points = [StepsPoint(HeunSampler(steps=steps), row(f"{steps}", fad)) for steps, fad in ((2, 0.9), (4, 0.5))]
    out = tmp_path / "out"
    out.mkdir()
    DrawSteps(arm="+DiT", inputs="ctx", points=tuple(points)).run(out, Runtime(workspace=str(tmp_path)))
    frame = pl.read_parquet(out / CURVE)
    assert frame.filter(pl.col("metric") == "fad").select("evaluations", "value", "low").rows() == [
        (3, 0.9, 0.8),
        (7, 0.5, 0.4),
    ]
    assert frame["value"].null_count() == 2
    assert (out / PICTURE).read_bytes().startswith(b"\x89PNG")
    lines = list(steps_lines(Artifact(stage="steps", key="k", location=str(out), digest="d")))
    assert [line.split() for line in lines] == [
        ["sampler", "evaluations", "FAD"],
        ["Heun", "3", "0.9000"],
        ["Heun", "7", "0.5000"],
    ]


def test_a_study_shows_the_fullest_curve_through_a_row_of_its_own_and_no_others(row, tmp_path):
    store, runtime = Store(tmp_path / "artifacts"), Runtime(workspace=str(tmp_path))
    own, fewer, more, other = row("own", 0.5), row("fewer", 0.9), row("more", 0.4), row("other", 0.3)

    def drawn(*points, arm="+DiT"):
        told = tuple(StepsPoint(HeunSampler(steps=2 + place), point) for place, point in enumerate(points))
        return store.build(DrawSteps(arm=arm, inputs="ctx", points=told), runtime)

    full = drawn(fewer, own, more)
    drawn(fewer, own)
    drawn(other, more, fewer, row("last", 0.2))
    further = drawn(own, arm="C-DiT")
    assert curves_of([own], store) == (full, further)
    assert curves_of([row("planned", 0.5)], store) == ()
    assert curves_of([own, other], Store(tmp_path / "empty")) == ()
