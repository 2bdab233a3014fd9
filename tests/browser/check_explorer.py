"""Drive the explorer in headless Chromium: the page without a kernel, then the notebook in a real JupyterLab.

    python tests/browser/check_explorer.py [--screenshots FOLDER] [--only page|lab]

Everything is done as a person does it, by pointer and keys, with the network off; numbers that the page shows are
compared with those of the library. Exit code 0: all is well; 1: something failed; 2: the check could not run.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from check_reports import Browser, Tab, _errors, _requests, find_browser  # noqa: E402
from explorer_copies import copied, copies  # noqa: E402

ROOT = HERE.parent.parent
PATIENCE = 300  # seconds for a notebook to run
MODELS, METHOD, FACES = ["plain_scratch", "masked_scratch"], "lrp_gamma", 8
LIMIT = 2_000_000  # bytes of a page of 24 faces by four networks
POLYGON = [(0.2, 0.25), (0.8, 0.25), (0.8, 0.5), (0.2, 0.5)]  # of a picture
AXE = HERE / "axe" / "axe.min.js"


class Driver:
    """A tab in which an explorer is, and the hands of somebody who uses it."""

    def __init__(self, tab: Tab):
        self.tab, self.wrong = tab, []
        # As in front of somebody who let the page use the clipboard.
        self.tab.call("Emulation.setFocusEmulationEnabled", enabled=True)
        allowed = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        self.tab.call("Browser.grantPermissions", permissions=allowed)

    def ask(self, expression: str):
        """Return what an expression, or its promise, gives in the page."""
        answer = self.tab.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "a script failed"))
        return answer["result"].get("value")

    def until(self, expression: str, what: str, patience: float = 30):
        """Wait until an expression is true, and return it."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if value := self.ask(f"(() => {{ const found = {expression}; return found instanceof Node || found; }})()"):
                return value
            if broken := [text for text in _errors(self.tab.events) if "Explorer." in text]:
                raise RuntimeError(f"{what}: {' '.join(broken[0].split())[:300]}")
            time.sleep(0.1)
        raise RuntimeError(f"not within {patience:.0f} s: {what}")

    def expect(self, what: str, ok) -> None:
        """Note what is wrong."""
        if not ok:
            self.wrong.append(what)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Bring an element into view and return its left, top, width and height."""
        return self.ask(f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: 'center', inline: 'nearest'}}); const b = e.getBoundingClientRect();
            return [b.left, b.top, b.width, b.height]; }})()""")

    def move(self, x: float, y: float, kind: str = "mouseMoved", pressed: bool = False) -> None:
        """Move, press or release the pointer."""
        self.tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, clickCount=1, buttons=int(pressed),
                      button="left" if pressed or kind != "mouseMoved" else "none")  # fmt: skip

    def drag(self, selector: str, parts) -> None:
        """Press at the first of `parts` of an element's box, go along them and let go."""
        left, top, width, height = self.box(selector)
        points = [(left + x * width, top + y * height) for x, y in parts]
        self.move(*points[0])
        self.move(*points[0], "mousePressed", True)
        for point in points[1:]:
            self.move(*point, pressed=True)
        self.move(*points[-1], "mouseReleased")

    def click(self, selector: str) -> None:
        """Click into the middle of an element."""
        left, top, width, height = self.box(selector)
        at = left + width / 2, top + height / 2
        self.move(*at)
        self.move(*at, "mousePressed", True)
        self.move(*at, "mouseReleased")

    def button(self, text: str) -> None:
        """Click the button of that text."""
        self.ask(f"""[...document.querySelectorAll('.fcx-explorer button')]
            .find((b) => b.textContent === {json.dumps(text)}).setAttribute('data-wanted', '')""")
        self.click("[data-wanted]")
        self.ask("document.querySelector('[data-wanted]').removeAttribute('data-wanted')")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.tab.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text if kind == "keyDown" else ""
            )

    def choose(self, name: str, value) -> None:
        """Choose in a list, set a slider or tick a box, as its own events say."""
        self.ask(f"""(() => {{ const c = document.querySelector('.fcx-explorer [name={name}]');
            if (c.type === 'checkbox') {{ if (c.checked !== {json.dumps(value)}) c.click(); return; }}
            c.value = {json.dumps(str(value))};
            c.dispatchEvent(new Event('input')); c.dispatchEvent(new Event('change')); }})()""")

    def bars(self, column: int) -> dict[str, list[float]]:
        """Return what the table of regions shows (column 2: this face, 3: all), region -> values."""
        return self.ask(f"""Object.fromEntries([...document.querySelectorAll('.fx-bars tr[data-region]')].map((row) => [
            row.dataset.region,
            [...row.cells[{column}].querySelectorAll('[data-value]')].map((span) => Number(span.dataset.value))]))""")

    def drawn(self) -> list[list[float]]:
        """Return the numbers of the drawn region, a row a network and condition."""
        return self.ask("""[...document.querySelectorAll('.fx-own tbody tr')].map((row) =>
            [...row.querySelectorAll('[data-value]')].map((cell) => Number(cell.dataset.value)))""")

    def axe(self, scope: str) -> None:
        """Note what axe-core finds, light and dark."""
        if not AXE.is_file():
            return
        self.ask(AXE.read_text() + ";0")
        for scheme in ("light", "dark"):
            self.tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            time.sleep(0.3)
            found = self.ask(f"""axe.run({json.dumps(scope)}, {{resultTypes: ['violations']}}).then((r) =>
                r.violations.map((v) => `${{v.id}}: ${{v.nodes.length}} nodes, ${{v.nodes[0].target}}`))""")
            self.wrong += [f"{scheme}: axe {violation}" for violation in found]
        self.tab.call("Emulation.setEmulatedMedia", features=[])

    def screenshot(self, path: Path | None) -> None:
        """Write what is seen as a PNG."""
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(self.tab.call("Page.captureScreenshot")["data"]))


def hands(drive: Driver, explorer, call: str, tolerance: float, faces: int) -> None:
    """Use the explorer, whichever home it has, and compare its numbers with the library's.

    `call` is what the line of Python gives `fcx.explore` first.
    """
    pack, statistics = explorer.pack, explorer.pack.statistics
    drive.until("document.querySelector('.fx-bars tr[data-region]')", "the table of regions")
    # Choose by keys: the second face.
    drive.click(".fx-thumb[aria-selected=true]")
    drive.ask("document.querySelector('.fx-strip').focus()")
    drive.press("ArrowRight")
    name = drive.ask("document.querySelectorAll('.fx-thumb')[1].title").split(", ")[0]
    drive.until(f"document.querySelector('.fx-title strong').textContent === {json.dumps(name)}", "the second face")
    for target in pack.targets:
        drive.choose("target", target)
        for quantity in ("share", "enrichment"):
            drive.choose("quantity", quantity)
            time.sleep(0.4)
            one = {"method": METHOD, "target": target, "model": MODELS}
            for column, values in ((2, statistics[quantity].sel(sample=name)), (3, statistics[f"{quantity}_mean"])):
                values = values.sel(one).transpose("region", "model", "condition").values
                shown = drive.bars(column)
                wanted = dict(zip(pack.regions, values.reshape(len(pack.regions), -1), strict=True))
                same = all(np.allclose(shown[region], wanted[region], atol=2e-5, equal_nan=True) for region in wanted)
                drive.expect(f"{target}, {quantity}, column {column}: the bars are not the statistics", same)
    # Hover, both ways.
    left, top, width, height = drive.box(".fx-panels canvas")
    drive.move(left + width / 2, top + height * 0.1)
    drive.until("document.querySelector('tr.fx-lit')", "a region that lights up under the pointer", 5)
    drive.ask("document.querySelector('tr[data-region=mouth] button').focus()")
    drive.expect("the focus lights no region up", drive.ask("!!document.querySelector('tr[data-region=mouth].fx-lit')"))
    # Draw a region; compare with what is inside it by the library.
    drive.button("Draw a region")
    drive.drag(".fx-panels canvas", POLYGON)
    drive.until("document.querySelectorAll('.fx-own tbody tr').length === 4", "the numbers of the drawn region")
    from fcx.explorer.drawn import drawn_statistics

    points = json.loads(copied(drive, "Copy data"))["drawn"]["points"]
    which = pack.results.sel(sample=pack.results["sample"].values[:faces] if faces else pack.results["sample"].values)
    known = drawn_statistics(which, points, MODELS, METHOD, pack.targets[-1])
    place = [str(each) for each in which["sample"].values].index(name)
    shares = known["share"].reshape(4, -1)
    for row, shown in enumerate(drive.drawn()):
        drive.expect(f"drawn region, row {row}: share {shown[2]:.4f}, should be {shares[row, place]:.4f}",
                     abs(shown[2] - shares[row, place]) <= tolerance)  # fmt: skip
        drive.expect(f"drawn region, row {row}: mean {shown[3]:.4f}, should be {shares[row].mean():.4f}",
                     abs(shown[3] - shares[row].mean()) <= tolerance)  # fmt: skip
    # A field in the plane; the difference; the line of Python.
    drive.drag(".fx-plane svg", [(0.05, 0.05), (0.3, 0.3), (0.5, 0.5)])
    drive.until("document.querySelector('.fx-filter').textContent", "a field in the plane")
    drive.click(".fx-plane svg")
    drive.choose("difference", True)
    drive.until("document.querySelectorAll('.fx-panels canvas').length === 6", "the difference of two networks")
    copies(drive, pack, call, {"sample": name, "method": METHOD, "target": pack.targets[-1]}, points)


def check_page(program: str, explorer, folder: Path, screenshots: Path | None) -> list[str]:
    """Return what is wrong with the page that needs no kernel."""
    path = explorer.write(folder / "explorer.html", count=FACES)
    with contextlib.closing(Browser(program)) as browser:
        drive = Driver(Tab(browser))
        drive.tab.call("Page.navigate", url=path.as_uri())
        size = path.stat().st_size  # of 24 faces and four networks: a share of it is there for each face and network
        drive.expect(f"{size / 1e6:.2f} MB would be more than 2 with 24 faces and four networks",
                     size < 150_000 + FACES * len(MODELS) * (LIMIT - 150_000) / (24 * 4) + 50_000)  # fmt: skip
        hands(drive, explorer, "faces, results", explorer.pack.share_error(range(FACES)), FACES)
        drive.axe("html")
        drive.screenshot(screenshots and screenshots / "explorer.png")
        drive.wrong += [f"asks for {url[:120]}" for url in _requests(drive.tab.events) if url != path.as_uri()]
        return drive.wrong + [f"console: {text.splitlines()[0][:200]}" for text in _errors(drive.tab.events) if text]


def check_lab(program: str, explorer, folder: Path, screenshots: Path | None) -> list[str]:
    """Return what is wrong with the explorer in JupyterLab, where a kernel answers."""
    import papermill

    notebook = papermill.iorw.load_notebook_node(str(ROOT / "notebooks" / "explore.ipynb"))
    given = {"faces": str(folder / "faces.zarr"), "runs": str(folder / "runs"), "models": ",".join(MODELS),
             "methods": METHOD, "limit": FACES}  # fmt: skip
    notebook = papermill.parameterize.parameterize_notebook(notebook, given)
    papermill.iorw.write_ipynb(notebook, str(folder / "explore.ipynb"))
    loopback = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with lab(folder) as address, contextlib.closing(Browser(program, loopback, "--window-size=1500,1400")) as browser:
        drive = Driver(Tab(browser))
        drive.tab.call("Page.navigate", url=f"{address}/lab/tree/explore.ipynb?reset")
        drive.until("!!window.jupyterapp", "JupyterLab", PATIENCE)
        drive.ask(RUN_ALL)
        drive.until("document.querySelector('.fx-bars tr[data-region]')", "the explorer", PATIENCE)
        drive.expect(
            "there is more than one explorer", drive.ask("document.querySelectorAll('.fcx-explorer').length") == 1
        )
        hands(drive, explorer, "data, results", 1e-6, 0)
        slide(drive, explorer)
        keys(drive)
        for theme in ("Light", "Dark"):
            drive.ask(f"window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
            light = json.dumps(str(theme == "Light").lower())
            drive.until(f"document.body.dataset.jpThemeLight === {light}", f"the theme {theme}")
            drive.axe(".fcx-explorer")
            drive.box(".fcx-explorer .fx-middle")
            drive.screenshot(screenshots and screenshots / f"lab-{theme.lower()}.png")
        own = address, address.replace("http", "ws")
        asked = [url for url in _requests(drive.tab.events) if not url.startswith(own)]
        return drive.wrong + [f"asks for {url[:120]}" for url in asked]


RUN_ALL = """(async () => {
  const app = window.jupyterapp; await app.restored;
  let panel; for (let i = 0; i < 600 && !panel; i++) {
    panel = [...app.shell.widgets('main')].find((w) => w.context?.path?.endsWith('.ipynb'));
    if (!panel) await new Promise((r) => setTimeout(r, 100)); }
  await panel.context.ready; await panel.sessionContext.ready;
  app.shell.activateById(panel.id); await app.commands.execute('notebook:run-all-cells'); return true; })()"""


def slide(drive: Driver, explorer) -> None:
    """Move the mask, and put it back: the maps are then those that are stored."""
    status = "document.querySelector('.fx-mask .fx-status').textContent"
    before = drive.bars(2)
    for step in range(1, 31):
        drive.choose("up", -0.1 * step)
        time.sleep(0.1)
    drive.until(f"{status}.startsWith('Worn')", "a mask that was moved and is at rest")
    drive.expect("a mask that was moved changes nothing", drive.bars(2) != before)
    moved, line = drive.bars(2), copied(drive, "Copy Python")
    drive.expect(f"the moved mask is not in the line of Python: {line}", 'mask={"shift":[0,-3]}' in line)
    drive.button("As stored")
    drive.until(f"{status}.startsWith('As stored')", "the stored mask")
    drive.expect(f"put back: {drive.ask(status)}", "every number" in drive.ask(status))
    end = time.monotonic() + 20  # the drawn region is measured anew
    while drive.bars(2) != before and time.monotonic() < end:
        time.sleep(0.1)
    drive.expect("put back, the bars are not what they were", drive.bars(2) == before)
    drive.expect("put back, the mask is in the line of Python", "mask=" not in copied(drive, "Copy Python"))
    drive.ask("""(() => { const { explorer } = document.querySelector('.fcx-explorer');
        explorer.take({ ...explorer.view, mask: { shift: [0, -3] } }); })()""")
    drive.until(f"{status}.startsWith('Worn')", "the mask of a view that the kernel sets")
    drive.expect("the mask of a view is worn otherwise than by hand", drive.bars(2) == moved)
    drive.button("As stored")
    drive.until(f"{status}.startsWith('As stored')", "the stored mask again")
    took = drive.ask("document.querySelector('.fcx-explorer').explorer.took")
    half, most = np.quantile(took, [0.5, 0.95])
    print(f"explorer, lab: a moved mask follows within {half:.0f} ms, 95 % of {len(took)} within {most:.0f} ms")


def keys(drive: Driver) -> None:
    """Type what JupyterLab takes for commands: no cell may come, go or change."""
    count = "document.querySelectorAll('.jp-Notebook .jp-Cell').length"
    before = drive.ask(count)
    for selector in (".fx-strip", ".fcx-explorer [name=opacity]", ".fcx-explorer [name=target]", ".fx-plane",
                     ".fcx-explorer button"):  # fmt: skip
        drive.ask(f"document.querySelector({json.dumps(selector)}).focus()")
        for letter in "abdxm":
            drive.press(letter, letter)
    time.sleep(0.3)
    drive.expect(f"keys reached the notebook: {drive.ask(count)} cells, were {before}", drive.ask(count) == before)


@contextlib.contextmanager
def lab(folder: Path):
    """Start JupyterLab on a folder, with no settings but its own, and yield its address."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: folder / name for name in ("config", "data", "runtime", "settings", "workspaces")}
    news = own["settings"] / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(own["config"]), "JUPYTER_DATA_DIR": str(own["data"]),
        "JUPYTER_RUNTIME_DIR": str(own["runtime"]), "JUPYTERLAB_SETTINGS_DIR": str(own["settings"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(own["workspaces"]), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ip=127.0.0.1", "--allow-root",
        "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly", "--LabApp.news_url=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with (folder / "lab.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
            for _ in range(PATIENCE * 5):
                with contextlib.suppress(OSError), ask(f"{address}/api", timeout=5):
                    break
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def main(arguments: list[str] | None = None) -> int:
    """Check the explorer in both of its homes and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--screenshots", type=Path, help="also write what is seen as pictures into this folder")
    parser.add_argument("--only", choices=["page", "lab"], help="one of the two")
    given = parser.parse_args(arguments)
    if missing := [name for name in ("websocket", "jupyterlab", "anywidget") if importlib.util.find_spec(name) is None]:
        print(f"the package {missing[0]} is missing: pip install -e '.[dev,explore]'", file=sys.stderr)
        return 2
    if not (program := find_browser()):
        print("no Chromium found: install chromium or chrome, or name it in CHROMIUM", file=sys.stderr)
        return 2
    import fcx
    from fcx.reporting.notebook_inputs import stored_results

    failed = 0
    with tempfile.TemporaryDirectory(prefix="check-explorer-") as name, warnings.catch_warnings(action="ignore"):
        folder = Path(name)
        faces = fcx.prepare("demo", folder / "faces.zarr", limit=FACES, progress=False).load()
        from fcx.figures.panels import choose_faces

        faces = faces.sel(sample=choose_faces(faces, FACES))
        results = stored_results(",".join(MODELS), faces, METHOD, str(folder / "runs"))
        explorer = fcx.explore(faces, results)
        for home, check in (("page", check_page), ("lab", check_lab)):
            if given.only in (None, home):
                try:
                    wrong = check(program, explorer, folder, given.screenshots)
                except RuntimeError as error:
                    wrong = [str(error).splitlines()[0]]
                failed += bool(wrong)
                print(f"explorer, {home}: {'; '.join(wrong) or 'all is well'}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
