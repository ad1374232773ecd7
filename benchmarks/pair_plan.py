"""How long a pair plan of the paper's size takes: a million rows over 20,000 generated tracks, on one core.

    python benchmarks/pair_plan.py [--tracks 20000] [--stems 8] [--seconds 240] [--rows 1000000] [--segments 4]

Prints the seconds and the peak memory of each part. The catalogue itself (Python objects) is part of the memory.
Then both go to disk, and another process reads what a worker needs for a shard: 1,000 rows and their tracks.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_manifests.pairs import PairPlan, PairRange, PairRule
from data_manifests.schema import RATE_HZ, ROLES, Catalogue, Stem, StemFile, Track
from tasks.catalogue_file import read_tracks, write_catalogue
from tasks.plan_file import PAIRS_FILE, read_plan, write_plan

WINDOW_SAMPLES = 491_520  # 10.24 s (design.md section 7)
MEAN_HEARD_S, MEAN_SILENT_S = 15.0, 20.0  # many changes: real stems are heard for 14 % of the time, in fewer pieces


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    for name, default in (("tracks", 20_000), ("stems", 8), ("seconds", 240), ("rows", 1_000_000), ("segments", 4)):
        asked.add_argument(f"--{name}", type=int, default=default)
    asked.add_argument("--shard-of", help=argparse.SUPPRESS)  # the process that reads as a worker does
    sizes = asked.parse_args()
    clock = Clock()
    if sizes.shard_of:
        read_shard_rows(Path(sizes.shard_of), clock)
        return
    tracks = tuple(made_track(index, sizes.stems, sizes.seconds) for index in range(sizes.tracks))
    clock.say("catalogue", f"{len(tracks):,} tracks as objects")
    plan = PairPlan(tracks, PairRule(window_samples=WINDOW_SAMPLES, style_segments=sizes.segments))
    built_s = clock.say("plan", f"{len(plan.left_out)} tracks left out")
    rows = plan.rows(0, sizes.rows)
    rows_s = clock.say("rows", f"{sizes.rows:,} rows as columns, {len(rows.context_M):,} context stems")
    print(f"plan and rows {built_s + rows_s:.1f} s of CPU, {sizes.rows / rows_s:,.0f} rows per second of CPU")
    some = sum(len(pair.contexts) for pair in plan.pairs(0, sizes.rows // 10))
    clock.say("pairs", f"{sizes.rows // 10:,} rows as objects, {some:,} context stems")
    for index in range(0, sizes.rows, sizes.rows // 1000):
        plan.pair(index)
    clock.say("pair", "1,000 single rows")
    with tempfile.TemporaryDirectory() as folder:
        write_catalogue(Catalogue(tracks=tracks, quarantined=(), left_out=()), Path(folder))
        clock.say("catalogue", "written")
        write_plan(plan, PairRange(split="train", first=0, stop=sizes.rows), Path(folder))
        clock.say("plan", f"written, {(Path(folder) / PAIRS_FILE).stat().st_size / 1e6:.0f} MB")
        del plan, tracks, rows
        subprocess.run([sys.executable, __file__, "--shard-of", folder], check=True)


def read_shard_rows(folder: Path, clock: Clock) -> None:
    """What `tasks.window_source` reads for one shard."""
    clock.say("worker", "started")
    planned = read_plan(folder, PairRange(split="train", first=5_000, stop=6_000))
    tracks = read_tracks(folder, {pair.track_id for pair in planned.pairs})
    clock.say("worker", f"{len(planned.pairs):,} rows and {len(tracks):,} tracks read")


class Clock:
    """Seconds since the last word: by the wall, and of this process' own CPU, which other processes do not lengthen."""

    def __init__(self) -> None:
        self.wall_s, self.cpu_s = time.perf_counter(), time.process_time()

    def say(self, name: str, what: str) -> float:
        """Prints what was done; the CPU seconds of it."""
        wall_s, cpu_s = time.perf_counter() - self.wall_s, time.process_time() - self.cpu_s
        print(f"{name:10} {wall_s:6.2f} s wall {cpu_s:6.2f} s CPU, peak {peak_mb():5.0f} MB: {what}", flush=True)
        self.wall_s, self.cpu_s = time.perf_counter(), time.process_time()
        return cpu_s


def made_track(index: int, stems: int, seconds: int) -> Track:
    """A track whose stems come and go at random."""
    rng = np.random.default_rng(index)
    return Track(
        id=f"corpus/track{index:06d}",
        group_id=f"group{index:06d}",
        split="train",
        corpus="generated",
        licence="none",
        tags=("generated",),
        frames=seconds * RATE_HZ - int(rng.integers(RATE_HZ)),
        stems=tuple(made_stem(index, number, seconds, rng) for number in range(stems)),
    )


def made_stem(track: int, number: int, seconds: int, rng: np.random.Generator) -> Stem:
    """One stem in one file; every eighth is a voice."""
    is_vocal = number % 8 == 7
    lengths = rng.exponential((MEAN_HEARD_S, MEAN_SILENT_S), size=(seconds // 4, 2)).astype(int) + 1
    heard = np.repeat(np.tile([True, False], seconds // 4), lengths.ravel())
    activity = tuple(np.roll(heard, int(rng.integers(seconds)))[:seconds].tolist())
    file = StemFile(
        path=f"corpus/track{track:06d}/stem{number}.flac",
        channels=2,
        rate_hz=RATE_HZ,
        frames=seconds * RATE_HZ,
        sha256=f"{track:058x}{number:06x}",
    )
    return Stem(
        id=f"stem{number}",
        files=(file,),
        role="vocal" if is_vocal else ROLES[number % 6],
        is_vocal=is_vocal,
        usable_as_target=not is_vocal,
        usable_in_context=True,
        reason=None,
        tags=(f"instrument {number}",),
        flags=(),
        activity=activity,
        peak=0.5,
    )


def peak_mb() -> float:
    """The greatest resident size of this process so far; Linux counts it anew for a started program."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024.0


if __name__ == "__main__":
    main()
