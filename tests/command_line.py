"""The command line as tests run it: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY = ("--scale", "tiny")


def stemwright(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What it printed, and its exit code, which is not checked."""
    command = [sys.executable, "-m", "flows", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900, check=False)
