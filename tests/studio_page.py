"""A studio with a tiny model behind its page in a headless Chromium, and what a hand does there."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import torch
import uvicorn
from headless_chromium import Page, browsing
from tiny_arms import train_arm

from models.accompanist import Accompanist
from tasks.export_model import export_model
from tasks.studio import HOST, studio
from tasks.studio_history import History

RATE_HZ = 48_000
SECONDS = 2.0
PICTURES = os.environ.get("STEMWRIGHT_PICTURES")  # a folder, where somebody wants to look at the page


@contextmanager
def serving(place: Path) -> Iterator[str]:
    """Where a studio with a tiny model is served."""
    torch.set_num_threads(1)
    export_model(train_arm("+DiT", place / "workspace"), place / "model", scores=None)
    app = studio(Accompanist.load(place / "model"), History(place / "history"))
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=0, log_level="warning"))
    running = threading.Thread(target=server.run)
    running.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://{HOST}:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    running.join()


@contextmanager
def visiting(address: str, home: Path) -> Iterator[Page]:
    """The page in a browser on a laptop."""
    with browsing(home) as page:
        page.look(width=1280, height=900, dark=False)
        page.open(address)
        page.wait("model !== null")
        yield page


def tone(seconds: float = SECONDS, hertz: float = 220.0) -> bytes:
    """A WAV of one tone."""
    file = BytesIO()
    time_N = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * hertz * time_N), RATE_HZ, format="WAV")
    return file.getvalue()


def drop(page: Page, part: str, data: bytes, name: str) -> None:
    """As a hand would: a drop event with a file in it."""
    coded = base64.b64encode(data).decode()
    page.run(
        "{ const given = new DataTransfer(); "
        f"given.items.add(new File([Uint8Array.from(atob('{coded}'), (one) => one.charCodeAt(0))], {name!r})); "
        f"byId('{part}').dispatchEvent(new DragEvent('drop', {{ dataTransfer: given, cancelable: true }})); }}"
    )


def press(page: Page, label: str, match: str = "=") -> None:
    """Click on what bears a label."""
    page.run(f"document.querySelector('[aria-label{match}\"{label}\"]').click()")


def played(page: Page, variations: int, prompt: str = "warm <b>bass</b>, slow", button: str = "go") -> None:
    """Ask for variations and wait until they can be heard."""
    page.run(f"byId('variations').value = {variations}; byId('steps').value = 1; byId('prompt').value = {prompt!r}")
    page.run(f"window.before = opened; byId('{button}').click()")
    page.wait("opened !== null && opened !== before && mixer !== null && !mixer.button.disabled")


def picture(page: Page, name: str, width: int, dark: bool) -> None:
    """The whole page as somebody sees it."""
    if PICTURES:
        page.look(width=width, height=900, dark=dark)
        time.sleep(0.4)
        height = page.run("document.documentElement.scrollHeight")
        page.look(width=width, height=height, dark=dark)
        time.sleep(0.4)
        (Path(PICTURES) / f"{name}.png").write_bytes(page.picture())
