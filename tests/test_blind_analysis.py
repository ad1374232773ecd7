"""Answers to a blind test: a planted preference is found, none is invented, and foreign answers are refused."""

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from flows.__main__ import app
from metrics.crossed_intervals import crossed_interval
from tasks.blind_analysis import find
from tasks.blind_answers import read_answers
from tasks.blind_key import ANCHOR, KEY, REAL, AskedWindow, Key, deal
from tasks.blind_page import ANSWERS_SCHEMA

SYSTEMS = ("first", "second")
TRIALS = 8


@pytest.fixture(scope="module")
def key():
    windows = [AskedWindow(key=f"w-{number}", track=f"song_{number}", anchor="w-0") for number in range(TRIALS)]
    return Key(report="r", systems=SYSTEMS, seed=0, trials=deal(windows, SYSTEMS, seed=0))


def answered(key, listener, merit, rng, *, whims=6.0):
    """A listener's answers: the merit of each system, an own centre of the scale, and noise."""
    centre = rng.normal(0, 8)
    ratings = [
        {
            "trial": trial.name,
            "stimulus": letter,
            "score": int(np.clip(50 + centre + merit.get(system, 0) + rng.normal(0, whims), 0, 100)),
            "plays": 2,
        }
        for trial in key.trials
        for letter, system in trial.stimuli.items()
    ]
    return {"schema": ANSWERS_SCHEMA, "test": key.digest, "listener": listener, "ratings": ratings}


@pytest.fixture
def answers(key, tmp_path):
    """Write answers of listeners and give their paths."""

    def write(*told):
        paths = [tmp_path / f"answers-{number}.json" for number in range(len(told))]
        for path, one in zip(paths, told, strict=True):
            path.write_text(json.dumps(one), encoding="utf-8")
        return paths

    return write


MERIT = {REAL: 35, ANCHOR: -35, "first": 12, "second": 0}


def test_a_planted_preference_is_found_through_the_key(key, answers):
    rng = np.random.default_rng(0)
    paths = answers(*(answered(key, f"listener {number}", MERIT, rng) for number in range(6)))
    findings = find(read_answers(paths, key), key.systems)
    assert [one.system for one in findings.rated] == [REAL, "first", "second", ANCHOR]
    pair = next(pair for pair in findings.pairs if (pair.first, pair.second) == ("first", "second"))
    assert pair.difference.low < 12 < pair.difference.high
    assert pair.wins.low > 0.5
    assert pair.p < 0.05


def test_equal_systems_are_told_apart_in_one_test_of_twenty_and_not_more(key):
    merit = {REAL: 35, ANCHOR: -35}
    rng = np.random.default_rng(1)
    missed, wins = 0, []
    for _ in range(200):
        # Listeners and pieces each have tastes of their own: as if ratings were independent, one in three would miss.
        by_listener, by_piece = rng.normal(0, 6, (6, 1)), rng.normal(0, 6, (1, TRIALS))
        difference = by_listener + by_piece + rng.normal(0, 6, (6, TRIALS))
        listeners = [str(row) for row in range(6) for _ in range(TRIALS)]
        pieces = [str(column) for _ in range(6) for column in range(TRIALS)]
        interval = crossed_interval(difference.ravel(), listeners, pieces)
        missed += not interval.low <= 0 <= interval.high
    assert 0 <= missed <= 20
    for _ in range(20):
        ratings = _frame(key, [answered(key, str(number), merit, rng) for number in range(5)])
        pair = next(one for one in find(ratings, SYSTEMS).pairs if {one.first, one.second} == set(SYSTEMS))
        wins.append(pair.wins.low <= 0.5 <= pair.wins.high)
    assert sum(wins) >= 17


def _frame(key, told):
    rows = [
        {
            "listener": one["listener"],
            "trial": rating["trial"],
            "track": rating["trial"],
            "system": next(trial for trial in key.trials if trial.name == rating["trial"]).stimuli[rating["stimulus"]],
            "score": float(rating["score"]),
        }
        for one in told
        for rating in one["ratings"]
    ]
    return pl.DataFrame(rows)


def test_an_interval_knows_that_few_listeners_are_few_opinions():
    taste = np.repeat([-20.0, -5.0, 5.0, 20.0], 50)
    listeners, pieces = [str(place // 50) for place in range(200)], [str(place % 50) for place in range(200)]
    wide = crossed_interval(taste, listeners, pieces)
    assert wide.value == pytest.approx(0.0)
    # The mean of four opinions: their standard deviation over 2, and t of three degrees of freedom.
    expected = np.std([-20, -5, 5, 20], ddof=1) / 2 * 3.182
    assert wide.high == pytest.approx(expected, rel=0.01)


def test_who_does_not_hear_the_anchor_is_named_and_left_out(key, answers):
    rng = np.random.default_rng(2)
    good = [answered(key, f"listener {number}", MERIT, rng) for number in range(4)]
    paths = answers(*good, answered(key, "sleeper", {}, rng, whims=0.0))
    ratings = read_answers(paths, key)
    findings = find(ratings, SYSTEMS)
    assert "sleeper" not in findings.kept
    assert findings.cautions()[0].startswith("sleeper rated the real stem above the anchor in 0% of 8 pieces")
    assert "sleeper" in find(ratings, SYSTEMS, keep_all=True).kept
    with pytest.raises(ValueError, match=r"no listener told the real stem from the anchor \(sleeper"):
        find(ratings.filter(pl.col("listener") == "sleeper"), SYSTEMS)


def test_three_listeners_are_told_that_their_intervals_are_not_over_listeners(key, answers):
    rng = np.random.default_rng(3)
    paths = answers(*(answered(key, f"listener {number}", MERIT, rng) for number in range(3)))
    assert "say nothing of other listeners" in find(read_answers(paths, key), SYSTEMS).cautions()[0]


def test_a_piece_that_was_left_half_rated_is_left_out_whole(key, answers):
    told = answered(key, "Ada", MERIT, np.random.default_rng(4))
    told["ratings"][0]["score"] = None
    ratings = read_answers(answers(told), key)
    assert ratings.height == (TRIALS - 1) * 4
    assert "01" not in ratings["trial"].to_list()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"test": "ab" * 32}, "answers another listening test"),
        ({"schema": "other/1"}, "has the schema other/1"),
        ({"ratings": [{"trial": "99", "stimulus": "a", "score": 3}]}, "rates 99-a, which this test did not ask"),
        ({"ratings": [{"trial": "01", "stimulus": "a", "score": 101}]}, "ratings go from 0 to 100"),
    ],
)
def test_answers_that_are_not_this_tests_are_refused_in_one_line(key, answers, tmp_path, changed, complaint):
    paths = answers(answered(key, "Ada", MERIT, np.random.default_rng(5)) | changed)
    (tmp_path / KEY).write_bytes(key.data())
    told = CliRunner().invoke(app, ["listen", "analyse", str(tmp_path), *map(str, paths)])
    assert told.exit_code == 2
    assert complaint in told.stderr
    assert told.stderr.count("\n") == 1


def test_the_same_listener_twice_and_a_file_that_is_none_are_refused(key, answers, tmp_path):
    told = answered(key, "Ada", MERIT, np.random.default_rng(6))
    with pytest.raises(ValueError, match="both of listener 'Ada'"):
        read_answers(answers(told, told), key)
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(ValueError, match=r"notes\.txt is no answers file"):
        read_answers([tmp_path / "notes.txt"], key)


def test_the_command_writes_tables_and_names_the_systems(key, answers, tmp_path):
    rng = np.random.default_rng(7)
    paths = answers(*(answered(key, f"listener {number}", MERIT, rng) for number in range(4)))
    (tmp_path / KEY).write_bytes(key.data())
    told = CliRunner().invoke(app, ["listen", "analyse", str(tmp_path), *map(str, paths)])
    assert told.exit_code == 0, told.output
    assert told.output.startswith("4 of 4 listeners, pieces of 8 tracks")
    systems = pl.read_parquet(tmp_path / "findings" / "systems.parquet")
    assert systems["system"].to_list()[0] == REAL
    assert (systems["mean_low"] < systems["mean"]).all()
    assert pl.read_parquet(tmp_path / "findings" / "pairs.parquet").height == 6
    assert pl.read_parquet(tmp_path / "findings" / "ratings.parquet").height == 4 * 4 * TRIALS
    assert (tmp_path / "findings" / "findings.md").read_text(encoding="utf-8") in told.output
