"""Dask over a network: scheduler, workers and run on hosts of their own share a folder and nothing else.

The hosts are network namespaces of the kernel, joined by a bridge, where it lets us make them; and processes that meet
at addresses of their own, as everywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from flows.request import StudyRequest
from flows.single_stage import run_lines

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
PORT, STAGE, RATE_HZ = 18786, "embed", 48_000
WAIT = """
import sys
from distributed import Client
with Client(sys.argv[1]) as client:
    client.wait_for_workers(int(sys.argv[2]))
"""
PIECES = """
import sys
from distributed import Client
with Client(sys.argv[1]) as client:
    print(*client.run(lambda dask_worker: dask_worker.state.transition_counter).values())
"""
"""Prints how often each worker's pieces went from one state to the next: 0 for one that was given none."""
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Host(NamedTuple):
    """Where processes run: their address, and what stands before their command."""

    address: str
    enter: tuple[str, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        return [*self.enter, sys.executable, *arguments]

    def answer(self, *arguments: str) -> str:
        """What Python prints there; it must succeed."""
        done = subprocess.run(self.command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(params=["namespaces", "addresses"])
def hosts(request: pytest.FixtureRequest) -> Iterator[list[Host]]:
    """Four hosts: for the scheduler, two workers and the run."""
    if request.param == "addresses":
        yield [Host(f"127.0.0.{number}") for number in (2, 3, 4, 5)]
        return
    names = [f"stemwright-{os.getpid()}-{number}" for number in range(4)]
    with ExitStack() as ends:
        try:
            for name in names:
                ip("netns", "add", name)
                ends.callback(ip, "netns", "delete", name)
            join(names)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', '') or error}")
        yield [Host(f"10.77.0.{number + 1}", ("ip", "netns", "exec", name)) for number, name in enumerate(names)]


def join(names: list[str]) -> None:
    """A bridge in the first namespace, and a cable from it to each of the others."""
    hub, *others = names
    ip("-n", hub, "link", "add", "bridge", "type", "bridge")
    ip("-n", hub, "addr", "add", "10.77.0.1/24", "dev", "bridge")
    ip("-n", hub, "link", "set", "bridge", "up")
    for number, name in enumerate(others, start=2):
        ip("-n", hub, "link", "add", f"to{number}", "type", "veth", "peer", "name", "cable", "netns", name)
        ip("-n", hub, "link", "set", f"to{number}", "master", "bridge", "up")
        ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
        ip("-n", name, "link", "set", "cable", "up")
    for name in names:
        ip("-n", name, "link", "set", "lo", "up")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve songs of two noises each, 3 s long."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    for song in range(12):
        (folder / f"song {song}").mkdir()
        for stem in ("bass", "drums"):
            noise_N = 0.1 * rng.standard_normal(3 * RATE_HZ)
            soundfile.write(folder / f"song {song}" / f"{stem}.wav", noise_N, RATE_HZ)
    return folder


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a run without any cluster makes."""
    workspace = tmp_path_factory.mktemp("alone")
    asked = StudyRequest(scale="tiny", corpus=(str(corpus),), workspace=str(workspace), workers=1)
    list(run_lines(asked, STAGE, with_inputs=True))
    return digests(workspace)


def digests(workspace: Path) -> dict[str, str]:
    told = (json.loads(path.read_text()) for path in workspace.glob("artifacts/*/[!.]*/record.json"))
    return {f"{record['stage']}/{record['key']}": record["digest"] for record in told}


@pytest.mark.timeout(300)
def test_hosts_that_share_a_folder_alone_make_the_same_bytes(
    hosts: list[Host], corpus: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    scheduler, *workers, client = hosts
    address = f"tcp://{scheduler.address}:{PORT}"
    workspace = tmp_path / "shared"
    with ExitStack() as running:

        def start(command: list[str]) -> None:
            process = running.enter_context(subprocess.Popen(command, cwd=ROOT, **SILENT))
            running.callback(process.terminate)

        start(scheduler.command("-m", "dask", "scheduler", "--host", scheduler.address, "--port", str(PORT)))
        for worker in workers:
            limits = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path))
            start(worker.command("-m", "dask", "worker", address, "--host", worker.address, *limits))
        client.answer("-c", WAIT, address, str(len(workers)))  # else the first takes all, while the second starts
        run = ("-m", "flows", "run", "--only", STAGE, "--with-inputs", "--scale", "tiny", "--corpus", str(corpus))
        client.answer(*run, "--workspace", str(workspace), "--dask-scheduler", address)
        pieces = client.answer("-c", PIECES, address).split()
        assert len(pieces) == len(workers) and "0" not in pieces
    assert {name.partition("/")[0] for name in expected} >= {"catalogue", "windows", "embed"}
    assert digests(workspace) == expected
