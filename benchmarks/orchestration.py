"""What orchestration costs: looking at 10,000 finished results, the part of a run that is no stage's work, memory.

    python benchmarks/orchestration.py look [--results 10000]
    python benchmarks/orchestration.py share WORKSPACE [--wall SECONDS]
    python benchmarks/orchestration.py memory

`look` makes tiny studies of one seed after another in a workspace until there are so many results. Each step is the
study's own, with its key, its inputs, its code and its record; only what it computes is left out: it writes its key.
Then all of them are looked at as a `reproduce` that has nothing to do looks at its own, and `stemwright status` tells
of one of these studies, beside all the others and in a workspace of its own.

`share` reads the records of a finished run: how much of the time from the first stage's start to the last one's end
was at least one stage at work, and which gaps are longest; `--wall` is the time of the whole command.

`memory` spreads stages of 100, 1,000 and 10,000 pieces of no work over two workers, and tells what this process, in
which the scheduler lives too, holds before and after each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from flows.request import StudyRequest
from flows.session import session
from flows.status import inspected
from tasks.artifact import Artifact
from tasks.cluster import fan_out
from tasks.runtime import Runtime
from tasks.step import Step
from tasks.store import Store

ROOT = Path(__file__).resolve().parent.parent
PAUSE_S = 600.0  # a longer gap between two stages is another run
SHOWN_GAPS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    look = commands.add_parser("look")
    look.add_argument("--results", type=int, default=10_000)
    share = commands.add_parser("share")
    share.add_argument("workspace", type=Path)
    share.add_argument("--wall", type=float)
    commands.add_parser("memory")
    asked = parser.parse_args()
    if asked.command == "share":
        tell_share(asked.workspace, asked.wall)
    elif asked.command == "memory":
        tell_memory()
    else:
        with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
            time_looking(Path(folder), asked.results)


def time_looking(root: Path, results: int) -> None:
    alone, many = built(root / "alone", seed=0), list[Made]()
    while sum(study.results for study in many) < results:
        many.append(built(root / "many", seed=len(many)))
    count = sum(study.results for study in many)
    print(f"{count:,} results of {len(many)} studies")
    timed("one study, all there", lambda: suspects(many[0]))
    timed(f"all {count:,} results", lambda: [suspects(study) for study in many])
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    for name, study in (("a workspace of its own", alone), (f"a workspace of {count:,}", many[0])):
        status_of(study, name)


class Made(NamedTuple):
    """A finished study of stand-ins."""

    workspace: str
    seed: int
    results: int

    @property
    def request(self) -> StudyRequest:
        return StudyRequest(scale="tiny", workspace=self.workspace, seed=self.seed)


def built(workspace: Path, *, seed: int) -> Made:
    ready = session(StudyRequest(scale="tiny", workspace=str(workspace), seed=seed))
    store, made = Store(ready.runtime.root / "artifacts"), dict[str, Artifact]()
    for kind in kinds():
        kind.run = write_key  # type: ignore[method-assign,assignment]  # the stand-in

    def make(step: Step) -> Artifact:
        return made.setdefault(step.key(), store.build(step, ready.runtime))

    make(ready.report(make))
    return Made(str(workspace), seed, len(made))


def write_key(step: Step, out: Path, runtime: Runtime) -> None:
    (out / "made").write_text(step.key(), encoding="utf-8")


def kinds(kind: type[Step] = Step) -> Iterator[type[Step]]:
    for child in kind.__subclasses__():
        yield from (child, *kinds(child))


def suspects(study: Made) -> int:
    """What `reproduce` asks before it says that nothing is to be done."""
    inspector = inspected(session(study.request))
    assert inspector.complete
    return len(inspector.suspects())


def timed(name: str, work: Callable[[], object]) -> None:
    started_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    print(f"{name}: {time.perf_counter() - started_s:.2f} s, {time.process_time() - cpu_s:.2f} s of CPU")


def status_of(study: Made, name: str) -> None:
    """The whole command, its imports told apart, with its peak memory."""
    modules = "import flows.__main__, flows.status"
    for what, command in (
        ("imports alone", ["-c", f"{modules}{PEAK}"]),
        ("status", ["-c", f"import sys; sys.argv[1:] = {status_arguments(study)!r}\n{STATUS}{PEAK}"]),
    ):
        started_s = time.perf_counter()
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True)
        peak_mib = int(done.stdout.split()[-1]) / 1024
        print(f"{what}, {name}: {time.perf_counter() - started_s:.2f} s, peak {peak_mib:.0f} MiB")


PEAK = "\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
STATUS = "from flows.__main__ import app; app(standalone_mode=False)"


def status_arguments(study: Made) -> list[str]:
    return ["status", "--scale", "tiny", "--workspace", study.workspace, "--seed", str(study.seed)]


def tell_memory() -> None:
    runtime = Runtime(workspace="", workers=2, progress=False)
    fan_out(runtime, abs, range(100), title="workers start")
    for pieces in (100, 1_000, 10_000):
        before_mib, started_s = resident_mib(), time.perf_counter()
        fan_out(runtime, abs, range(pieces), title="nothing")
        spent_s = time.perf_counter() - started_s
        print(f"{pieces:6,} pieces: {before_mib:.0f} MiB before, {resident_mib():.0f} after, {spent_s:.0f} s")


def resident_mib() -> float:
    return psutil.Process().memory_info().rss / 2**20


class Span(NamedTuple):
    """When a stage was at work, in seconds since 1970."""

    start_s: float
    end_s: float
    name: str


def tell_share(workspace: Path, wall_s: float | None) -> None:
    spans = first_run(sorted(spans_of(workspace)))
    gaps = list(gaps_between(spans))
    whole_s = max(span.end_s for span in spans) - spans[0].start_s
    idle_s = sum(gap.end_s - gap.start_s for gap in gaps)
    print(f"{len(spans)} stages, {sum(span.end_s - span.start_s for span in spans):.0f} s of their own, added up")
    print(f"first start to last end {whole_s:.0f} s; no stage at work {idle_s:.1f} s, {idle_s / whole_s:.1%}")
    for gap in sorted(gaps, key=lambda gap: gap.start_s - gap.end_s)[:SHOWN_GAPS]:
        print(f"  {gap.end_s - gap.start_s:5.1f} s {gap.name}")
    if wall_s:
        print(f"before the first and after the last stage: {wall_s - whole_s:.0f} s of {wall_s:.0f}")


def spans_of(workspace: Path) -> Iterator[Span]:
    for path in workspace.glob("artifacts/*/[!.]*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        end_s = datetime.fromisoformat(record["finished"]).timestamp()
        yield Span(end_s - record["seconds"], end_s, record["describe"])


def first_run(spans: list[Span]) -> list[Span]:
    """The stages of the first run, in order; what was added long after is another's."""
    end_s = spans[0].end_s
    for place, span in enumerate(spans):
        if span.start_s - end_s > PAUSE_S:
            return spans[:place]
        end_s = max(end_s, span.end_s)
    return spans


def gaps_between(spans: list[Span]) -> Iterator[Span]:
    reached = spans[0]
    for span in spans[1:]:
        if span.start_s > reached.end_s:
            yield Span(reached.end_s, span.start_s, f"between {reached.name} and {span.name}")
        reached = max(reached, span, key=lambda each: each.end_s)


if __name__ == "__main__":
    main()
