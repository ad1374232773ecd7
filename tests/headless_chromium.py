"""A headless Chromium spoken to over its own protocol, for pages that must be seen to work."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 30.0


def chromium() -> str | None:
    """The path of a Chromium, or None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """One page of the browser."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._sent = socket, 0
        self._session: str | None = None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command of the protocol."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session and not method.startswith("Browser."):
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            told = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if told.get("id") == self._sent:
                assert "error" not in told, told
                return told["result"]

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def key(self, key: str) -> None:
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key)

    def wait(self, script: str) -> None:
        """Return when the expression is true."""
        until = time.monotonic() + PATIENCE_S
        while not self.run(script):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.05)

    def look(self, *, width: int, height: int, dark: bool) -> None:
        """Show the page at a size, in a light or a dark scheme."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browsing(home: Path) -> Iterator[Page]:
    """A page of a Chromium that keeps its profile in `home/profile` and saves into `home/downloads`."""
    from websockets.sync.client import connect

    program = chromium()
    assert program is not None, "no Chromium is installed"
    profile, downloads = home / "profile", home / "downloads"
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--remote-debugging-port=0"]
    running = subprocess.Popen(
        [program, *flags, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_address(profile / "DevToolsActivePort"), max_size=None) as socket:
            page = Page(socket)
            page.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
            yield page
    finally:
        running.terminate()
        running.wait(timeout=PATIENCE_S)


def _address(told: Path) -> str:
    until = time.monotonic() + PATIENCE_S
    while not (told.exists() and len(lines := told.read_text(encoding="utf-8").split()) == 2):
        assert time.monotonic() < until, "Chromium did not start"
        time.sleep(0.05)
    return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
