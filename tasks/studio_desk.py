"""One playing at a time: what was asked for waits its turn, is played by the model, and goes into the history."""

from __future__ import annotations

import errno
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from models.accompanist import Accompanist
from tasks.play import play_along
from tasks.play_ask import Ask
from tasks.studio_history import History, new_number
from tasks.studio_wanted import Wanted

MOST_WAITING = 8
FULL_DISK = "the disk is full, and nothing was kept; make room on it and try again"

_log = logging.getLogger(__name__)


class Busy(RuntimeError):
    """Too many wait already."""


@dataclass
class Job:
    """A playing that is not in the history yet. `message` is why it failed, in a musician's words."""

    number: str
    wanted: Wanted
    ask: Ask
    state: str = "waiting"  # waiting, playing, failed
    stage: str = ""
    share: float = 0.0
    message: str = ""
    stopped: bool = False

    def told(self) -> dict[str, Any]:
        """What the page shows of it."""
        shown = {name: getattr(self, name) for name in ("number", "state", "stage", "share", "message")}
        return shown | {"asked": self.wanted.model_dump()}


class Desk:
    """Plays what is asked for, one after the other; closing the page changes nothing here."""

    def __init__(self, player: Accompanist, history: History) -> None:
        self._player, self._history = player, history
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._hands = ThreadPoolExecutor(max_workers=1, thread_name_prefix="studio")

    def submit(self, wanted: Wanted) -> str:
        """The number under which it will be in the history. Raises Busy, or LookupError for a file that is gone."""
        job = Job(new_number(), wanted, wanted.ask(self._history.sound_file))
        with self._lock:
            if sum(job.state == "waiting" for job in self._jobs.values()) >= MOST_WAITING:
                raise Busy(f"{MOST_WAITING} playings wait already; let one finish, or stop one")
            self._jobs[job.number] = job
        self._hands.submit(self._work, job)
        return job.number

    def jobs(self) -> list[dict[str, Any]]:
        """What plays, waits or failed, the last asked first."""
        with self._lock:
            return [job.told() for job in reversed(self._jobs.values())]

    def drop(self, number: str) -> bool:
        """Stop a playing, or forget that it failed; whether there was one."""
        with self._lock:
            job = self._jobs.pop(number, None)
        if job:
            job.stopped = True
        return job is not None

    def close(self) -> None:
        """Stop everything; what is at work ends with its next step and leaves nothing."""
        for job in self.jobs():
            self.drop(job["number"])
        self._hands.shutdown(cancel_futures=True)

    def _work(self, job: Job) -> None:
        try:
            self._play(job)
        except _Stopped:
            return
        except ValueError as error:
            self._failed(job, self._in_words(str(error), job.wanted))
        except OSError as error:
            self._failed(job, FULL_DISK if error.errno == errno.ENOSPC else str(error))
        except Exception as error:  # memory, mostly; the page would else wait for ever
            _log.exception("the playing %s failed", job.number)
            self._failed(job, f"the model stopped: {error}; try a shorter context or fewer variations")

    def _play(self, job: Job) -> None:
        def told(stage: str, share: float) -> None:
            if job.stopped:
                raise _Stopped
            job.state, job.stage, job.share = "playing", stage, share

        told("listening", 0.0)
        with self._history.making() as scratch:
            play_along(self._player, job.ask, scratch / "made", told)
            self._history.keep_playing(job.number, scratch / "made", job.wanted.model_dump(), job.wanted.sounds)
        with self._lock:
            self._jobs.pop(job.number, None)

    def _in_words(self, message: str, wanted: Wanted) -> str:
        """The message without the folders of this machine."""
        for path in map(self._history.sound_file, wanted.sounds):
            message = message.replace(str(path), path.name)
        return message

    @staticmethod
    def _failed(job: Job, message: str) -> None:
        job.state, job.message = "failed", message


class _Stopped(Exception):
    """The musician did not want it any more."""
