"""A headless Chromium, driven over a pipe in the words of its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
# Seconds for one answer; a machine that compiles on all cores is slow to start a browser.
PATIENCE = 60.0
# The browser reads commands from file 3 and answers on file 4. Forking a process that runs JAX is
# unsafe, so another Python puts them in place.
_LAUNCH = """
import fcntl, os, sys
# First out of the way: one of them may be 3 or 4 already.
away = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, place in zip(away, (3, 4)):
    os.dup2(end, place, inheritable=True)
os.execv(sys.argv[3], sys.argv[3:])
"""


def executable() -> str | None:
    """Returns the path of a Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """The one page of a browser."""

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers = commands, answers
        self._numbers = itertools.count(1)
        self._waiting = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Returns the answer to a command."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") != number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                return answer["result"]

    def open(self, path: Path, *, width: int, height: int = 800, dark: bool = False) -> None:
        """Shows a file in a window of that many CSS pixels, and waits until it is drawn."""
        self.events.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media="", features=features)
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def wait_for(self, method: str) -> None:
        """Waits for an event."""
        while all(event.get("method") != method for event in self.events):
            self.events.append(self._next())

    def evaluate(self, script: str) -> Any:
        """Returns the value of an expression of JavaScript, which may be a promise."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True,
                           returnByValue=True)  # fmt: skip
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Returns what the browser wrote to its console, exceptions and failed requests."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => done(0)))")
        told = {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded",
                "Network.loadingFailed"}  # fmt: skip
        return [json.dumps(event)[:500] for event in self.events if event.get("method") in told]

    def requests(self) -> list[str]:
        """Returns the addresses that were asked for, but for what the page itself holds."""
        sent = (e["params"]["request"]["url"] for e in self.events
                if e.get("method") == "Network.requestWillBeSent")  # fmt: skip
        return [url for url in sent if not url.startswith("data:")]

    def picture(self, whole: bool = False) -> bytes:
        """Returns a PNG of what is seen, or of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def printed(self) -> bytes:
        """Returns the page as a PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._waiting:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise TimeoutError(f"The browser did not answer within {PATIENCE:g} s.")
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise RuntimeError("The browser has gone.")
            self._waiting += data
        message, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def running(profile: Path) -> Iterator[Page]:
    """Yields the page of a browser with a fresh profile, which ends with the context."""
    command = executable()
    assert command is not None
    their_end, commands = os.pipe()
    answers, their_other_end = os.pipe()
    ends = their_end, their_other_end
    launch = [sys.executable, "-c", _LAUNCH, *map(str, ends), command, *FLAGS]
    process = subprocess.Popen(
        [*launch, f"--user-data-dir={profile}"],
        pass_fds=ends,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for end in ends:
            os.close(end)
        yield Page(commands, answers)
    finally:
        os.close(commands)  # on which the browser ends
        os.close(answers)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
