"""Chromium without a window, spoken to through two pipes (Chrome DevTools protocol); nothing but Python is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "there is no chromium; scripts/install_chromium gets it"
PATIENCE_S = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)
LAUNCH = """
import fcntl, os, sys
down, up = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3])
os.dup2(down, 3)  # chromium reads here
os.dup2(up, 4)  # and writes there
os.execv(sys.argv[3], sys.argv[3:])
"""
READY = """new Promise((done) => {
  const over = () => document.body.dataset.ready || document.documentElement.dataset.errors;
  const look = () => (over() ? done() : setTimeout(look, 5));
  look();
})"""
COMPLAINTS = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled", "Network.requestWillBeSent")


class Browser:
    """One browser with one page at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.complaints: list[str] = []
        self._rest = b""
        self._count = 0
        down_read, self._down = os.pipe()
        self._up, up_write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(down_read), str(up_write), str(CHROMIUM), *FLAGS,
             f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=(down_read, up_write), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(down_read)
        os.close(up_write)
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._page = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(1400, 1000)

    def close(self) -> None:
        """Stop the browser."""
        self._send("Browser.close")
        self._process.wait(PATIENCE_S)
        os.close(self._down)
        os.close(self._up)

    def open(self, text: str) -> None:
        """Show a page from a file, wait for its scripts, and take note of all that it complains of or asks for."""
        file = self.folder / "page #1.html"
        file.write_text(text, encoding="utf-8")
        self.complaints.clear()
        self.call("Page.navigate", url=file.as_uri())
        self._until(lambda message: message.get("method") == "Page.loadEventFired")
        self.run(READY)

    def run(self, script: str) -> Any:
        """Value of an expression, awaited if it is a promise; exceptions fail."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        """Size of the window in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme: str, media: str = "screen") -> None:
        """Light or dark, on screen or in print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """One event of a real mouse: mouseMoved, mousePressed, mouseReleased or mouseWheel."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        """A left click at a place of the window."""
        for kind, buttons in (("mousePressed", 1), ("mouseReleased", 0)):
            self.mouse(kind, x, y, button="left", buttons=buttons, clickCount=1)

    def key(self, key: str) -> None:
        """One key pressed and released."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """PNG of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Result of a method of the protocol, called on the page."""
        return self._send(method, self._page, **params)

    def _send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._count += 1
        number = self._count
        message = {"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self._down, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == number)
        assert "error" not in answer, answer
        return answer["result"]

    def _until(self, wanted: Any) -> dict[str, Any]:
        """The first message that is wanted; complaints among the others are kept."""
        while True:
            message = self._receive()
            if message.get("method") in COMPLAINTS and not self._harmless(message):
                self.complaints.append(json.dumps(message["params"])[:500])
            if wanted(message):
                return message

    def _harmless(self, message: dict[str, Any]) -> bool:
        """The page itself, and pictures inside it, may be asked for."""
        url = message["params"].get("request", {}).get("url", "")
        return url.startswith(("data:", (self.folder / "page #1.html").as_uri()))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._up], [], [], PATIENCE_S)[0], f"chromium was silent for {PATIENCE_S} s"
            part = os.read(self._up, 2**20)
            assert part, "chromium ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)
