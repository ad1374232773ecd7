"""Ctrl-C: the run ends within five seconds, says nothing false, and the next one goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.__main__ import app

ARGUMENTS = ("run", "--only", "corpus", "--with-inputs", "--scale", "tiny", "--workers", "1", "--workspace")
PATIENCE_S = 5.0


@pytest.mark.timeout(200)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "terminated"])
def test_a_run_that_is_asked_to_end_does_so_soon_and_the_next_one_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    import flows.result_commands
    import flows.single_stage  # noqa: F401  # before the fork

    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os._exit(CliRunner().invoke(app, [*ARGUMENTS, str(tmp_path)]).exit_code)
    while not list(tmp_path.glob("artifacts/corpus/.building-*/song_*/song.json")):
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        time.sleep(0.01)
    started = time.monotonic()
    os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    assert time.monotonic() - started < PATIENCE_S
    assert status != 0
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("artifacts/corpus/.building-*/*/song.json")}
    assert written and not list(tmp_path.glob("artifacts/*/[!.]*"))
    if number == signal.SIGINT:
        assert CliRunner().invoke(app, [*ARGUMENTS, str(tmp_path)]).exit_code == 0
        (home,) = tmp_path.glob("artifacts/corpus/[!.]*")
        for path, time_ns in written.items():
            assert (home / path.parent.name / path.name).stat().st_mtime_ns == time_ns  # none is made twice
