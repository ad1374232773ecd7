"""Ctrl-C: the run ends within five seconds, says nothing false, and the next one goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.__main__ import app

ROOT = Path(__file__).resolve().parent.parent.parent
ARGUMENTS = ("run", "--only", "corpus", "--with-inputs", "--scale", "tiny", "--workers", "1", "--workspace")
PATIENCE_S = 5.0


def interrupted(number: signal.Signals, workspace: Path) -> float:
    """The seconds that a run took to end, once it was asked to in the middle of a stage."""
    command = [sys.executable, "-m", "flows", *ARGUMENTS, str(workspace)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while not list(workspace.glob("artifacts/corpus/.building-*/song_*/song.json")):
            assert run.poll() is None
            time.sleep(0.01)
        started = time.monotonic()
        run.send_signal(number)
        assert run.wait() != 0
    return time.monotonic() - started


@pytest.mark.timeout(200)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_a_run_that_is_asked_to_end_does_so_soon_and_the_next_one_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    # It takes 0.2 s of work. A second attempt, made where the first is late, tells a busy machine from a slow end.
    attempts = (tmp_path / "first", tmp_path / "second")
    workspace = next((place for place in attempts if interrupted(number, place) < PATIENCE_S), None)
    assert workspace, f"both took longer than {PATIENCE_S} s"
    written = {path: path.stat().st_mtime_ns for path in workspace.glob("artifacts/corpus/.building-*/*/song.json")}
    assert written and not list(workspace.glob("artifacts/*/[!.]*"))
    if number == signal.SIGINT:
        assert CliRunner().invoke(app, [*ARGUMENTS, str(workspace)]).exit_code == 0
        (home,) = workspace.glob("artifacts/corpus/[!.]*")
        for path, time_ns in written.items():
            assert (home / path.parent.name / path.name).stat().st_mtime_ns == time_ns  # none is made twice
