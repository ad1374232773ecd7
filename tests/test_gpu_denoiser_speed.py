"""The measurements that wait for a GPU, rehearsed on a CPU: every one is had, or says why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "gpu_denoiser_speed.py"


def test_a_rehearsal_measures_all_but_what_needs_a_cuda_device(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--size", "tiny", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert {name.split(",")[0] for name in report["training"]} == {"DiT", "C-DiT", "U-Net"}
    assert (len(report["training"]), len(report["one_candidate"])) == (6, 12)
    for name, figures in (report["training"] | report["one_candidate"]).items():
        if not name.endswith("eager"):
            assert figures["skipped"].endswith("is a question for a CUDA device, this is a cpu")
        elif name in report["training"]:
            assert 0 < figures["mfu_of_measured_peak"] < 1 and figures["step_ms"] > 0
        else:
            assert 0 < figures["p50_ms"] <= figures["p95_ms"]
