"""What a training loop needs of the world: where to resume, how to save, when to stop, where its figures go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from models.training import State
from tasks.checkpoints import drop_states, load_state, save_state
from tasks.interruption import asked_to_stop
from tasks.progress import Progress
from tasks.runtime import Runtime, code_version
from tasks.step import Step
from tasks.telemetry_file import TelemetryFile
from tasks.tracked_training import log_training_files
from tasks.tracking import Tracking, open_tracking
from tasks.tracking_outage import Spared, training_log, unheard
from tasks.whole_files import write_whole

Log = Callable[[int, Mapping[str, float]], None]
Heard = Callable[[State], Mapping[str, bytes]]


@contextmanager
def training_session(
    step: Step, out: Path, runtime: Runtime, *, total: int, heard: Heard | None = None
) -> Iterator[dict[str, Any]]:
    """The loop's arguments for it. States are dropped when training ends: the result is the weights and the figures.

    `heard` makes files of averaged weights: previews are kept beside the figures and in the training's MLflow run.
    """
    resume = load_state(out)
    figures = TelemetryFile(out, until=int(resume["step"]) if resume else 0)
    with (
        asked_to_stop() as stop,
        _tracked(step, runtime) as track,
        Progress(step.describe(), total=total, live=runtime.progress) as bar,
    ):

        def log(at: int, values: Mapping[str, float]) -> None:
            bar.reach(at, note=f"loss {values.get('loss', float('nan')):.4f}")
            figures.add(at, values)
            track(at, values)

        def preview(at: int, weights: State) -> None:
            assert heard is not None  # else it is not handed on
            files = {f"preview/step-{at:07d}/{name}": data for name, data in heard(weights).items()}
            for name, data in files.items():
                path = out / "log" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)
            _track_files(step, runtime, files)

        previews = {"preview": preview, "preview_every": runtime.preview_every} if heard else {}
        yield previews | {
            "resume": resume,
            "save": partial(save_state, out),
            "save_every": runtime.save_every,
            "log": log,
            "log_every": runtime.log_every,
            "stop": stop,
        }
    drop_states(out)


@contextmanager
def helping_session(runtime: Runtime) -> Iterator[dict[str, Any]]:
    """The loop's arguments for the processes that help the first one, which alone resumes, saves and tells."""
    with asked_to_stop() as stop:
        yield {"log": unheard, "log_every": runtime.log_every, "stop": stop}


def _track_files(step: Step, runtime: Runtime, files: Mapping[str, bytes]) -> None:
    Spared(runtime.tracking_uri)(lambda: log_training_files(_opened(runtime), step.key(), files))


def _tracked(step: Step, runtime: Runtime) -> AbstractContextManager[Log]:
    """The MLflow run of this training: a resumed one continues its own, and one that MLflow misses is brought later."""
    tracking = Spared(runtime.tracking_uri)(partial(_opened, runtime))
    if tracking is None:
        return nullcontext(unheard)
    code = code_version()
    return training_log(
        tracking,
        step.key(),
        name=step.describe(),
        params={"stage": step.stage, "device": runtime.device},
        tags={"git.commit": str(code["commit"]), "git.dirty": str(code["dirty"])},
    )


def _opened(runtime: Runtime) -> Tracking:
    return open_tracking(runtime.tracking_uri, runtime.mlflow_artifacts, runtime.experiment)
