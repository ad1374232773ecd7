"""How and where a run happens, never what: nothing here enters a key."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RECORDED_PACKAGES = ("torch", "numpy", "scipy", "soxr", "soundfile", "scikit-learn", "polars", "laion-clap")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Devices, workers, places and cadences. Two runtimes give the same result for the same step.

    There are `workers`, or where work waits up to `most_workers` of them, if that is not 0.
    `shard_root` is where windows and latents go instead of the workspace: a folder, or a URL such as s3://bucket/prefix.
    `local_files` maps the sha256 of what the user brought along (a laion-clap checkpoint, codec weights) to its path.
    """

    workspace: str
    shard_root: str | None = None
    device: str = "cpu"
    workers: int = 2
    most_workers: int = 0
    torch_threads: int = 2
    dask_scheduler: str | None = None
    mlflow_uri: str | None = None
    experiment: str = "stemwright"
    log_every: int = 50
    save_every: int = 200
    preview_every: int | None = None
    generation_batch: int = 32
    compiled: bool = False
    progress: bool = True
    local_files: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return Path(self.workspace)

    @property
    def tracking_uri(self) -> str:
        """Where MLflow writes: the given server, or the SQLite file of the workspace."""
        return self.mlflow_uri or f"sqlite:///{(self.root / 'mlflow.db').resolve()}"

    @property
    def mlflow_artifacts(self) -> str:
        """Where MLflow keeps pictures and audio: beside its SQLite file, or where its server says."""
        return (self.root / "mlflow-artifacts").resolve().as_uri() if self.mlflow_uri is None else ""

    def shared_by(self, parts: int) -> Runtime:
        """This runtime's workers and threads for each of that many processes at once, which draw no progress."""
        workers, threads = max(1, self.workers // parts), max(1, self.torch_threads // parts)
        most_workers = self.most_workers // parts if self.most_workers // parts > workers else 0
        return replace(self, workers=workers, most_workers=most_workers, torch_threads=threads, progress=False)

    def record(self) -> dict[str, str | int | None]:
        """What a record keeps of where it was made; no path or host name."""
        return {
            "device": self.device,
            "workers": self.workers,
            "torch_threads": self.torch_threads,
            "dask": "address" if self.dask_scheduler else "local",
            "python": platform.python_version(),
            "machine": platform.machine(),
        }


def default_workers() -> int:
    """Cores this process may use, at most eight for a local cluster."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return min(cores, 8)


@cache
def code_version() -> dict[str, str | bool]:
    """The git commit of the code and whether the tree has uncommitted changes; empty outside a checkout."""
    here = Path(__file__).resolve().parent.parent
    run = ["git", "-C", str(here)]
    commit = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode:
        return {"commit": "unknown", "dirty": True}
    status = subprocess.run([*run, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


@cache
def package_versions() -> dict[str, str]:
    """The versions of the packages that can change a number."""
    found: dict[str, str] = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def use_threads(runtime: Runtime) -> None:
    """Give torch the threads of this runtime; called by the process that computes, never at import."""
    if "torch" not in sys.modules and runtime.torch_threads == 0:
        return
    import torch

    torch.set_num_threads(max(1, runtime.torch_threads))
