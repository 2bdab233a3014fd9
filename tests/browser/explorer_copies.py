"""What the explorer puts into the clipboard: numbers, a line of Python and a picture, compared with the library."""

from __future__ import annotations

import base64
import json
import warnings

import cv2
import numpy as np


def copied(drive, button: str, kind: str = "text/plain"):
    """Press a button and return what the clipboard then holds: text, or a picture as an array (y, x, channel)."""
    drive.ask("navigator.clipboard.writeText('nothing')")
    drive.ask("document.querySelector('.fx-copy + .fx-status').textContent = ''")
    drive.button(button)
    drive.until("/can be pasted now/.test(document.querySelector('.fx-copy + .fx-status').textContent)", button, 10)
    text = drive.ask(CLIPBOARD.format(kind=kind))
    if kind == "text/plain":
        return text
    return cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR).astype(int)


CLIPBOARD = """(async () => {{
  const [item] = await navigator.clipboard.read(), blob = await item.getType('{kind}');
  if (blob.type.startsWith('text')) return blob.text();
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join('')); }})()"""


def copies(drive, pack, call: str, at: dict, points: list) -> None:
    """Take the view away in its three forms, and read them back; then once more where the browser refuses.

    `at` says which face, method and target are shown, `points` which region is drawn.
    """
    import fcx

    name = at["sample"]
    data, line = json.loads(copied(drive, "Copy data")), copied(drive, "Copy Python")
    drive.expect(
        f"the data are of {data['face']}", [data[each] for each in ("face", "method", "target")] == [*at.values()]
    )
    for row in data["regions"]:
        for quantity, regions in ((quantity, row[quantity]) for quantity in pack.statistics if quantity in row):
            one = at | {"model": row["network"], "condition": row["condition"]}
            shown = [regions[region]["face"] for region in pack.regions]
            known = pack.statistics[quantity].sel(one | {"region": pack.regions}).values
            same = np.allclose(
                np.array(shown, float), np.where(np.isfinite(known), known, np.nan), 1e-5, equal_nan=True
            )
            drive.expect(f"the data, {row['network']}, {row['condition']}: {quantity} is not that of the library", same)
    for row in data["predictions"]:
        one = {"model": row["network"], "condition": row["condition"], "sample": name, "target": pack.targets}
        known = pack.results["prediction"].sel(one).values
        drive.expect("the data's predictions are not the library's",
                     np.allclose([row[target] for target in pack.targets], known, atol=1e-6))  # fmt: skip
    with warnings.catch_warnings(action="ignore"):
        again = eval(line, {"fcx": fcx, "faces": pack.faces, "data": pack.faces, "results": pack.results})
    drive.expect(f"the line of Python names other things: {line}", line.startswith(f"fcx.explore({call}"))
    drive.expect(f"the line of Python makes another view: {line}",
                 again.view.sample == name and again.view.difference and again.view.region == points)  # fmt: skip
    row = data["regions"][-1]
    one = {**at, "region": "mouth", "model": row["network"], "condition": row["condition"]}
    drive.expect("the line of Python makes other numbers", np.isclose(
        again.pack.statistics["share"].sel(one), row["share"]["mouth"]["face"], atol=1e-6))  # fmt: skip
    # The picture holds the panels as the page shows them, half the size of the canvas, drawn twice as large.
    picture = copied(drive, "Copy picture", "image/png")
    seen = drive.ask("document.querySelector('.fx-panels canvas').toDataURL().split(',')[1]")
    panel = cv2.imdecode(np.frombuffer(base64.b64decode(seen), np.uint8), cv2.IMREAD_COLOR)
    there = picture[2 * 76 : 2 * 376, 2 * 16 : 2 * 316]
    apart = np.abs(there - cv2.resize(panel, there.shape[:2], interpolation=cv2.INTER_LINEAR)).mean()
    drive.expect(f"the copied picture is not the view: off by {apart:.1f} of 255", apart < 3)
    # Where the browser refuses: the picture is saved, the text stands there and is selected.
    drive.ask("""Object.defineProperty(navigator, 'clipboard', {configurable: true, value: undefined});
        document.execCommand = () => false;
        HTMLAnchorElement.prototype.click = function () { window.saved = [this.download, this.href.slice(0, 5)]; };""")
    drive.button("Copy Python")
    drive.until(
        "/is selected/.test(document.querySelector('.fx-copy + .fx-status').textContent)", "a selected line", 10
    )
    drive.expect(
        "refused, the line is not selected",
        drive.ask("""(() => { const area = document.activeElement;
        return area.value.slice(area.selectionStart, area.selectionEnd); })()""")
        == line,
    )
    drive.button("Copy picture")
    drive.until("window.saved?.[0] === 'fcx-explorer.png' && window.saved[1] === 'blob:'", "a saved picture", 10)
    drive.ask("delete navigator.clipboard; delete document.execCommand; delete HTMLAnchorElement.prototype.click")
    copied(drive, "Copy Python")  # and the field is gone again
    drive.expect("the field to copy by hand stays", drive.ask("document.querySelector('.fx-by-hand').hidden"))
