"""Open every HTML report in headless Chromium with the network off, and fail on anything a reader would miss.

    python tests/browser/check_reports.py [reports] [--screenshots FOLDER]

A page fails on any request beside itself, any console error, a figure without marks or size, a picture that
does not decode, a missing alternative text or language, more or less than one h1, and 10 MB or more.
Exit code 0: all is well; 1: something failed; 2: the check could not run.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 10_000_000  # bytes
PATIENCE = 60  # seconds for a page to draw its figures
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MARKS = ".scatterlayer .trace *, .boxlayer .trace *, .barlayer .trace *, .heatmaplayer *, .imagelayer image"

# Returns null until every figure is drawn, then what is wrong with the page.
INSPECT = """(async () => {
  const plots = [...document.querySelectorAll('.plotly-graph-div')];
  if (document.readyState !== 'complete' || plots.some(p => !p._fullLayout || !p.querySelector('svg.main-svg')))
    return null;
  const wrong = [], root = document.documentElement;
  if (!root.lang) wrong.push('the page names no language');
  if (!document.title.trim()) wrong.push('the page has no title');
  const heads = document.querySelectorAll('h1').length;
  if (heads !== 1) wrong.push(`${heads} h1 headings instead of one`);
  for (const plot of plots) {
    const name = plot.id, box = plot.getBoundingClientRect(), figure = plot.closest('figure');
    if (box.width < 50 || box.height < 50) wrong.push(`figure ${name} has no size`);
    const marks = [...plot.querySelectorAll(`MARKS`)].filter(m => { const b = m.getBoundingClientRect();
      return b.width + b.height > 0; });
    if (!marks.length) wrong.push(`figure ${name} is empty`);
    if (!figure || !(figure.getAttribute('aria-label') || '').trim()) wrong.push(`figure ${name} has no text`);
    for (const image of plot.querySelectorAll('image')) {
      const probe = new Image(); probe.src = image.getAttribute('href') || image.getAttribute('xlink:href');
      try { await probe.decode(); } catch (error) { wrong.push(`figure ${name}: a picture does not decode`); }
    }
  }
  for (const image of document.querySelectorAll('img'))
    if (!(image.alt || '').trim()) wrong.push('an img has no alt text');
  return JSON.stringify({wrong, figures: plots.length});
})()""".replace("MARKS", MARKS)


class Browser:
    """One headless Chromium without network, spoken to through the DevTools protocol."""

    def __init__(self, program: str):
        self.folder = tempfile.mkdtemp(prefix="check-reports-")
        command = [
            program, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-port=0", "--remote-allow-origins=*",
            "--window-size=1300,1000", f"--user-data-dir={self.folder}", "about:blank",
        ]  # fmt: skip
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # Chromium refuses its sandbox to root
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.port = self._port()

    def _port(self) -> int:
        file = Path(self.folder, "DevToolsActivePort")
        for _ in range(300):
            if file.is_file() and (lines := file.read_text().split()):
                return int(lines[0])
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.close()
        raise RuntimeError("Chromium did not start")

    def close(self) -> None:
        """End this browser and remove its profile."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Tab:
    """A tab of its own: every event that it sends is kept in `events`."""

    def __init__(self, browser: Browser):
        import urllib.request

        import websocket

        request = urllib.request.Request(f"http://127.0.0.1:{browser.port}/json/new?about:blank", method="PUT")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            address = json.load(answer)["webSocketDebuggerUrl"]
        self.socket = websocket.create_connection(address, timeout=PATIENCE, http_no_proxy=["127.0.0.1"])
        self.events: list[dict] = []
        self.number = 0
        for domain in ("Network", "Runtime", "Log", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """Send a command and return its result."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def wait_drawn(self) -> dict | None:
        """Return what `INSPECT` finds once every figure is drawn, None where that never happens."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = self.call("Runtime.evaluate", expression=INSPECT, awaitPromise=True)["result"].get("value")
            if found:
                time.sleep(0.3)  # late requests and errors
                self.call("Runtime.evaluate", expression="0")
                return json.loads(found)
            time.sleep(0.2)
        return None

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))


def check_page(browser: Browser, path: Path, screenshots: Path | None = None) -> tuple[int, list[str]]:
    """Return the number of figures of a page and what is wrong with it."""
    address = path.resolve().as_uri()
    tab = Tab(browser)
    try:
        tab.call("Page.navigate", url=address)
        found = tab.wait_drawn()
        if screenshots:
            screenshots.mkdir(parents=True, exist_ok=True)
            tab.screenshot(screenshots / f"{path.stem}.png")
    finally:
        tab.socket.close()
    wrong = found["wrong"] if found else [f"not every figure is drawn after {PATIENCE} s"]
    wrong += [f"asks for {url[:120]}" for url in _requests(tab.events) if url != address]
    wrong += [f"console: {text.splitlines()[0][:200]}" for text in _errors(tab.events) if text]
    if (size := path.stat().st_size) >= LIMIT:
        wrong.append(f"{size / 1e6:.1f} MB, allowed: under {LIMIT / 1e6:.0f} MB")
    return found["figures"] if found else 0, wrong


def _requests(events) -> list[str]:
    """Return the addresses that a page asked for, beside data that it carries itself."""
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    asked += [e["params"]["url"] for e in events if e["method"] == "Network.webSocketCreated"]
    return [url for url in asked if not url.startswith(("data:", "blob:", "about:"))]


def _errors(events) -> list[str]:
    """Return what a page reported as an error: exceptions, console.error, and the browser's own log."""
    texts = []
    for event in events:
        about = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            texts.append(details.get("exception", {}).get("description") or details["text"])
        elif event["method"] == "Runtime.consoleAPICalled" and about["type"] in ("error", "assert"):
            texts.append(" ".join(str(a.get("value", a.get("description", ""))) for a in about["args"]) or "error")
        elif event["method"] == "Log.entryAdded" and about["entry"]["level"] == "error":
            texts.append(about["entry"]["text"])
    return texts


def find_browser() -> str | None:
    """Return the path of a Chromium (the variable CHROMIUM goes first), None where there is none."""
    return next((found for name in (os.environ.get("CHROMIUM", ""), *BROWSERS) if (found := shutil.which(name))), None)


def main(arguments: list[str] | None = None) -> int:
    """Check every HTML file of a folder and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=Path, nargs="?", default=Path("reports"))
    parser.add_argument("--screenshots", type=Path, help="also write every page as a picture into this folder")
    given = parser.parse_args(arguments)
    pages = sorted(given.reports.glob("*.html"))
    if not pages:
        print(f"no HTML in {given.reports}: run `make report` first", file=sys.stderr)
        return 2
    if importlib.util.find_spec("websocket") is None:
        print("the package websocket-client is missing: pip install -e '.[dev]'", file=sys.stderr)
        return 2
    if not (program := find_browser()):
        print("no Chromium found: install chromium or chrome, or name it in CHROMIUM", file=sys.stderr)
        return 2
    failed = 0
    with contextlib.closing(Browser(program)) as browser:
        for page in pages:
            figures, wrong = check_page(browser, page, given.screenshots)
            failed += bool(wrong)
            print(f"{page}: {figures} figures, {'; '.join(wrong) or 'no request, no error'}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
