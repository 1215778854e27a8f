"""
A real Chromium without a window, driven by its own protocol (CDP) through a pipe: it needs
no other program, opens no port, and ends with the tests.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import deadly

__all__ = ["PATIENCE", "Chromium", "Tab"]

PATIENCE = 25.0
"""Seconds after which a test gives up waiting."""

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

_KEYS = {"Enter": (13, "\r"), " ": (32, " "), "Tab": (9, "")}

_START = """
import os, sys
for number, descriptor in enumerate(map(int, sys.argv[1:3]), 3):
    os.dup2(descriptor, number)  # it reads commands from descriptor 3, and writes to 4
os.execv(sys.argv[3], sys.argv[3:])
"""

_ARRIVED = "!window.old && document.readyState === 'complete' && location.href !== 'about:blank'"

_CHANGES = """
Object.defineProperty(window, "localStorage", {get() { throw new DOMException("no"); }});
Object.defineProperty(window, "sessionStorage", {get() { throw new DOMException("no"); }});
"""


class Chromium:
    """
    One browser.

    :param folder: for its profile.
    """

    def __init__(self, folder: Path) -> None:
        program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
        if program is None:
            pytest.skip("needs chromium")
        its_input, self._write = os.pipe()
        self._read, its_output = os.pipe()
        os.set_blocking(self._read, False)
        arguments = [
            *("--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--mute-audio"),
            *("--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--disable-extensions"),
            # A name that is not this machine's, so that the page is not a secure context.
            "--host-resolver-rules=MAP box.example 127.0.0.1",
            f"--user-data-dir={folder}",
        ]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        numbers = [fcntl.fcntl(it, fcntl.F_DUPFD, 10) for it in (its_input, its_output)]
        self._process = subprocess.Popen(
            [*deadly(), sys.executable, "-c", _START, *map(str, numbers), program, *arguments],
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in (its_input, its_output, *numbers):
            os.close(descriptor)
        self._number = 0
        self._buffer = b""
        self._ignored: set[int] = set()
        self._responses: dict[int, dict[str, Any]] = {}
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self.call("Browser.close")
        os.close(self._write)
        os.close(self._read)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        number = self._send(method, session, parameters)
        end = time.monotonic() + PATIENCE
        while number not in self._responses:
            if not self._receive(end - time.monotonic()):
                pytest.fail(f"in vain: {method} {parameters}")
        response = self._responses.pop(number)
        if "error" in response:
            raise ValueError(f"{method}: {response['error']}")
        result: dict[str, Any] = response["result"]
        return result

    def post(self, method: str, session: str, **parameters: Any) -> None:
        """Send a command, and ignore its result."""
        self._ignored.add(self._send(method, session, parameters))

    def _send(self, method: str, session: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        return self._number

    def listen(self, session: str, listener: Callable[[str, dict[str, Any]], None]) -> None:
        """Pass the events of a session to a function."""
        self._listeners[session] = listener

    def receive_events(self, seconds: float) -> None:
        """Wait for events, for at most this time."""
        self._receive(seconds)

    def _receive(self, seconds: float) -> bool:
        """Read what has come; return whether anything has within this time."""
        if not select.select([self._read], [], [], max(0, seconds))[0]:
            return False
        data = os.read(self._read, 1 << 20)
        if not data:
            raise OSError("the browser has ended")
        *messages, self._buffer = (self._buffer + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                if message["id"] not in self._ignored:
                    self._responses[message["id"]] = message
                continue
            listener = self._listeners.get(message.get("sessionId", ""))
            if listener is not None:
                listener(message["method"], message["params"])
        return True

    @contextlib.contextmanager
    def tab(self, **how: Any) -> Iterator[Tab]:
        """Open a tab that shares nothing with other tabs; see `Tab`."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        try:
            yield Tab(self, context, **how)
        finally:
            self.post("Target.disposeBrowserContext", "", browserContextId=context)


class Tab:
    """
    One page.

    :param context: its profile.
    :param language: what it accepts, as in ``Accept-Language``.
    :param phone: whether it is 390 pixels wide, and touched.
    :param dark: whether dark colours are preferred.
    :param without_storage: whether it may store nothing, as in some private windows.
    :param without_script: whether JavaScript is off.
    :ivar complaints: what the console has been told, except by the network.
    :ivar failed_requests: what the network has told the console.
    :ivar dialogs: the kinds of the dialogs that have been opened; each is accepted.
    :ivar requests: method, path and header fields of each request.
    """

    def __init__(
        self,
        browser: Chromium,
        context: str,
        *,
        language: str = "en",
        phone: bool = False,
        dark: bool = False,
        without_storage: bool = False,
        without_script: bool = False,
    ) -> None:
        self._browser = browser
        self.context = context
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)
        self._target = target["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        self.complaints: list[str] = []
        self.failed_requests: list[str] = []
        self.dialogs: list[str] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._choosers: list[int] = []
        browser.listen(self._session, self._happened)
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")
        agent = self.evaluate("navigator.userAgent").replace("Headless", "")
        self.call("Network.setUserAgentOverride", userAgent=agent, acceptLanguage=language)
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        width, height = (390, 844) if phone else (1000, 800)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        if without_storage:
            self.before_each_page(_CHANGES)
        if without_script:
            self.call("Emulation.setScriptExecutionDisabled", value=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command for this page."""
        return self._browser.call(method, self._session, **parameters)

    def _happened(self, method: str, parameters: dict[str, Any]) -> None:
        match method:
            case "Log.entryAdded":
                entry = parameters["entry"]
                text = f"{entry['level']}: {entry['text']}"
                by_network = entry["source"] == "network"
                (self.failed_requests if by_network else self.complaints).append(text)
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(parameters))
            case "Network.requestWillBeSent":
                request = parameters["request"]
                path = "/" + request["url"].partition("//")[2].partition("/")[2]
                fields = {name.lower(): text for name, text in request["headers"].items()}
                self.requests.append((request["method"], path, fields))
            case "Page.javascriptDialogOpening":
                self.dialogs.append(parameters["type"])
                self._browser.post("Page.handleJavaScriptDialog", self._session, accept=True)
            case "Page.fileChooserOpened":
                self._choosers.append(parameters["backendNodeId"])

    def wait(self, look: Callable[[], Any], what: str) -> Any:
        """Wait until a condition holds, and return its value."""
        end = time.monotonic() + PATIENCE
        while not (seen := look()):
            if time.monotonic() > end:
                pytest.fail(f"in vain: {what}\n{self.evaluate('document.body.innerText')}")
            self._browser.receive_events(0.02)
        return seen

    # Pages

    def before_each_page(self, script: str) -> None:
        """Run a script before those of each page."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, url: str) -> None:
        """Go to a page, and wait until its script has run."""
        self.call("Page.navigate", url=url)
        self.arrived()

    def reload(self) -> None:
        """Reload the page, whatever it asks."""
        self.evaluate("window.old = true")
        self.call("Page.reload")
        self.arrived()

    def arrived(self) -> None:
        """Wait until another page is there; the one before it has set ``window.old``."""

        def there() -> bool:
            with contextlib.suppress(ValueError):  # it goes away at this moment
                return bool(self.evaluate(_ARRIVED))
            return False

        self.wait(there, "another page")

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression, or what its promise is fulfilled with."""
        done = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression has a value that is true, and return it."""
        return self.wait(lambda: self.evaluate(script), script)

    def text(self, selector: str = "body") -> str:
        """Return the text of an element that a reader sees."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def is_visible(self, selector: str) -> bool:
        """Return whether an element can be seen."""
        found = f"document.querySelector({json.dumps(selector)})"
        return bool(self.evaluate(f"!!{found} && {found}.checkVisibility()"))

    # What a person does

    def click(self, selector: str) -> None:
        """Click into the middle of an element, once it is there."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.until(f"!!{found} && {found}.checkVisibility()")
        x, y = self.evaluate(
            f"(() => {{ const it = {found}; it.scrollIntoView({{block: 'center'}});"
            " const box = it.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key, and release it."""
        code, text = _KEYS[key]
        pressed = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **pressed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def type(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.call("Input.insertText", text=text)

    def choose(self, *paths: Path, button: str = "#choose", key: str = "") -> None:
        """
        Click a button, and choose files in the dialog that it opens.

        :param key: to press instead, on what has the focus.
        """
        self.call("Page.setInterceptFileChooserDialog", enabled=True)
        if key:
            self.press(key)
        else:
            self.click(button)
        (node,) = self.wait(lambda: self._choosers, "a dialog to choose files in")
        self._choosers.clear()
        self.call("DOM.setFileInputFiles", files=[*map(str, paths)], backendNodeId=node)

    def put(self, selector: str, *paths: Path) -> None:
        """Choose files in an input, without its dialog."""
        node = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=node, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[*map(str, paths)], nodeId=found)

    def drag(self, *paths: Path, drop: bool = True) -> None:
        """Drag files into the page, and drop them at its very edge."""
        data = {"items": [], "files": [*map(str, paths)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", *(("drop",) if drop else ())):
            self.call("Input.dispatchDragEvent", type=kind, x=5, y=700, data=data)

    # Its network and its window

    def throttle(self, rate: float = 0, *, offline: bool = False) -> None:
        """
        Bound the rate of uploads.

        :param rate: bytes per second; 0 for no bound.
        :param offline: nothing gets through.
        """
        self.call(
            "Network.emulateNetworkConditions",
            offline=offline,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=rate or -1,
        )

    def hide(self) -> None:
        """Put the page into the background."""
        self._set_window("minimized")
        self.call("Emulation.setFocusEmulationEnabled", enabled=False)

    def show(self) -> None:
        """Bring it back."""
        self._set_window("normal")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def _set_window(self, state: str) -> None:
        window = self._browser.call("Browser.getWindowForTarget", targetId=self._target)
        self._browser.call(
            "Browser.setWindowBounds", windowId=window["windowId"], bounds={"windowState": state}
        )

    def accessible(self) -> list[tuple[str, str]]:
        """Return the role and the name of each element, as a screen reader is told them."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
        ]

    def screenshot(self, path: Path) -> None:
        """Write what it looks like."""
        done = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(done["data"]))

    def files(self, selector: str) -> Sequence[str]:
        """Return the names of the files in an input."""
        found: list[str] = self.evaluate(
            f"[...document.querySelector({json.dumps(selector)}).files].map(it => it.name)"
        )
        return found
