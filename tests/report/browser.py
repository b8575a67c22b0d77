"""A headless Chromium without network, driven over a pipe by the DevTools protocol."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (Debian's package: chromium)"
)

_SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    # No name is resolved.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)

_ALONE = ("--proxy-server=127.0.0.1:1", "--proxy-bypass-list=<-loopback>")
"""What is addressed by number meets a proxy that is not there."""

_PATIENCE_S = 60

# The protocol wants the pipes' ends to be 3 and 4, whatever their numbers are here.
_LAUNCHER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for place, end in zip((3, 4), ends):
    os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page at a time; what it asks for, and complains about, is noted."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._last, self._left, self._session = 0, b"", ""
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Load a page, and wait until it is loaded."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.show_as("screen", dark=dark)
        self._events.clear()
        self._call("Page.navigate", url=url)
        self._wait_for("Page.loadEventFired")
        self.value("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def show_as(self, media: str, *, dark: bool = False) -> None:
        """Show the page as on screen or as printed, in light or in dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def value(self, expression: str) -> Any:
        """Return what an expression of JavaScript is, evaluated from outside the page."""
        given = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        found = self._call("Runtime.evaluate", **given)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, element: str) -> None:
        """Click in the middle of an element, which an expression of JavaScript finds, as a person
        does: once it is there, and with the mouse."""
        self.until(f"!!({element})")
        place = self.value(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2]; }})({element})"
        )
        self.click_at(*place)

    def click_at(self, x: float, y: float) -> None:
        """Click at a place of the window."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            given = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            self._call("Input.dispatchMouseEvent", **given)

    def write(self, text: str) -> None:
        """Write text where the caret is."""
        self._call("Input.insertText", text=text)

    def until(self, expression: str, *, patience_s: float = _PATIENCE_S) -> None:
        """Wait until an expression of JavaScript is true."""
        ends = time.monotonic() + patience_s
        while not self.value(expression):
            assert time.monotonic() < ends, f"never true: {expression}"

    @property
    def requests(self) -> list[str]:
        """What the page asked for, itself and its inline pictures left out."""
        asked = [e["request"]["url"] for e in self._of("Network.requestWillBeSent")]
        return [url for url in asked[1:] if not url.startswith("data:")]

    @property
    def complaints(self) -> list[str]:
        """What failed to load, and what stands in the console."""
        failed = [e["errorText"] for e in self._of("Network.loadingFailed")]
        logged = [e["entry"]["text"] for e in self._of("Log.entryAdded")]
        thrown = [e["exceptionDetails"]["text"] for e in self._of("Runtime.exceptionThrown")]
        called = [str(e["args"]) for e in self._of("Runtime.consoleAPICalled")]
        return [*failed, *logged, *thrown, *called]

    @property
    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than its window."""
        return bool(self.value("document.documentElement.scrollWidth > innerWidth"))

    def picture(self) -> str:
        """Return what the window shows, as a PNG in base64."""
        return str(self._call("Page.captureScreenshot", format="png")["data"])

    def _of(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self._events if event.get("method") == method]

    def _wait_for(self, method: str) -> None:
        while not self._of(method):
            self._events.append(self._read())

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._last += 1
        called = self._last
        message = {"id": called, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == called:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def _read(self) -> dict[str, Any]:
        """Return the browser's next message."""
        ends = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._reading], [], [], max(0, ends - time.monotonic()))
            data = os.read(self._reading, 1 << 20) if ready else b""
            assert data, "the browser says nothing more"
            self._left += data
        line, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if message.get("method") == "Page.javascriptDialogOpening":
            self._answer_dialog()
        return message

    def _answer_dialog(self) -> None:
        """Say yes to a dialog, such as a page's question whether it may be left: nothing else goes
        on until then."""
        self._last += 1
        answer = {
            "id": self._last,
            "method": "Page.handleJavaScriptDialog",
            "params": {"accept": True},
            "sessionId": self._session,
        }
        os.write(self._writing, json.dumps(answer).encode() + b"\0")


@contextmanager
def browser(profile: Path, *, alone: bool = True) -> Iterator[Browser]:
    """Start a browser for a while. It ends when its pipe is closed. It reaches nothing but files,
    or, where it is not to be `alone`, this machine."""
    assert CHROMIUM
    theirs_in, our_writing = os.pipe()
    our_reading, theirs_out = os.pipe()
    ends = (theirs_in, theirs_out)
    launcher = [sys.executable, "-c", _LAUNCHER, *map(str, ends)]
    switches = (*_SWITCHES, *(_ALONE if alone else ()))
    command = [*launcher, CHROMIUM, f"--user-data-dir={profile}", *switches]
    started = subprocess.Popen(
        command,
        pass_fds=ends,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in ends:
        os.close(end)
    try:
        yield Browser(our_reading, our_writing)
    finally:
        os.close(our_writing)
        os.close(our_reading)
        try:
            started.wait(timeout=20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
