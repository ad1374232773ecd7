"""Kill -9 a run again and again: at random moments, where stages begin, and where they end. It must end as if nothing
had happened.

    .venv/bin/python tests/faults/random_kills.py --kills 100
    .venv/bin/python tests/faults/random_kills.py --kills 10 -- run --only windows --with-inputs --scale tiny

After `--` stand the arguments of stemwright; without them one arm of the tiny study runs under one conditioning. The
whole process group dies at once: the run, its Dask workers and its Prefect server. After every kill each result that
looks finished must have the bytes of its record and the digest of an undisturbed run, and what was finished before
must be there still. A run that was let live to its end starts over in an empty workspace, until there were enough
kills; the last one must then end with exactly the results of the undisturbed run. Exit code 1 and a line say what is
not so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ARM = ("reproduce", "--scale", "tiny", "--arms", "+DiT", "--conditionings", "CLAP_A,ctx")
POLL_S = 0.002
NEAR = 6  # results: a kill comes at one of the next, so that a run is killed often on its way
SOON = 1 / 3  # of an undisturbed run's time: a kill at a random moment comes within it, for the same reason

Run = Callable[[Sequence[str], Path, Callable[[], bool]], bool]
"""Runs stemwright with these arguments in a workspace until a question is answered with yes; whether it was killed."""


class Broken(Exception):
    """A promise that a killed run did not keep."""


def disturb(arguments: Sequence[str], home: Path, *, kills: int, seed: int = 0, run: Run) -> Counter[str]:
    """How many kills of each kind a run of these arguments outlived, and how many runs were let live to their end."""
    started = time.monotonic()
    expected = undisturbed(arguments, home / "undisturbed", run)
    dice, counts, workspace = random.Random(seed), Counter[str](), home / "disturbed"
    longest_s = time.monotonic() - started
    kept: set[str] = set()
    while True:
        is_last = sum(counts[kind] for kind in ("moment", "begin", "end")) >= kills
        kind, moment = ("none", lambda: False) if is_last else chosen(dice, expected, workspace, longest_s)
        was_killed = run(arguments, workspace, moment)
        found = verified(workspace, expected)
        if not kept <= found:
            raise Broken(f"lost by a kill ({kind}): {sorted(kept - found)}")
        if was_killed:
            counts[kind] += 1
            print(f"killed ({kind}) with {len(found)} of {len(expected)} results", file=sys.stderr, flush=True)
            kept = found
            continue
        if found != set(expected):
            raise Broken(f"not made by a run that said it was done: {sorted(set(expected) - found)}")
        counts["whole runs"] += 1
        if is_last:
            return counts
        shutil.rmtree(workspace)
        kept = set()


def undisturbed(arguments: Sequence[str], workspace: Path, run: Run) -> dict[str, str]:
    """The digest of every result by stage and key, the first finished first."""
    run(arguments, workspace, lambda: False)
    told = [json.loads(path.read_text()) for path in workspace.glob("artifacts/*/[!.]*/record.json")]
    told.sort(key=lambda record: record["finished"])
    return {f"{record['stage']}/{record['key']}": record["digest"] for record in told}


def chosen(
    dice: random.Random, expected: dict[str, str], workspace: Path, longest_s: float
) -> tuple[str, Callable[[], bool]]:
    """When the next kill comes: a kind for the count, and the question whether it is time."""
    missing = [name for name in expected if not (workspace / "artifacts" / name).exists()][:NEAR]
    kind = dice.choice(("moment", "begin", "end"))
    homes = [workspace / "artifacts" / name for name in missing]
    begun = [home.with_name(f".building-{home.name}") for home in homes]
    places = {"begin": [path for path in begun if not path.exists()], "end": homes, "moment": []}[kind]
    if places:
        return kind, dice.choice(places).exists
    due = time.monotonic() + dice.uniform(0.0, SOON * longest_s)
    return "moment", lambda: time.monotonic() >= due


def run_alone(arguments: Sequence[str], workspace: Path, until: Callable[[], bool]) -> bool:
    """A run in processes of its own. Whether the run was killed; Broken where it ended by itself and not well."""
    workspace.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "flows", *arguments, "--workspace", str(workspace)]
    with tempfile.TemporaryFile() as told:
        with subprocess.Popen(command, cwd=ROOT, stdout=told, stderr=told, start_new_session=True) as process:
            while process.poll() is None and not until():
                time.sleep(POLL_S)
            was_killed = process.poll() is None
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what a run that ended may have left
        if not was_killed and process.returncode:
            told.seek(0)
            raise Broken(f"exit code {process.returncode}:\n{told.read().decode(errors='replace')[-4000:]}")
    return was_killed


def verified(workspace: Path, expected: dict[str, str]) -> set[str]:
    """The results that look finished, by stage and key; Broken where one is not what its record says."""
    found = set()
    for home in workspace.glob("artifacts/*/[!.]*"):
        name = f"{home.parent.name}/{home.name}"
        try:
            record = json.loads((home / "record.json").read_text())
        except (OSError, ValueError) as error:
            raise Broken(f"{name} looks finished and has no whole record: {error}") from error
        for file, entry in record["files"].items():
            data = (home / file).read_bytes()
            if (len(data), hashlib.sha256(data).hexdigest()) != (entry["bytes"], entry["sha256"]):
                raise Broken(f"{name}: {file} is not what its record says")
        if record["digest"] != expected.get(name):
            raise Broken(f"{name} has digest {record['digest']}, undisturbed {expected.get(name)}")
        found.add(name)
    if (workspace / "mlflow.db").exists():
        with closing(sqlite3.connect(workspace / "mlflow.db")) as database:
            (state,) = database.execute("PRAGMA integrity_check").fetchone()
        if state != "ok":
            raise Broken(f"mlflow.db: {state}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("arguments", nargs="*", help="what stemwright runs, after --")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="random-kills-") as home:
        started = time.monotonic()
        try:
            counts = disturb(asked.arguments or ARM, Path(home), kills=asked.kills, seed=asked.seed, run=run_alone)
        except Broken as error:
            print(f"broken: {error}")
            return 1
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(f"{asked.kills} kills in {time.monotonic() - started:.0f} s ({told}): digests as undisturbed, nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
