"""A real Chromium without a window, driven over its debugging pipe: for tests of pages."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

_HANG_S = 120
"""Longer than anything takes: only a browser that hangs gets there."""

_KEYS = {
    "Enter": (13, "\r"), "Tab": (9, ""), "End": (35, ""), "Home": (36, ""), "PageDown": (34, ""),
    "ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""), "ArrowDown": (40, ""),
}  # fmt: skip
"""Name of a key -> its code, and the text that it types."""


def chromium() -> str:
    """The browser's program; skips the test where there is none, but fails in CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        message = "needs Chromium (Debian package: chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


class Browser:
    """A running Chromium with a profile of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        to_browser, self._to_browser = os.pipe()
        self._from_browser, from_browser = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4. Numbers of 10 and more cannot be in the way.
        theirs = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (to_browser, from_browser)]
        command = [
            chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
            "--force-device-scale-factor=1", "--remote-debugging-pipe", f"--user-data-dir={folder}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", 'exec "$@" 3<&"$0" 4>&"$READ_FROM"', str(theirs[0]), *command],
            env={**os.environ, "READ_FROM": str(theirs[1]), "TZ": "America/Anchorage", "HOME": str(folder)},
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in (to_browser, from_browser, *theirs):
            os.close(descriptor)
        self._numbers = itertools.count(1)
        self._unread = b""
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._to_browser)
        os.close(self._from_browser)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(
        self, method: str, parameters: Mapping[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result; events on the way go to `events`."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": dict(parameters or {})}
        if session is not None:
            message["sessionId"] = session
        self._send(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._to_browser, data) :]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            readable, _, _ = select.select([self._from_browser], [], [], _HANG_S)
            if not readable:
                raise AssertionError("Chromium does not answer")
            data = os.read(self._from_browser, 1 << 20)
            if not data:
                raise AssertionError(f"Chromium ended with status {self._process.wait()}")
            self._unread += data
        line, self._unread = self._unread.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, page: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Tab:
        """The page in a new tab, ready, with a window of this size in CSS pixels."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600,
        })  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", {"features": [scheme]})
        tab.call("Page.navigate", {"url": page.absolute().as_uri()})
        tab.until("document.documentElement?.dataset.ready === 'yes'")
        return tab


class Tab:
    """A page in the browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._browser.call(method, parameters, self._session)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", asked)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until the condition holds in the page, which is asked again and again."""
        deadline = time.monotonic() + _HANG_S
        while not self.js(condition):
            if time.monotonic() > deadline:
                raise AssertionError(f"never became true: {condition}")
            self.js("new Promise((done) => setTimeout(done, 20))")

    def settled(self) -> None:
        """Wait until the page has drawn what it has to draw."""
        self.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def text(self, selector: str) -> str:
        return str(self.js(f"document.querySelector({json.dumps(selector)}).textContent"))

    def key(self, key: str) -> None:
        """Press a key, as from a keyboard, where the focus is."""
        code, text = _KEYS.get(key, (ord(key[0].upper()), key))
        pressed = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown" if text else "rawKeyDown", **pressed})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", "key": key, "windowsVirtualKeyCode": code})

    def type(self, text: str) -> None:
        self.call("Input.insertText", {"text": text})

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of the first element for the selector."""
        found = json.dumps(selector)
        x, y = self.js(
            f"(() => {{ const it = document.querySelector({found}); it.scrollIntoView({{block: 'center'}});"
            " const box = it.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        self.click_at(x, y)

    def click_at(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1})

    def wheel(self, x: float, y: float, *, delta_y: float) -> None:
        self.call("Input.dispatchMouseEvent", {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": delta_y})

    def requests(self) -> list[str]:
        """The addresses of everything the page asked for, itself included."""
        return [str(event["params"]["request"]["url"]) for event in self._events("Network.requestWillBeSent")]

    def complaints(self) -> list[str]:
        """Errors of scripts, and what the browser's console says, refusals by the content security policy included."""
        logged = [str(event["params"]["entry"]["text"]) for event in self._events("Log.entryAdded")]
        thrown = [json.dumps(event["params"]["exceptionDetails"]) for event in self._events("Runtime.exceptionThrown")]
        return logged + thrown

    def _events(self, method: str) -> list[dict[str, Any]]:
        self.js("0")  # what happened before has been reported once this is answered
        return [
            event for event in self._browser.events
            if event["method"] == method and event.get("sessionId") == self._session
        ]  # fmt: skip

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
