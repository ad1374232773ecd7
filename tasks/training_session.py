"""What a training loop needs of the world: where to resume, how to save, and where its figures go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from models.weights import load_weights, save_weights
from tasks.progress import Progress
from tasks.runtime import Runtime, code_version
from tasks.step import Step
from tasks.tracking import open_tracking, training_log

STATE, CURVE = "state.safetensors", "curve.json"
Log = Callable[[int, Mapping[str, float]], None]


@contextmanager
def training_session(step: Step, out: Path, runtime: Runtime, *, total: int) -> Iterator[dict[str, Any]]:
    """The loop's arguments for it. The state is dropped when training ends: the result is the weights and the curve."""
    state_path = out / STATE
    resume = load_weights(state_path)[0] if state_path.exists() else None
    curve = _Curve(out / CURVE, until=int(resume["step"]) if resume else 0)
    with (
        _tracked(step, runtime) as track,
        Progress(step.describe(), total=total, live=runtime.progress) as bar,
    ):

        def log(at: int, values: Mapping[str, float]) -> None:
            bar.reach(at, note=f"loss {values.get('loss', float('nan')):.4f}")
            curve.add(at, values)
            track(at, values)

        def save(state: dict[str, Tensor]) -> None:
            save_weights(state_path, state, {})
            curve.write()

        yield {
            "resume": resume,
            "save": save,
            "save_every": runtime.save_every,
            "log": log,
            "log_every": runtime.log_every,
        }
    curve.write()
    state_path.unlink(missing_ok=True)


def _tracked(step: Step, runtime: Runtime) -> AbstractContextManager[Log]:
    """The MLflow run of this training: a resumed one continues its own."""
    tracking = open_tracking(runtime.tracking_uri, runtime.mlflow_artifacts, runtime.experiment)
    code = code_version()
    return training_log(
        tracking,
        step.key(),
        name=step.describe(),
        params={"stage": step.stage, "device": runtime.device},
        tags={"git.commit": str(code["commit"]), "git.dirty": str(code["dirty"])},
    )


class _Curve:
    """The figures of a run by step; on resuming, those after the saved state are made again."""

    def __init__(self, path: Path, *, until: int) -> None:
        self._path = path
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        self._points: list[tuple[int, dict[str, float]]] = [(at, values) for at, values in known if at <= until]

    def add(self, at: int, values: Mapping[str, float]) -> None:
        self._points.append((at, {name: value for name, value in values.items() if not name.startswith("rate/")}))

    def write(self) -> None:
        self._path.write_text(json.dumps(self._points), encoding="utf-8")
