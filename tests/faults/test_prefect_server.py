"""Prefect's server killed in the middle of a run: the work goes on, and the run ends with one line and its remedy.

Ctrl-C in a terminal goes to all processes of the run, and its server outlives it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from flows.prefect_run import until_server_is_lost
from tasks.servers import PREFECT, Servers, start, stop

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
RATE_HZ = 48_000
PREPARE = """
import sys
from pathlib import Path
from flows.__main__ import _prefect_environment
corpus, workspace = sys.argv[1:]
_prefect_environment(Path(workspace))
from flows.pipeline import prepare
from flows.prefect_run import until_server_is_lost
from flows.request import StudyRequest
request = StudyRequest(scale="tiny", corpus=(corpus,), workspace=workspace, workers=1)
until_server_is_lost(lambda: prepare(request))
"""


def server_of(pid: int) -> int:
    """The process of Prefect's own server among the children of a run."""
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):  # git, say, which ends while we look
            if "prefect.server" in " ".join(child.cmdline()):
                return child.pid
    raise AssertionError("the run has no server of its own")


@pytest.fixture(params=["its own", "another's"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Servers | None]:
    """A server that PREFECT_API_URL names; None: the run starts its own."""
    if request.param == "its own":
        yield None
        return
    yield start(tmp_path / "elsewhere", (PREFECT,)).servers
    stop(tmp_path / "elsewhere")


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """What prepares a corpus of noise in the workspace that is named next."""
    rng = np.random.default_rng(0)
    for song in range(12):
        (tmp_path / "corpus" / f"song {song}").mkdir(parents=True)
        for stem in ("bass", "drums"):
            noise_N = 0.1 * rng.standard_normal(3 * RATE_HZ)
            soundfile.write(tmp_path / "corpus" / f"song {song}" / f"{stem}.wav", noise_N, RATE_HZ)
    return [sys.executable, "-c", PREPARE, str(tmp_path / "corpus")]


@contextmanager
def in_the_middle(command: list[str], workspace: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The run once it has its first result."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with subprocess.Popen(
        [*command, str(workspace)],
        cwd=ROOT,
        env=alone | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        while not list(workspace.glob("artifacts/catalogue/[!.]*")):
            assert run.poll() is None, run.stderr.read() if run.stderr else ""
            time.sleep(0.02)
        yield run


@pytest.mark.timeout(400)
def test_a_run_whose_server_is_killed_ends_with_one_line_and_keeps_what_it_made(
    elsewhere: Servers | None, command: list[str], tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    told_where = {"PREFECT_API_URL": elsewhere.prefect_api} if elsewhere else {}
    with in_the_middle(command, workspace, **told_where) as run:
        os.kill(elsewhere.pids[PREFECT] if elsewhere else server_of(run.pid), signal.SIGKILL)
        told = run.communicate(timeout=100)[1]
    assert run.returncode == 2, told
    assert told.splitlines()[-1].startswith("error: Prefect's server is gone") and "Traceback" not in told
    stages = {json.loads(path.read_text())["stage"] for path in workspace.glob("artifacts/*/[!.]*/record.json")}
    assert stages >= {"catalogue", "plan"}


@pytest.mark.timeout(400)
def test_ctrl_c_ends_a_run_and_not_the_server_that_it_tells_so(command: list[str], tmp_path: Path) -> None:
    with in_the_middle(command, tmp_path / "workspace") as run:
        server = psutil.Process(server_of(run.pid))
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        told = run.communicate(timeout=100)[1]
    assert run.returncode == -signal.SIGINT and "server is gone" not in told
    server.wait(timeout=30)  # with the run it ends too


def test_an_interrupt_that_a_library_swallows_ends_the_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")

    def flow() -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RuntimeError("a worker died of it")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as ended:
        until_server_is_lost(flow)
    assert isinstance(ended.value.__cause__, RuntimeError) and signal.getsignal(signal.SIGINT) is before
