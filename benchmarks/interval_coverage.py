"""How often intervals contain the truth, and how often paired tests cry wolf, where the truth is known.

    python benchmarks/interval_coverage.py [--draws 500] [--bootstraps 100] [--wide 100] [--tests 400]

Candidates of a track share a draw of their own (half of their variance and more); references stay as they are. The
truth of a case is a metric's mean over all draws of candidates of the same size. A share near 95 % is right. Beside our
intervals, which leave tracks out, stand percentile intervals of a bootstrap that draws tracks with replacement.
About six minutes of one core; nothing needs a GPU, audio or weights.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads only wait for each other

import numpy as np

from metrics.comparison import paired_comparison
from metrics.frechet import gaussian
from metrics.intervals import Interval, estimate
from metrics.kad import kad_reference, kad_statistic
from metrics.kernel import kernel_set
from metrics.neighbourhoods import neighbourhoods
from metrics.set_statistics import (
    SetStatistic,
    adherence_statistic,
    coverage_statistic,
    density_statistic,
    frechet_statistic,
    kernel_contrast_statistic,
    kernel_statistic,
    mean_statistic,
    stacked,
)

# Shapes: N rows, D width of the space, T tracks.

BOOTSTRAP_RESAMPLES = 200


class World(NamedTuple):
    """A law of tracks and rows in D dimensions; `unit` puts rows on the unit sphere, as CLAP's are."""

    width: int
    unit: bool = False
    track_share: float = 0.6  # of the variance, common to the rows of a track

    def rows(self, rng: Any, track_of_row: Any, *, shift: float = 0.0, scale: float = 1.0) -> Any:
        """A set (N, D): fresh tracks, fresh rows."""
        extent_D = np.geomspace(1.0, 0.1, self.width)
        track_TD = rng.standard_normal((track_of_row.max() + 1, self.width)) * np.sqrt(self.track_share)
        own_ND = rng.standard_normal((len(track_of_row), self.width)) * np.sqrt(1 - self.track_share)
        rows_ND = (scale * (track_TD[track_of_row] + own_ND) + shift) * extent_D
        if not self.unit:
            return rows_ND
        rows_ND[:, 0] += 4.0
        return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)


class Case(NamedTuple):
    """Candidates: how many tracks, how many rows each (None: 1 to 9 by chance), and how far from the references."""

    name: str
    tracks: int
    per_track: int | None
    shift: float
    scale: float


CASES = (
    Case("a model: shifted, narrower", 40, 5, 0.7, 0.8),
    Case("the real row: the references' law", 40, 5, 0.0, 1.0),
    Case("a near model", 40, 5, 0.2, 1.0),
    Case("tracks of 1 to 9 candidates", 40, None, 0.4, 0.9),
    Case("200 tracks of one candidate", 200, 1, 0.4, 0.9),
    Case("10 tracks of 20 candidates", 10, 20, 0.4, 0.9),
    Case("4 tracks of 50 candidates", 4, 50, 0.4, 0.9),
)


class References:
    """References of one world, with what metrics need of them, and mispaired ones a step away."""

    def __init__(self, world: World, rng: Any, tracks: int = 200, per_track: int = 3) -> None:
        of_row = np.repeat(np.arange(tracks), per_track)
        stems, wrong = world.rows(rng, of_row), world.rows(rng, of_row, shift=1.0)
        self.gaussian, self.wrong_gaussian = gaussian(stems), gaussian(wrong)
        self.kernel, self.wrong_kernel = kernel_set(stems), kernel_set(wrong)
        self.neighbourhoods, self.kad = neighbourhoods(stems, 5), kad_reference(stems)
        self.caption_D = stems.mean(axis=0)

    def statistics(self, pool: Any) -> dict[str, SetStatistic]:
        cosine_N = pool @ self.caption_D / np.linalg.norm(pool, axis=1)
        return {
            "FAD": frechet_statistic(self.gaussian, pool),
            "KD": kernel_statistic(self.kernel, pool),
            "KAD": kad_statistic(self.kad, pool),
            "density": density_statistic(self.neighbourhoods, pool, 5),
            "coverage": coverage_statistic(self.neighbourhoods, pool, 5),
            "APA": adherence_statistic(self.gaussian, self.wrong_gaussian, pool),
            "KD contrast": kernel_contrast_statistic(self.kernel, self.wrong_kernel, pool),
            "CLAP score": mean_statistic(cosine_N),
        }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("draws", 500), ("bootstraps", 100), ("wide", 100), ("tests", 400)):
        asked.add_argument(f"--{name}", type=int, default=default)
    told = asked.parse_args()
    for case in CASES:
        print_coverage(World(24), case, told.draws, told.bootstraps)
    if told.wide:
        print_coverage(World(512, unit=True), CASES[0]._replace(name="unit vectors of width 512"), told.wide, 0)
    print_coverage_of_other_references(World(24), told.draws)
    if told.tests:
        print_tests(World(24), told.tests)


def print_coverage(world: World, case: Case, draws: int, bootstraps: int) -> None:
    rng = np.random.default_rng(7)
    references = References(world, rng)
    ours: dict[str, list[tuple[float, float, float]]] = {}
    theirs: dict[str, list[tuple[float, float]]] = {}
    for draw in range(draws):
        track_N = tracks_of_rows(case, rng)
        statistics = references.statistics(world.rows(rng, track_N, shift=case.shift, scale=case.scale))
        for metric, statistic in statistics.items():
            found = estimate(statistic, [str(track) for track in track_N]).interval()
            ours.setdefault(metric, []).append((found.value, found.low, found.high))
        if draw < bootstraps:
            for metric, ends in bootstrap_intervals(statistics, track_N, rng).items():
                theirs.setdefault(metric, []).append(ends)
    print(f"\n{case.name} ({draws} draws)\n{'':14} {'mean':>10} {'spread':>10} {'covers':>8} {'bootstrap':>10}")
    for metric, rows in ours.items():
        value, low, high = np.asarray(rows).T
        truth = value.mean()
        covers = f"{np.mean((low <= truth) & (truth <= high)):8.1%}"
        resampled = np.asarray(theirs.get(metric, [])).reshape(-1, 2)
        beside = f"{np.mean((resampled[:, 0] <= truth) & (truth <= resampled[:, 1])):10.1%}" if bootstraps else ""
        print(f"{metric:14} {truth:10.4f} {value.std(ddof=1):10.4f} {covers} {beside}", flush=True)


def print_coverage_of_other_references(world: World, draws: int) -> None:
    """The same where references are drawn anew as well, of which an interval against fixed ones knows nothing."""
    rng = np.random.default_rng(9)
    case = CASES[2]
    tracks, of_reference = np.repeat(np.arange(40), 5), np.repeat(np.arange(40), 5)
    found: dict[str, list[Interval]] = {"FAD": [], "KD": []}
    for _ in range(draws):
        reference, candidate = world.rows(rng, of_reference), world.rows(rng, tracks, shift=case.shift)
        for metric, statistic_of in (("FAD", frechet_statistic), ("KD", kernel_statistic)):
            found[metric].append(
                estimate(statistic_of(reference, candidate), [str(track) for track in tracks]).interval()
            )
    print(f"\nreferences drawn anew too ({draws} draws)\n{'':14} {'covers':>8}")
    for metric, intervals in found.items():
        truth = float(np.mean([one.value for one in intervals]))
        print(f"{metric:14} {np.mean([one.low <= truth <= one.high for one in intervals]):8.1%}", flush=True)


def tracks_of_rows(case: Case, rng: Any) -> Any:
    sizes = rng.integers(1, 10, case.tracks) if case.per_track is None else np.full(case.tracks, case.per_track)
    return np.repeat(np.arange(case.tracks), sizes)


def bootstrap_intervals(
    statistics: Mapping[str, SetStatistic], track_N: Any, rng: Any
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of sets made of tracks drawn with replacement, their rows repeated."""
    rows_of = [np.flatnonzero(track_N == track) for track in range(track_N.max() + 1)]
    values: dict[str, list[float]] = {metric: [] for metric in statistics}
    for _ in range(BOOTSTRAP_RESAMPLES):
        drawn = np.concatenate([rows_of[track] for track in rng.integers(len(rows_of), size=len(rows_of))])
        for metric, statistic in statistics.items():
            values[metric].append(statistic(drawn))
    return {metric: tuple(np.quantile(found, (0.025, 0.975)).tolist()) for metric, found in values.items()}


def print_tests(world: World, tests: int) -> None:
    """Shares of paired tests below 5 %: with equal arms (about 5 % is right) and with one arm further away."""
    print(f"\npaired tests of two arms on 200 items of 40 tracks ({tests} each), share with p <= 0.05, and intervals")
    print(f"{'':14} {'equal arms':>12} {'(interval)':>12} {'one is worse':>14} {'(interval)':>12}")
    shares = [shares_below(world, tests, worse) for worse in (0.0, 0.15)]
    for metric, (equal, equal_interval) in shares[0].items():
        worse, worse_interval = shares[1][metric]
        print(f"{metric:14} {equal:12.1%} {equal_interval:12.1%} {worse:14.1%} {worse_interval:12.1%}", flush=True)


def shares_below(world: World, tests: int, worse: float) -> dict[str, tuple[float, float]]:
    rng = np.random.default_rng(11)
    references = References(world, rng)
    track_N = np.repeat(np.arange(40), 5)
    tracks = [str(track) for track in track_N]
    found: dict[str, list[tuple[bool, bool]]] = {}
    for _ in range(tests):
        # Arms answer the same contexts: half of what they play is the item's, half their own.
        common, *own = (world.rows(rng, track_N) for _ in range(3))
        first, second = (np.sqrt(0.5) * (common + one) for one in own)
        second = second + (0.3 + worse) * np.geomspace(1.0, 0.1, world.width)
        first = first + 0.3 * np.geomspace(1.0, 0.1, world.width)
        for metric, statistic in references.statistics(stacked(first, second)).items():
            told = paired_comparison(statistic, tracks, seed=0, swaps=99)
            excludes = not told.difference.low <= 0 <= told.difference.high
            found.setdefault(metric, []).append((told.p_value <= 0.05, excludes))
    return {metric: tuple(np.mean(rows, axis=0).tolist()) for metric, rows in found.items()}


if __name__ == "__main__":
    main()
