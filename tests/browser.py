"""Chromium without a window, told what to do over its debugging pipe."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

# Chromium reads commands from file 3 and writes answers to file 4.
_LAUNCH = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a browser."""

    def __init__(self, commands: Any, answers: Any) -> None:
        self._commands, self._answers = commands, answers
        self._number = 0
        self._session: str | None = None
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        attached = self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.tell("Page.enable")

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command of the DevTools protocol; return its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self) -> bytes:
        found = bytearray()
        while not found.endswith(b"\0"):
            waiting = self._answers.peek()  # what is there: a picture has millions of bytes
            assert waiting, "the browser has ended"
            found += self._answers.read(waiting.find(b"\0") + 1 or len(waiting))
        return bytes(found[:-1])

    def size(self, width: int, height: int, dark: bool = False) -> None:
        """Set the size of the page, and whether the user likes it dark."""
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.tell(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 30) -> Any:
        """Wait until a JavaScript expression is true; return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}; {self.run('document.body.innerText')}")

    def go(self, address: str) -> None:
        """Open an address."""
        self.tell("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.protocol === 'http:'")

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Press, move or release the left button at a place of the window."""
        self.tell(
            "Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left", buttons=1,
            clickCount=1,
        )  # fmt: skip

    def key(self, key: str, code: int, modifiers: int = 0) -> None:
        """Press a key and let it go."""
        text = {"text": "\r"} if key == "Enter" else {}  # else it neither submits nor follows
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.tell(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=code, modifiers=modifiers, **text,
            )  # fmt: skip

    def type(self, text: str) -> None:
        """Write into the field that has the focus."""
        self.tell("Input.insertText", text=text)

    def upload(self, selector: str, file: Path) -> None:
        """Choose a file, as in the file dialogue."""
        root = self.tell("DOM.getDocument")["root"]["nodeId"]
        node = self.tell("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.tell("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def screenshot(self, path: Path) -> None:
        """Write what the window shows."""
        picture = self.tell("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(picture))


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """Start Chromium with its profile in a folder, and end it."""
    assert PROGRAM
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--hide-scrollbars", "--disable-dev-shm-usage", "--no-proxy-server"),
        *("--remote-debugging-pipe", f"--user-data-dir={folder}"),
    ]
    launch = [sys.executable, "-c", _LAUNCH, str(theirs_in), str(theirs_out), PROGRAM, *options]
    process = subprocess.Popen(
        launch,
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        with os.fdopen(ours_out, "wb") as commands, os.fdopen(ours_in, "rb") as answers:
            yield Browser(commands, answers)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
