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
from tasks.steps_curve import CURVE, PICTURE, DrawSteps, StepsPoint, evaluations, samplers, steps_lines


def test_an_edm_arm_is_sampled_by_both_solvers_and_its_own_number_of_steps():
    asked = samplers(DpmSampler(steps=10), (2, 4))
    assert asked == (*(DpmSampler(steps=n) for n in (2, 4, 10)), HeunSampler(steps=2), HeunSampler(steps=4))
    assert [evaluations(sampler) for sampler in asked] == [2, 4, 10, 3, 7]


def test_a_consistency_arm_has_the_first_levels_of_a_grid_of_one_more():
    asked = samplers(ConsistencySampler(), (2, 5, 8))
    assert [len(sampler.levels) for sampler in asked] == [2, 5, 8]
    assert asked[1].levels == FIVE_LEVELS
    assert asked[0].levels == pytest.approx((80.0, 2.515219))


def test_the_curve_has_every_metric_with_its_interval_and_draws_fad(tmp_path):
    points = []
    for steps, fad in ((2, 0.9), (4, 0.5)):
        place = tmp_path / f"{steps}"
        place.mkdir()
        measured = [Measured("fad", fad, fad - 0.1, fad + 0.1, ""), Measured("kad", None, None, None, "too few")]
        told = {"arm": "+DiT", "inputs": "ctx", "tracks": 8, "suspects": []}
        place.joinpath(STATISTICS).write_text(json.dumps(told | {"measured": [one._asdict() for one in measured]}))
        statistics = Artifact(stage="statistics", key=f"{steps}", location=str(place), digest="d")
        points.append(StepsPoint(HeunSampler(steps=steps), statistics))
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
