"""One photograph explained in one picture file: the face, its regions, and what each model attributes to them."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from fcx.core.checks import choose
from fcx.core.provenance import nested_attr
from fcx.figures.montage import TILE, colour_scale, heat, picture, resize
from fcx.figures.panels import paint_regions
from fcx.figures.theme import INK
from fcx.figures.wording import method_title, plain_name

SPACE, HEAD, FOOT, SIDE = 8, 78, 26, 78  # pixels


def photograph_panel(faces, results, method: str, index: int = 0) -> Image.Image:
    """Return a picture of one face: rows plain and masked; columns face, regions, and a map for each model and target.

    All maps share one colour scale, zero-centred where the method is signed; under each map stands
    the model's output.

    Raises: UnknownNameError for a method that the results do not hold.
    """
    choose(method, results["method"].values.tolist(), "method")
    maps = results["attribution"].sel({"method": method}).isel(sample=index).astype("f4")
    maps = maps.transpose("condition", "model", "target", "y", "x").load()
    limit, signed = colour_scale(maps.values, nested_attr(results, "methods").get(method, {}))
    models, targets, conditions = (maps[name].values.tolist() for name in ("model", "target", "condition"))
    columns = 2 + len(models) * len(targets)
    step, drop = TILE + SPACE, TILE + FOOT
    sheet = Image.new("RGB", (SIDE + columns * step + SPACE, HEAD + len(conditions) * drop + 30), "white")
    pen = ImageDraw.Draw(sheet)

    def write(word: str, x: float, y: float, size: int = 14) -> None:
        pen.text((x, y), word, INK, ImageFont.load_default(size), anchor="mm")

    for column, word in enumerate(["face", "regions", *targets * len(models)]):
        write(word, SIDE + column * step + TILE / 2, HEAD - 12)
    for number, model in enumerate(models):
        middle = SIDE + (2 + (number + 0.5) * len(targets)) * step - SPACE / 2
        write(plain_name(model), middle, HEAD - 34, size=16)
    for row, condition in enumerate(conditions):
        top, tile = HEAD + row * drop, picture(faces, condition, index)
        write(condition, SIDE / 2, top + TILE / 2)
        tiles = [tile, paint_regions(tile, faces["regions"].isel(sample=index).values)]
        tiles += [heat(tile, one.values, limit, signed) for of in maps[row] for one in of]
        for column, pixels in enumerate(tiles):
            sheet.paste(Image.fromarray(resize(pixels)), (SIDE + column * step, top))
        output = results["prediction"].sel(condition=condition).isel(sample=index).transpose("model", "target").values
        for column, value in enumerate(output.ravel(), start=2):
            write(f"{value:+.2f}", SIDE + column * step + TILE / 2, top + TILE + FOOT / 2)
    scale = "red raises the output, blue lowers it" if signed else "the darker, the more"
    title = method_title(method, results)
    words = f"{title}: {scale}; one scale for all maps, full at {limit:.2g}; under each map the output"
    write(words, sheet.width / 2, sheet.height - 15, size=16)
    write("where a network that reads facial expressions looks", sheet.width / 2, 18, size=16)
    return sheet
