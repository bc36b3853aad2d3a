"""A page in Chromium or Chrome, by keyboard and at the width of a phone: what is seen there, and what is wrong with it.

The browser is spoken to over two pipes, in its DevTools protocol: JSON, each message ended by a zero byte.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
OPTIONS = [
    "--headless",
    "--hide-scrollbars",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--remote-debugging-pipe",
]
PATIENCE = 60.0
"""Seconds that an answer or a page may take."""
HERE = ("file:", "data:", "blob:", "about:")
"""Beginnings of addresses that need no network."""

NAMES = """
const stops = [...document.querySelectorAll("nav a, .choice, .picture, .copy, .wide, pre, summary")];
const name = (e) => `${e.tagName.toLowerCase()} ${(e.ariaLabel || e.dataset.for || e.textContent).trim()}`;
"""
SURVEY = f"""(() => {{ {NAMES} return {{
  window: innerWidth,
  page: document.documentElement.scrollWidth,
  panels: Object.fromEntries([...document.querySelectorAll("section")].map((e) => [e.id, e.offsetHeight])),
  drawn: [...document.querySelectorAll(".figure")].filter((e) => e.querySelector("svg.main-svg")).map((e) => e.id),
  stops: stops.map(name),
}}; }})()"""
FOCUSED = f"(() => {{ {NAMES} const e = document.activeElement; return [stops.indexOf(e), e.tagName]; }})()"
DRAWN = "[...document.querySelectorAll('.figure')].every((e) => e.querySelector('svg.main-svg'))"
TAB = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
ENTER = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}


@dataclass(frozen=True)
class Seen:
    """A page as a browser shows it.

    Attributes:
        window: its width in pixels.
        page: width of what is in it; more than the window's scrolls sideways.
        panels: heights of the sections, by name.
        drawn: names of figures.
        stops: everything that a keyboard should reach, by element and name.
        reached: indices of those that it did, in order.
        complaints: errors and warnings of the console and of the page.
        loaded: addresses.
    """

    window: int
    page: int
    panels: Mapping[str, float]
    drawn: Collection[str]
    stops: Sequence[str]
    reached: Sequence[int]
    complaints: Sequence[str]
    loaded: Sequence[str]


def findings(seen: Seen, width: int, panels: Collection[str], figures: Collection[str]) -> list[str]:
    """Everything that is wrong with a page that should have these panels and figures, in a window of a width."""
    found = [] if seen.window == width else [f"the window is {seen.window} wide, not {width}"]
    if seen.page > seen.window:
        found.append(f"{seen.page} wide in a window of {seen.window}")
    found += [f"no panel {name}" for name in panels if not seen.panels.get(name)]
    found += [f"no figure {name}" for name in figures if name not in seen.drawn]
    found += [f"not reached by keyboard: {stop}" for i, stop in enumerate(seen.stops) if i not in seen.reached]
    if list(seen.reached) != sorted(seen.reached):
        found.append("the keyboard goes through the page in another order than the eye")
    found += [f"complaint: {text}" for text in seen.complaints]
    return found + [f"loaded: {address}" for address in seen.loaded if not address.startswith(HERE)]


def seen_from(survey: Mapping[str, Any], reached: Sequence[int], events: Sequence[Mapping[str, Any]]) -> Seen:
    """The page as it was seen, from the answer to `SURVEY`, indices of stops, and what the browser said meanwhile."""
    requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return Seen(**survey, reached=reached, complaints=list(filter(None, map(complaint, events))), loaded=requests)


def complaint(event: Mapping[str, Any]) -> str:
    """Text of an error or a warning; empty for other events."""
    match event:
        case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": details}}:
            return str(details.get("exception", {}).get("description") or details["text"])
        case {"method": "Runtime.consoleAPICalled", "params": {"type": "error" | "warning" | "assert", "args": said}}:
            return " ".join(str(each.get("value", each.get("description", ""))) for each in said)
        case {"method": "Log.entryAdded", "params": {"entry": {"level": "error" | "warning", "text": text}}}:
            return str(text)
    return ""


def messages(buffer: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Whole messages of what was read, and the rest."""
    *whole, rest = buffer.split(b"\0")
    return [json.loads(each) for each in whole], rest


class Tab:
    """A tab of a browser, spoken to over pipes."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing, self._rest, self._last = reading, writing, b"", 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command; events that come before it are kept."""
        self._last += 1
        os.write(
            self._writing,
            json.dumps({"id": self._last, "method": method, "params": params, **self._session}).encode() + b"\0",
        )
        deadline = time.monotonic() + PATIENCE
        while True:
            for message in self._read(deadline):
                if message.get("id") == self._last:
                    assert "error" not in message, message
                    return dict(message["result"])

    def _read(self, deadline: float) -> list[dict[str, Any]]:
        ready, _, _ = select.select([self._reading], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(self._reading, 2**16) if ready else b""
        assert data, "the browser does not answer"
        found, self._rest = messages(self._rest + data)
        self.events += [message for message in found if "id" not in message]
        return found

    def value(self, script: str) -> Any:
        """Value of an expression in the page."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"]["value"]

    def press(self, key: Mapping[str, Any]) -> None:
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, **key)


def survey(tab: Tab, address: str, width: int) -> Seen:
    """Open a page, look at it, and go through it by keyboard; whatever is closed there is opened, by keyboard."""
    tab.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    tab.ask("Emulation.setFocusEmulationEnabled", enabled=True)
    tab.ask("Page.navigate", url=address)
    deadline = time.monotonic() + PATIENCE
    while not tab.value(f"document.readyState === 'complete' && {DRAWN}") and time.monotonic() < deadline:
        time.sleep(0.2)
    reached: list[int] = []
    for _ in range(2 * len(tab.value(SURVEY)["stops"]) + 10):
        tab.press(TAB)
        index, tag = tab.value(FOCUSED)
        if tag == "BODY" or index in reached:
            break
        reached += [index] if index >= 0 else []
        if tag == "SUMMARY":
            tab.press(ENTER)
    return seen_from(tab.value(SURVEY), reached, tab.events)


@contextmanager
def started(browser: str, folder: Path) -> Iterator[Tab]:
    """A tab of a browser of its own, with a profile in a folder; the browser ends with it."""
    import fcntl  # not on Windows, where the rest of this module is read too

    ours, theirs = os.pipe(), os.pipe()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs[0], ours[1])]  # 3 and 4 are what the browser takes
    becoming = "import os, sys; os.dup2({}, 3), os.dup2({}, 4), os.execv(sys.argv[1], sys.argv[1:])".format(*high)
    words = [sys.executable, "-c", becoming, browser, *OPTIONS, f"--user-data-dir={folder}"]
    process = subprocess.Popen(words, pass_fds=high, stderr=subprocess.DEVNULL)
    for fd in (*high, theirs[0], ours[1]):
        os.close(fd)
    try:
        yield Tab(ours[0], theirs[1])
    finally:
        with suppress(OSError):
            os.write(theirs[1], json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(ours[0])
        os.close(theirs[1])
