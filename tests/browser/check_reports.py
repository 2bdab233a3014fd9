"""Open every HTML report in headless Chromium with the network off, and fail on anything a reader would miss.

    python tests/browser/check_reports.py [reports] [--screenshots FOLDER]

Every page is read as a wide and as a narrow page (1400 and 390 pixels), light, dark and on paper. It fails on any
request beside itself, any console error, a figure without marks or size, words in a figure that overlap or are cut,
a page that scrolls sideways, a picture that does not decode, a missing alternative text or language, more or less
than one h1, what axe-core finds, a figure that is split on paper, and 3 MB or more (5 with the explorer inside).
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

LIMIT, WITH_EXPLORER = 3_000_000, 5_000_000  # bytes
WIDTHS = (1400, 390)  # pixels
SHEET = 680  # pixels: A4 within its margins
PATIENCE = 60  # seconds for a page to draw its figures
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HERE = Path(__file__).parent
INSPECT, PAPER = ((HERE / name).read_text() for name in ("inspect.js", "paper.js"))
# The figures' thousand marks are one picture to axe; it would ask every one of them for minutes.
AXE = """(async options => {
  const kept = [...document.querySelectorAll('svg.main-svg')].map(svg => [svg, [...svg.childNodes]]);
  kept.forEach(([svg]) => svg.replaceChildren());
  const found = await axe.run(document, {resultTypes: ['violations'], ...options});
  kept.forEach(([svg, nodes]) => svg.append(...nodes));
  return JSON.stringify(found.violations.map(v => [v.id, v.nodes.length, String(v.nodes[0].target)]));
})"""
# On a dark page figures are dark too, and what is written in them is light.
DARK = """(async () => {
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);  // the page hears of the dark
  await Promise.all([...document.querySelectorAll('.plotly-graph-div')].map(plot => plot.ready));
  const dark = colour => !colour.endsWith(', 0)') && colour.match(/\\d+/g).slice(0, 3).every(part => part < 128);
  if (!dark(getComputedStyle(document.body).backgroundColor)) return '[]';
  const wrong = [...document.querySelectorAll('.plotly-graph-div')].filter(plot => {
    const text = plot.querySelector('.xtick text, .ytick text, .annotation-text, .textpoint text');
    const behind = getComputedStyle(plot.querySelector('svg.main-svg')).backgroundColor;
    return behind === 'rgb(255, 255, 255)' || text && dark(getComputedStyle(text).fill);
  });
  return JSON.stringify(wrong.map(plot => `figure ${plot.id} is not made for a dark page`));
})()"""


class Browser:
    """One headless Chromium without network, spoken to through the DevTools protocol."""

    def __init__(self, program: str, *more: str):
        self.folder = tempfile.mkdtemp(prefix="check-reports-")
        command = [
            program, "--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-port=0", "--remote-allow-origins=*",
            "--window-size=1400,1000", f"--user-data-dir={self.folder}", *more, "about:blank",
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

    def value(self, expression: str):
        """Return what an expression, or its promise, gives."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "a script failed"))
        return answer["result"].get("value")

    def wait_drawn(self) -> dict | None:
        """Return what `INSPECT` finds once every figure is drawn, None where that never happens."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if found := self.value(INSPECT):
                time.sleep(0.3)  # late requests and errors
                self.value("0")
                return json.loads(found)
            time.sleep(0.2)
        return None

    def look(self, width: int, scheme: str = "light", media: str = "") -> None:
        """Show the page at a width, light or dark, on the screen or on paper."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        time.sleep(0.5)  # until the page has drawn its figures anew

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken["data"]))


def check_page(browser: Browser, path: Path, screenshots: Path | None = None) -> tuple[int, list[str]]:
    """Return the number of figures of a page and what is wrong with it."""
    address, wrong, figures = path.resolve().as_uri(), [], 0
    tab = Tab(browser)
    try:
        tab.look(WIDTHS[0])
        tab.call("Page.navigate", url=address)
        drawn = tab.wait_drawn()
        if not drawn:
            return 0, [f"not every figure is drawn after {PATIENCE} s"]
        figures = drawn["figures"]
        tab.value((HERE / "axe" / "axe.min.js").read_text() + ";0")
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                tab.look(width, scheme)
                faults = tab.wait_drawn()["wrong"] if scheme == "light" else json.loads(tab.value(DARK))
                rules = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
                faults += [f"axe {rule}: {count} nodes, {first}"
                           for rule, count, first in json.loads(tab.value(f"{AXE}({json.dumps(rules)})"))]  # fmt: skip
                wrong += [f"{width} px, {scheme}: {each}" for each in faults]
                if screenshots:
                    tab.screenshot(screenshots / f"{path.stem}-{width}-{scheme}.png")
        tab.look(SHEET, media="print")
        tab.value("dispatchEvent(new Event('beforeprint'))")
        faults = [*tab.wait_drawn()["wrong"], *json.loads(tab.value(PAPER))]
        wrong += [f"on paper: {each}" for each in faults]
        if screenshots:
            paper = tab.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
            (screenshots / f"{path.stem}.pdf").write_bytes(base64.b64decode(paper["data"]))
    finally:
        tab.socket.close()
    wrong += [f"asks for {url[:120]}" for url in _requests(tab.events) if url != address]
    wrong += [f"console: {text.splitlines()[0][:200]}" for text in _errors(tab.events) if text]
    limit = WITH_EXPLORER if 'id="fcx-explorer-' in path.read_text(encoding="utf-8") else LIMIT
    if (size := path.stat().st_size) >= limit:
        wrong.append(f"{size / 1e6:.1f} MB, allowed: under {limit / 1e6:.0f} MB")
    return figures, wrong


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
