"""One photograph explained in one picture file: the face, its regions, and what each model attributes to them."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fcx.core.checks import choose
from fcx.core.provenance import nested_attr
from fcx.figures.montage import TILE, colour_scale, heat, picture, resize
from fcx.figures.panels import paint_regions
from fcx.figures.theme import INK
from fcx.figures.wording import method_title, plain_name

SPACE, HEAD, FOOT, SIDE = 8, 78, 26, 78  # pixels


def photograph_panel(faces, results, method: str, index: int = 0) -> Image.Image:
    """Return a picture of one face: rows plain and masked; columns face, regions, and a map for each model and target
    that it has.

    All maps of ratings share one colour scale, as do those of logits, zero-centred where the method is signed; under
    each map stands the model's output.

    Raises: UnknownNameError for a method that the results do not hold.
    """
    choose(method, results["method"].values.tolist(), "method")
    maps = results["attribution"].sel({"method": method}).isel(sample=index).astype("f4")
    maps = maps.transpose("condition", "model", "target", "y", "x").load()
    models, targets, conditions = (maps[name].values.tolist() for name in ("model", "target", "condition"))
    outputs = results["prediction"].isel(sample=index).transpose("condition", "model", "target").values
    has = np.isfinite(outputs).any(0)  # (model, target)
    known, declared = nested_attr(results, "outputs"), nested_attr(results, "methods").get(method, {})
    kinds = [known.get(model, {}).get("kind", "rating") for model in models]
    of_kind = {kind: [kind == each for each in kinds] for kind in dict.fromkeys(kinds)}
    limits = {kind: colour_scale(maps.values[:, of][:, has[of]], declared)[0] for kind, of in of_kind.items()}
    signed = colour_scale(maps.values[:, has], declared)[1]
    columns = 2 + int(has.sum())
    step, drop = TILE + SPACE, TILE + FOOT
    sheet = Image.new("RGB", (SIDE + columns * step + SPACE, HEAD + len(conditions) * drop + 30), "white")
    pen = ImageDraw.Draw(sheet)

    def write(word: str, x: float, y: float, size: int = 14) -> None:
        pen.text((x, y), word, INK, ImageFont.load_default(size), anchor="mm")

    shown = [targets[t] for _, t in np.argwhere(has)]
    for column, word in enumerate(["face", "regions", *shown]):
        write(word, SIDE + column * step + TILE / 2, HEAD - 12)
    ends = 2 + np.cumsum([0, *has.sum(1)])
    for number, model in enumerate(models):
        middle = SIDE + (ends[number] + ends[number + 1]) / 2 * step - SPACE / 2
        write(plain_name(model), middle, HEAD - 34, size=16)
    for row, condition in enumerate(conditions):
        top, tile = HEAD + row * drop, picture(faces, condition, index)
        write(condition, SIDE / 2, top + TILE / 2)
        tiles = [tile, paint_regions(tile, faces["regions"].isel(sample=index).values)]
        tiles += [heat(tile, maps.values[row, m, t], limits[kinds[m]], signed) for m, t in np.argwhere(has)]
        for column, pixels in enumerate(tiles):
            sheet.paste(Image.fromarray(resize(pixels)), (SIDE + column * step, top))
        for column, value in enumerate(outputs[row][has], start=2):
            write(f"{value:+.2f}", SIDE + column * step + TILE / 2, top + TILE + FOOT / 2)
    scale = "red raises the output, blue lowers it" if signed else "the darker, the more"
    title = method_title(method, results)
    full = ", ".join(f"{limit:.2g}" + f" for {kind}s" * (len(limits) > 1) for kind, limit in limits.items())
    words = f"{title}: {scale}; one scale for all maps, full at {full}; under each map the output"
    write(words, sheet.width / 2, sheet.height - 15, size=16)
    write("where a network that reads facial expressions looks", sheet.width / 2, 18, size=16)
    return sheet
